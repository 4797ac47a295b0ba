"""Densities and moments of rows on a device, chunk by chunk.

The twins of `Joint` and of `Moments`: those decide what goes by products and what by
differences, these compute it, in the shapes of `_device_shapes`. Nothing here waits for
the device.
"""

import numpy as np

from skgen.mixture._device_shapes import on_device, product

# Rows in a block of a chunk: what one matrix product adds up.
BLOCK_ROWS = 2**11

# Bytes of features, shares and differences in a chunk.
_CHUNK_BYTES = 2**29


class DeviceJoint:
    """Compute the log-densities of a chunk of rows together with each component.

    Parameters
    ----------
    joint : Joint
        Which components go by products, and their coefficients.
    place : Place
        Where, and in what arithmetic.
    """

    def __init__(self, joint, place):
        parameters, covariance = joint.parameters, joint.covariance
        self.K, self.apart = parameters.weights.size, joint.apart.tolist()
        self.products, self.shape = joint.products, on_device(covariance)
        self.shift = place.tensor(joint.shift)[:, None] if joint.shift.any() else None
        self.factors = place.tensor(parameters.factors)
        self.means = place.tensor(parameters.means)[:, :, None]  # (K, d, 1)
        self.constants = constants_of(joint).tolist()
        # What rounding of the means leaves out, in units of each component.
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
        """Return log-densities (s, K, c) of a chunk (s, d, c) of features (s, p, c)."""
        if not self.apart:
            return product(self.coefficients, F)
        joint = X.new_empty(X.shape[0], self.K, X.shape[2])
        if len(self.apart) < self.K:
            joint.index_copy_(1, self.near, product(self.coefficients, F))
        for k in self.apart:
            joint[:, k] = self._by_differences(X, k)
        return joint

    def _by_differences(self, X, k):
        """Return the log-densities (s, c) together with one component."""
        import torch

        y = self.shape.standardise(X - self.means[k], self.factors, k)  # (s, d, c)
        if self.missing is not None:
            y -= self.missing[k, :, None]
        squared = y.square_().sum(dim=1)
        # So far away that squares overflow, all components are alike.
        squared.clamp_(max=torch.finfo(squared.dtype).max)
        return squared.mul_(-0.5).add_(self.constants[k])


class DeviceMoments:
    """Sums of weighted moments of chunks of rows, by products or by differences.

    Parameters
    ----------
    moments : Moments
        What is summed about which points.
    place : Place
        Where, and in what arithmetic.
    """

    def __init__(self, moments, place):
        self.place, self.apart = place, moments.apart.tolist()
        self.shape, self.any_near = on_device(moments.covariance), moments.near.size > 0
        self.near = place.indices(moments.near) if self.apart else None
        self.origins = place.tensor(moments.origins)[:, :, None]  # (K, d, 1)
        self.sums = [place.wide(array) for array in moments.zeros()]

    def add(self, X, F, r):
        """Add a chunk (s, d, c) of features (s, p, c) and weighted shares (s, K, c)."""
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
        """Return the sums, as NumPy's arrays, with features in NumPy's order."""
        if not self.any_near:
            return sums
        counts, first, scatter, given, *rest = sums
        features = np.empty_like(given)  # (p, m)
        features[self.shape.order(first.shape[1])] = given
        return [counts, first, scatter, features, *rest]


def constants_of(joint):
    """Return the log-densities of components at their own means: (K,)."""
    parameters = joint.parameters
    K, d = parameters.means.shape
    with np.errstate(divide="ignore"):  # a weight of 0 has the logarithm -inf
        constants = np.log(parameters.weights) - 0.5 * d * np.log(2 * np.pi)
    return constants + joint.covariance.log_det(parameters.factors, K, d)


def _missing(joint, place):
    """Return what rounding takes from means, in units of the components: (K, d)."""
    means, factors = joint.parameters.means, joint.parameters.factors
    rest, standardise = means - place.rounded(means), joint.covariance.standardise
    return np.stack([standardise(row, factors, k) for k, row in enumerate(rest)])


def normalised(joint):
    """Make shares of log-densities (s, K, c), in place, up to their sum.

    Returns
    -------
    log_density : tensor of shape (s, c)
    total : tensor of shape (s, 1, c)
        What `joint`, now relative to the largest of each row, adds up to.
    """
    top = joint.amax(dim=1, keepdim=True)
    total = joint.sub_(top).exp_().sum(dim=1, keepdim=True)
    return (top + total.log())[:, 0], total


def blocks_in_chunk(d, K, products, c, itemsize):
    """Return how many blocks of `c` rows make a chunk."""
    p = 0 if products is None else products.n_features(d)
    return max(1, _CHUNK_BYTES // (itemsize * c * (p + 3 * (K + d))))
