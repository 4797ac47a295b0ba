"""Joint log-density of rows and components, block by block."""

from dataclasses import dataclass

import numpy as np

from skgen._threads import in_parallel
from skgen.mixture._products import pays, products_of

# Size of a block of rows: bytes of its features and responsibilities, to stay in the
# cache, and its minimum and maximum number of rows. Smaller blocks slow the matrix
# products down, larger ones gain nothing.
_BLOCK_BYTES, _LEAST_ROWS, _MOST_ROWS = 2**21, 256, 4096

# Maximum number of tasks for threads, and minimum number of rows in a task, which needs
# enough rows to gather the few that belong to a component (`_moments`).
_TASKS, _LEAST_TASK = 32, 1024

# Minimum work, rows times components times features, for which threads are started.
_WORK_FOR_THREADS = 2e7

# Outside these limits, products of two coordinates underflow or overflow in float64.
_LEAST_SPREAD, MOST_SPREAD = 1e-70, 1e70

# Maximum rounding error of products in scoring, as a multiple of machine epsilon. About
# 1e-12 of a log-density, whatever the other rows of its block.
ANSWER_LOSS = 1e4


@dataclass(frozen=True)
class Parameters:
    """A mixture: `K` components in `d` dimensions."""

    weights: np.ndarray  # (K,)
    means: np.ndarray  # (K, d)
    covariances: np.ndarray  # shape depends on the type
    factors: np.ndarray  # shape depends on the type; U with U U^T the precision


class Blocks:
    """Split n rows into blocks and tasks, in the same way for any number of threads."""

    def __init__(self, n, d, K, products):
        self.n, self.d, self.products = n, d, products
        n_features = 0 if products is None else products.n_features(d)
        columns = n_features + 2 * (K + d)
        most = min(max(_LEAST_ROWS, _BLOCK_BYTES // (8 * columns)), _MOST_ROWS)
        self.size = min(most, n)
        blocks = -(-n // self.size)
        self._task = self.size * max(-(-blocks // _TASKS), -(-_LEAST_TASK // self.size))
        self._worth_it = n * K * (max(n_features, d * d) + 32) > _WORK_FOR_THREADS

    def buffer(self):
        """Return an array for the features of a block, or None without products."""
        return None if self.products is None else self.products.room(self.d, self.size)

    def __call__(self, function):
        """Map a function over tasks, which are lists of slices, in threads."""
        tasks = [
            [
                slice(start, min(start + self.size, self.n))
                for start in range(first, min(first + self._task, self.n), self.size)
            ]
            for first in range(0, self.n, self._task)
        ]
        return in_parallel(function, tasks, worth_it=self._worth_it)


class Joint:
    r"""Compute :math:`\log \pi_k + \log \mathcal{N}(x; \mu_k, \Sigma_k)` of blocks.

    `shift` (d,) is the point that the features are about, `most` the maximum rounding
    error of products as a multiple of machine epsilon.
    """

    # Matrix products with the features serve the components in `near`. The components
    # in `apart`, which are narrow or far from `shift`, would lose too many digits
    # (`_products`): their densities are computed from differences to the mean.

    def __init__(self, parameters, covariance, products, shift, most):
        self.parameters, self.covariance = parameters, covariance
        self.products, self.shift = products, shift
        K = parameters.weights.size
        near = np.zeros(K, dtype=bool)
        if products is not None:
            near = losses(parameters, covariance, products, shift) <= most
            near &= parameters.weights > 0  # BLAS may compute log(0) * 0
        self.near, self.apart = np.flatnonzero(near), np.flatnonzero(~near)
        if self.near.size:
            with np.errstate(all="ignore"):  # the components in `apart`
                self.coefficients = products.coefficients(
                    parameters.means - shift, parameters.factors, covariance
                )[self.near]
            self.coefficients[:, 0] += np.log(parameters.weights[self.near])

    def features(self, X, buffer):
        """Return the features (p, b) of a block of rows (b, d), in `buffer`."""
        return self.products.features(X, self.shift, self.parameters.factors, buffer)

    def __call__(self, X, F):
        """Return joint log-densities (K, b) of rows (b, d) with features F (p, b)."""
        if not self.apart.size:
            return self.coefficients @ F
        joint = np.empty((self.parameters.weights.size, X.shape[0]))
        if self.near.size:
            joint[self.near] = self.coefficients @ F
        joint[self.apart] = joint_by_differences(
            X, self.parameters, self.covariance, self.apart
        )
        return joint


def losses(parameters, covariance, products, shift):
    r"""Return the rounding errors of products as multiples of machine epsilon: (K,).

    They are :math:`t^\top |\Lambda| t` (see `_products`), or infinite if products of
    coordinates overflow or underflow.
    """
    K, d = parameters.means.shape
    variances = products.variances(parameters.covariances, K, d)
    with np.errstate(all="ignore"):
        spread = np.hypot(parameters.means - shift, np.sqrt(variances))  # (K, d)
        precisions = covariance.precisions(parameters.factors)
        lost = products.magnitudes(precisions, spread)
    outside = (spread < _LEAST_SPREAD) | ~(spread < MOST_SPREAD)
    return np.where(outside.any(axis=1) | np.isnan(lost), np.inf, lost)


def joint_by_differences(X, parameters, covariance, components):
    """Return joint log-densities of rows (b, d) and the given components: (m, b)."""
    K, d = parameters.means.shape
    joint = np.empty((len(components), X.shape[0]))
    for row, k in zip(joint, components, strict=True):
        y = covariance.standardise(X - parameters.means[k], parameters.factors, k)
        with np.errstate(over="ignore"):
            np.einsum("ij,ij->i", y, y, out=row)  # (b,)
    # Where squares overflow, all components are equally likely.
    np.minimum(joint, np.finfo(np.float64).max, out=joint)
    joint *= -0.5
    constants = _log(parameters.weights) + covariance.log_det(parameters.factors, K, d)
    joint += (constants[components] - 0.5 * d * np.log(2 * np.pi))[:, None]
    return joint


def normalise(joint):
    """Exponentiate joint log-densities (K, b) in place, relative to the maximum.

    Returns log-densities (b,) and sums (b,); `joint` / sums are the responsibilities.
    """
    top = joint.max(axis=0)
    joint -= top
    np.exp(joint, out=joint)
    total = joint.sum(axis=0)
    return top + np.log(total), total


def shares(joint):
    """Return responsibilities (b, K) from joint log-densities (K, b), overwritten."""
    joint /= normalise(joint)[1]
    return joint.T


def log_densities(joint):
    """Return log-densities (b,) from joint log-densities (K, b), overwritten."""
    return normalise(joint)[0]


def strongest(joint):
    """Return the component of highest log-density (b,), from log-densities (K, b)."""
    return joint.argmax(axis=0)


def joint_of_answers(parameters, covariance):
    """Return the `Joint` for rows in the units of the data."""
    products = products_of(covariance)
    products = products if pays(products, parameters.means.shape[1]) else None
    shift = parameters.weights @ parameters.means
    return Joint(parameters, covariance, products, shift, ANSWER_LOSS)


def answers(X, parameters, covariance, function, out):
    """Return `out` (n, ...), filled with a function of the rows (n, d).

    `function` maps joint log-densities (K, b), which it may overwrite, to (b, ...).
    """
    (n, d), K = X.shape, parameters.weights.size
    joint = joint_of_answers(parameters, covariance)
    products = joint.products if joint.near.size else None
    blocks = Blocks(n, d, K, products)

    def answer(task):
        buffer = blocks.buffer()
        for rows in task:
            with np.errstate(over="ignore", invalid="ignore"):
                F = products and joint.features(X[rows], buffer)
                values = joint(X[rows], F)  # (K, b)
                far = ~np.isfinite(values.max(axis=0))
            if far.any():  # rows whose products overflow
                values[:, far] = joint_by_differences(
                    X[rows][far], parameters, covariance, range(K)
                )
            out[rows] = function(values)

    blocks(answer)
    return out


def _log(weights):
    with np.errstate(divide="ignore"):  # log(0) = -inf
        return np.log(weights)
