"""The density of rows together with each component, block by block."""

from dataclasses import dataclass

import numpy as np

from skgen._threads import in_parallel
from skgen.mixture._products import pays, products_of

# Bytes of features and shares in a block of rows, so that it stays in the cache, and
# its least and most rows: fewer starve the matrix products, more gain nothing.
_BLOCK_BYTES, _LEAST_ROWS, _MOST_ROWS = 2**21, 256, 4096

# Blocks in a task of a thread are as many as make this many tasks, of so many rows at
# least: enough to gather the few that a component holds (`_moments`).
_TASKS, _LEAST_TASK = 32, 1024

# Features of rows times components from which on threads are worth their start.
_WORK_FOR_THREADS = 2e7

# Beyond these, products of two coordinates leave the range of float64.
_LEAST_SPREAD, MOST_SPREAD = 1e-70, 1e70

# What products may lose in answers, as a multiple of rounding: 1e-12 of a log-density,
# so that a row's does not depend on the rows beside it.
ANSWER_LOSS = 1e4


@dataclass(frozen=True)
class Parameters:
    """A mixture: `K` components in `d` dimensions."""

    weights: np.ndarray  # (K,)
    means: np.ndarray  # (K, d)
    covariances: np.ndarray  # by type
    factors: np.ndarray  # by type: U with U U^T the precision


class Blocks:
    """How rows are split: the same way for any number of threads.

    Parameters
    ----------
    n, d, K : int
        The numbers of rows, features and components.
    products : AbstractProducts or None
        What is computed for a block.
    """

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
        """Return room for the features of a block, if there are any."""
        return None if self.products is None else self.products.room(self.d, self.size)

    def __call__(self, function):
        """Apply a function to lists of slices, in threads; return its answers."""
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

    A component that is wide enough, and near enough to the point that the features
    are about, goes by products with them; one for which that would lose digits, by
    differences and its factor. The parameters alone decide (`_products`).

    Parameters
    ----------
    parameters : Parameters
        The mixture.
    covariance : AbstractCovariance
        The shape of its covariances.
    products : AbstractProducts or None
        None sends all components by differences.
    shift : ndarray of shape (d,)
        The point that the features are about.
    most : float
        What products may lose, as a multiple of rounding.
    """

    def __init__(self, parameters, covariance, products, shift, most):
        self.parameters, self.covariance = parameters, covariance
        self.products, self.shift = products, shift
        K = parameters.weights.size
        near = np.zeros(K, dtype=bool)
        if products is not None:
            near = losses(parameters, covariance, products, shift) <= most
            near &= parameters.weights > 0  # BLAS may multiply log 0 by 0
        self.near, self.apart = np.flatnonzero(near), np.flatnonzero(~near)
        if self.near.size:
            with np.errstate(all="ignore"):  # of components that go apart
                self.coefficients = products.coefficients(
                    parameters.means - shift, parameters.factors, covariance
                )[self.near]
            self.coefficients[:, 0] += np.log(parameters.weights[self.near])

    def features(self, X, buffer):
        """Return the features (p, b) of a block of rows (b, d), in a buffer."""
        return self.products.features(X, self.shift, self.parameters.factors, buffer)

    def __call__(self, X, F):
        """Return the log-densities (K, b) of rows (b, d) with features F (p, b)."""
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
    r"""Return what products lose of each component, over rounding: (K,).

    That is :math:`t^\top |\Lambda| t`, explained in `_products`; infinite where
    products of coordinates leave the range of numbers.
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
    """Return the log-densities of rows (b, d) with some components: (m, b)."""
    K, d = parameters.means.shape
    joint = np.empty((len(components), X.shape[0]))
    for row, k in zip(joint, components, strict=True):
        y = covariance.standardise(X - parameters.means[k], parameters.factors, k)
        with np.errstate(over="ignore"):
            np.einsum("ij,ij->i", y, y, out=row)  # (b,)
    # So far away that squares overflow, all components are alike.
    np.minimum(joint, np.finfo(np.float64).max, out=joint)
    joint *= -0.5
    constants = _log(parameters.weights) + covariance.log_det(parameters.factors, K, d)
    joint += (constants[components] - 0.5 * d * np.log(2 * np.pi))[:, None]
    return joint


def normalise(joint):
    """Make shares of log-densities (K, b), in place; return their sums' logarithms.

    Returns
    -------
    log_density : ndarray of shape (b,)
    total : ndarray of shape (b,)
        What `joint`, now relative to its largest in each column, adds up to.
    """
    top = joint.max(axis=0)
    joint -= top
    np.exp(joint, out=joint)
    total = joint.sum(axis=0)
    return top + np.log(total), total


def shares(joint):
    """Return the shares (b, K) of log-densities (K, b), which it overwrites."""
    joint /= normalise(joint)[1]
    return joint.T


def log_densities(joint):
    """Return the log-densities (b,) of log-densities (K, b), which it overwrites."""
    return normalise(joint)[0]


def strongest(joint):
    """Return the largest (b,) of log-densities (K, b)."""
    return joint.argmax(axis=0)


def joint_of_answers(parameters, covariance):
    """Return what computes log-densities of rows in the units of the data."""
    products = products_of(covariance)
    products = products if pays(products, parameters.means.shape[1]) else None
    shift = parameters.weights @ parameters.means
    return Joint(parameters, covariance, products, shift, ANSWER_LOSS)


def answers(X, parameters, covariance, function, out):
    """Fill in an answer for every row, whatever the rows beside it.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        The rows.
    parameters : Parameters
        The mixture.
    covariance : AbstractCovariance
        The shape of its covariances.
    function : callable
        Maps log-densities (K, b), which it may overwrite, to answers (b, ...).
    out : ndarray of shape (n, ...)
        The answers.
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
            if far.any():  # so far away that products overflow
                values[:, far] = joint_by_differences(
                    X[rows][far], parameters, covariance, range(K)
                )
            out[rows] = function(values)

    blocks(answer)
    return out


def _log(weights):
    with np.errstate(divide="ignore"):  # a weight of 0 has the logarithm -inf
        return np.log(weights)
