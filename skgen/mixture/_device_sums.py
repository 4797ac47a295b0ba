"""Densities and moments of rows on a device, chunk by chunk.

`Joint` and `Moments` decide which components use products or differences; their
counterparts here compute them, in the shapes of `_device_shapes`. Nothing here
synchronises with the device.
"""

import numpy as np

from skgen._lazy import lazy_module
from skgen.mixture._device_shapes import on_device, product

torch = lazy_module("torch", "The 'device' parameter")

# Number of rows in a block of a chunk, over which one matrix product sums.
BLOCK_ROWS = 2**11

# Bytes of features, responsibilities and differences in a chunk.
_CHUNK_BYTES = 2**29


class DeviceJoint:
    """Joint log-densities of chunks of rows and components, as `Joint` has them."""

    def __init__(self, joint, place):
        parameters, covariance = joint.parameters, joint.covariance
        self.K, self.apart = parameters.weights.size, joint.apart.tolist()
        self.products, self.shape = joint.products, on_device(covariance)
        self.shift = place.tensor(joint.shift)[:, None] if joint.shift.any() else None
        self.factors = place.tensor(parameters.factors)
        self.means = place.tensor(parameters.means)[:, :, None]  # (K, d, 1)
        self.constants = constants_of(joint).tolist()
        # Rounding errors of the means, in units of each component.
        self.missing = place.tensor(_missing(joint, place)) if place.single else None
        if joint.near.size:
            self.near = place.indices(joint.near)
            order = self.shape.order(parameters.means.shape[1])
            self.coefficients = place.tensor(joint.coefficients[:, order])  # (m, p)

    def features(self, X):
        """Return the features (s, p, c) of a chunk (s, d, c) of rows."""
        s, d, c = X.shape
        F = X.new_empty(s, self.products.n_features(d), c)
        F[:, 0] = 1.0
        F[:, 1 : 1 + d] = X if self.shift is None else X - self.shift
        self.shape.fill(F, d, self.factors)
        return F

    def __call__(self, X, F):
        """Return joint log-densities (s, K, c) of a chunk with its features."""
        if not self.apart:
            return product(self.coefficients, F)
        joint = X.new_empty(X.shape[0], self.K, X.shape[2])
        if len(self.apart) < self.K:
            joint.index_copy_(1, self.near, product(self.coefficients, F))
        for k in self.apart:
            joint[:, k] = self._by_differences(X, k)
        return joint

    def _by_differences(self, X, k):
        """Return the joint log-densities (s, c) of a chunk and one component."""
        y = self.shape.standardise(X - self.means[k], self.factors, k)  # (s, d, c)
        if self.missing is not None:
            y -= self.missing[k, :, None]
        squared = y.square_().sum(dim=1)
        # Where squares overflow, all components are equally likely.
        squared.clamp_(max=torch.finfo(squared.dtype).max)
        return squared.mul_(-0.5).add_(self.constants[k])


class DeviceMoments:
    """Sums of weighted moments of chunks of rows, as `Moments` has them."""

    def __init__(self, moments, place):
        self.place, self.apart = place, moments.apart.tolist()
        self.shape, self.any_near = on_device(moments.covariance), moments.near.size > 0
        self.near = place.indices(moments.near) if self.apart else None
        self.origins = place.tensor(moments.origins)[:, :, None]  # (K, d, 1)
        self.sums = [place.wide(array) for array in moments.zeros()]

    def add(self, X, F, r):
        """Add a chunk with its features and weighted responsibilities (s, K, c)."""
        counts, first, scatter, *products = self.sums
        place = self.place
        if self.any_near:
            near = r if self.near is None else r.index_select(1, self.near)
            self.shape.add_products(products, F, near, X.shape[1], place)
        for k in self.apart:
            difference = X - self.origins[k]
            weighted = difference * r[:, k, None]
            counts[k] += place.total(r[:, k], (0, 1))
            first[k] += place.total(weighted, (0, 2))
            self.shape.add_scatter(scatter, k, weighted, difference, place)

    def ordered(self, sums):
        """Return the sums, a list of arrays, with features in the order of NumPy."""
        if not self.any_near:
            return sums
        counts, first, scatter, given, *rest = sums
        features = np.empty_like(given)  # (p, m)
        features[self.shape.order(first.shape[1])] = given
        return [counts, first, scatter, features, *rest]


def constants_of(joint):
    """Return the joint log-densities of the components at their means: (K,)."""
    parameters = joint.parameters
    K, d = parameters.means.shape
    with np.errstate(divide="ignore"):  # log(0) = -inf
        constants = np.log(parameters.weights) - 0.5 * d * np.log(2 * np.pi)
    return constants + joint.covariance.log_det(parameters.factors, K, d)


def _missing(joint, place):
    """Return the rounding errors of the means in units of the components: (K, d)."""
    means, factors = joint.parameters.means, joint.parameters.factors
    rest, standardise = means - place.rounded(means), joint.covariance.standardise
    return np.stack([standardise(row, factors, k) for k, row in enumerate(rest)])


def normalised(joint):
    """Exponentiate joint log-densities (s, K, c) in place, relative to the maximum.

    Returns log-densities (s, c) and sums (s, 1, c), as `normalise` does.
    """
    top = joint.amax(dim=1, keepdim=True)
    total = joint.sub_(top).exp_().sum(dim=1, keepdim=True)
    return (top + total.log())[:, 0], total


def blocks_in_chunk(d, K, products, c, itemsize):
    """Return the number of blocks of `c` rows in a chunk."""
    p = 0 if products is None else products.n_features(d)
    return max(1, _CHUNK_BYTES // (itemsize * c * (p + 3 * (K + d))))
