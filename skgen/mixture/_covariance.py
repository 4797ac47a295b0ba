r"""The four covariance types of EM, one small class each.

Shapes: `K` components, `d` features, `n` rows. The precision of a component is
:math:`\Lambda = U U^\top`. The factor `U` is upper triangular (full, tied) or an
inverse standard deviation (diag, spherical), as in scikit-learn.
"""

from abc import ABC, abstractmethod

import numpy as np
from scipy.linalg import solve_triangular

# Minimum variance of a component, as a fraction of the variance of the data: far above
# the rounding error of repeated rows, far below the variance of any real cluster.
_LEAST_VARIANCE = 1e-24


class AbstractCovariance(ABC):
    """A covariance type, as scoring and sampling use it."""

    # The whitening under which the covariance type is invariant.
    whitening: str

    @abstractmethod
    def n_parameters(self, covariances):
        """Return the number of free parameters of the covariances."""

    @abstractmethod
    def log_det(self, factors, K, d):
        """Return ``log |U_k|``, half the log-determinants of the precisions: (K,)."""

    @abstractmethod
    def standardise(self, diff, factors, k):
        """Return ``diff @ U_k`` for differences (n, d) from the mean."""

    @abstractmethod
    def colour(self, noise, factors, k):
        """Return ``noise @ U_k^-1``, the inverse of `standardise`."""

    @abstractmethod
    def factors(self, covariances):
        """Return the factors `U` of all components."""

    @abstractmethod
    def precisions(self, factors):
        """Return ``U U^T`` of all components."""

    @abstractmethod
    def widened(self, covariances, varying):
        """Return covariances of all d coordinates, with variance one for constant ones.

        `varying` (d,) marks the coordinates of the given covariances.
        """

    @abstractmethod
    def least_variances(self, covariances):
        """Return the minimum variance of each component in any direction: (K,)."""

    @abstractmethod
    def to_data(self, covariances, whitening):
        """Return covariances and factors `U` in the units of the data."""


class AbstractEstimatedCovariance(AbstractCovariance):
    """A covariance type that EM can estimate from moments."""

    @abstractmethod
    def shape(self, K, d):
        """Return the shape of the array of all covariances."""

    @abstractmethod
    def unit(self, K, d):
        """Return the covariances of all whitened rows together, for K components."""

    @abstractmethod
    def empty_scatter(self, K, d):
        """Return an array of zeros for the sums of second moments."""

    @abstractmethod
    def add_scatter(self, scatter, k, r, diff):
        """Add second moments of differences (n, d) with weights r (n,), in place."""

    @abstractmethod
    def scatter(self, covariances, counts, d):
        """Return the second moments about the means of `counts` rows (K,)."""

    @abstractmethod
    def from_scatter(self, scatter, counts, shift, previous, floor, degenerate):
        """Return the covariances, and which of them were raised to the floor (K,).

        `shift` (K, d) are the means relative to the origins of the moments. Empty
        components keep their `previous` covariance.
        """

    @abstractmethod
    def averaged(self, covariances, k, weights):
        """Return the covariances, with the weighted mean of all for component `k`."""

    @abstractmethod
    def factors_of_precisions(self, precisions):
        """Return factors `U` of precisions; LinAlgError if not positive definite."""

    @abstractmethod
    def to_white(self, factors, whitening):
        """Return whitened covariances from factors `U` in the units of the data."""


class Full(AbstractEstimatedCovariance):
    """One covariance per component: (K, d, d)."""

    whitening = "full"

    def shape(self, K, d):
        return (K, d, d)

    def unit(self, K, d):
        return np.tile(np.eye(d), (K, 1, 1))

    def n_parameters(self, covariances):
        K, d, _ = covariances.shape
        return K * d * (d + 1) // 2

    def log_det(self, factors, K, d):
        return np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)

    def standardise(self, diff, factors, k):
        return diff @ factors[k]

    def colour(self, noise, factors, k):
        return solve_triangular(factors[k], noise.T, trans="T").T

    def empty_scatter(self, K, d):
        return np.zeros((K, d, d))

    def add_scatter(self, scatter, k, r, diff):
        weighted = diff * np.sqrt(r)[:, None]
        scatter[k] += weighted.T @ weighted  # BLAS computes one triangle

    def scatter(self, covariances, counts, d):
        return counts[:, None, None] * covariances

    def from_scatter(self, scatter, counts, shift, previous, floor, degenerate):
        covariances = previous.copy()  # (K, d, d)
        at_floor = np.zeros(counts.size, dtype=bool)
        for k in np.flatnonzero(counts > 0):
            moment = scatter[k] / counts[k] - np.outer(shift[k], shift[k])
            covariances[k], at_floor[k] = floored(moment, floor, degenerate)
        return covariances, at_floor

    def averaged(self, covariances, k, weights):
        return _with_average(covariances, k, weights)

    def factors(self, covariances):
        return np.stack([_dense_factor(matrix) for matrix in covariances])

    def precisions(self, factors):
        return factors @ factors.transpose(0, 2, 1)

    def widened(self, covariances, varying):
        return _widened(covariances, varying)

    def least_variances(self, covariances):
        return np.linalg.eigvalsh(covariances)[:, 0]

    def factors_of_precisions(self, precisions):
        return _symmetric_root(precisions)

    def to_data(self, covariances, whitening):
        pairs = [_dense_to_data(matrix, whitening) for matrix in covariances]
        return np.stack([pair[0] for pair in pairs]), np.stack([p[1] for p in pairs])

    def to_white(self, factors, whitening):
        return np.stack([_dense_to_white(factor, whitening) for factor in factors])


class Tied(AbstractEstimatedCovariance):
    """One covariance for all components: (d, d)."""

    whitening = "full"

    def shape(self, K, d):
        return (d, d)

    def unit(self, K, d):
        return np.eye(d)

    def n_parameters(self, covariances):
        d = covariances.shape[0]
        return d * (d + 1) // 2

    def log_det(self, factors, K, d):
        return np.full(K, np.log(np.diagonal(factors)).sum())

    def standardise(self, diff, factors, k):
        return diff @ factors

    def colour(self, noise, factors, k):
        return solve_triangular(factors, noise.T, trans="T").T

    def empty_scatter(self, K, d):
        return np.zeros((d, d))

    def add_scatter(self, scatter, k, r, diff):
        scatter += (diff * r[:, None]).T @ diff

    def scatter(self, covariances, counts, d):
        return counts.sum() * covariances

    def from_scatter(self, scatter, counts, shift, previous, floor, degenerate):
        moved = (shift * counts[:, None]).T @ shift  # (d, d)
        moment = (scatter - moved) / counts.sum()
        covariance, at_floor = floored(moment, floor, degenerate)
        return covariance, np.full(counts.size, at_floor)

    def averaged(self, covariances, k, weights):
        return covariances

    def factors(self, covariances):
        return _dense_factor(covariances)

    def precisions(self, factors):
        return factors @ factors.T

    def widened(self, covariances, varying):
        return _widened(covariances, varying)

    def least_variances(self, covariances):
        return np.linalg.eigvalsh(covariances)[:1]

    def factors_of_precisions(self, precisions):
        return _symmetric_root(precisions)

    def to_data(self, covariances, whitening):
        return _dense_to_data(covariances, whitening)

    def to_white(self, factors, whitening):
        return _dense_to_white(factors, whitening)


class AbstractVariances(AbstractEstimatedCovariance):
    """Variances, whose factors `U` are inverse standard deviations."""

    def n_parameters(self, covariances):
        return covariances.size

    def standardise(self, diff, factors, k):
        return diff * factors[k]

    def colour(self, noise, factors, k):
        return noise / factors[k]

    def averaged(self, covariances, k, weights):
        return _with_average(covariances, k, weights)

    def factors(self, covariances):
        return 1.0 / np.sqrt(covariances)

    def precisions(self, factors):
        return factors**2

    def factors_of_precisions(self, precisions):
        if not (precisions > 0).all():
            raise np.linalg.LinAlgError("A precision is not positive.")
        return np.sqrt(precisions)


class Diagonal(AbstractVariances):
    """One variance per component and feature: (K, d)."""

    whitening = "diag"

    def shape(self, K, d):
        return (K, d)

    def unit(self, K, d):
        return np.ones((K, d))

    def log_det(self, factors, K, d):
        return np.log(factors).sum(axis=1)

    def empty_scatter(self, K, d):
        return np.zeros((K, d))

    def add_scatter(self, scatter, k, r, diff):
        scatter[k] += r @ diff**2

    def scatter(self, covariances, counts, d):
        return counts[:, None] * covariances

    def from_scatter(self, scatter, counts, shift, previous, floor, degenerate):
        floor = max(floor, _LEAST_VARIANCE)
        filled = counts > 0
        moments = scatter[filled] / counts[filled, None] - shift[filled] ** 2
        at_floor = np.zeros(counts.size, dtype=bool)
        at_floor[filled] = ((moments < floor) & ~degenerate).any(axis=1)
        variances = previous.copy()  # (K, d)
        variances[filled] = np.where(degenerate, 1.0, np.maximum(moments, floor))
        return variances, at_floor

    def widened(self, covariances, varying):
        variances = np.ones((covariances.shape[0], varying.size))
        variances[:, varying] = covariances
        return variances

    def least_variances(self, covariances):
        return covariances.min(axis=1)

    def to_data(self, covariances, whitening):
        variances = covariances * whitening.scale**2
        return variances, self.factors(variances)

    def to_white(self, factors, whitening):
        variances = (factors * whitening.scale) ** -2.0
        return np.where(whitening.degenerate, 1.0, variances)


class Spherical(AbstractVariances):
    """One variance per component: (K,)."""

    whitening = "spherical"

    def shape(self, K, d):
        return (K,)

    def unit(self, K, d):
        return np.ones(K)

    def log_det(self, factors, K, d):
        return d * np.log(factors)

    def empty_scatter(self, K, d):
        return np.zeros(K)

    def add_scatter(self, scatter, k, r, diff):
        scatter[k] += r @ np.einsum("ij,ij->i", diff, diff)

    def scatter(self, covariances, counts, d):
        return d * counts * covariances

    def from_scatter(self, scatter, counts, shift, previous, floor, degenerate):
        floor = max(floor, _LEAST_VARIANCE)
        filled = counts > 0
        moved = (shift[filled] ** 2).mean(axis=1)
        moments = scatter[filled] / (counts[filled] * shift.shape[1]) - moved
        at_floor = np.zeros(counts.size, dtype=bool)
        at_floor[filled] = moments < floor
        variances = previous.copy()  # (K,)
        variances[filled] = np.maximum(moments, floor)
        return variances, at_floor

    def widened(self, covariances, varying):
        return covariances  # a scalar whitening has no degenerate coordinates

    def least_variances(self, covariances):
        return covariances

    def to_data(self, covariances, whitening):
        variances = covariances * whitening.scale[0] ** 2
        return variances, self.factors(variances)

    def to_white(self, factors, whitening):
        return (factors * whitening.scale[0]) ** -2.0


COVARIANCES = {
    "full": Full(),
    "tied": Tied(),
    "diag": Diagonal(),
    "spherical": Spherical(),
}


def floored(matrix, floor, degenerate):
    """Return a covariance (d, d) with eigenvalues clipped, and whether any changed.

    The variance of `degenerate` directions (d,) is set to one.
    """
    # Clipped eigenvalues maximise the likelihood over covariances above the floor
    # (Ingrassia and Rocci, 2007), so that EM stays monotone. Whitened rows do not vary
    # in degenerate directions, where all models have the same minimum variance.
    d = matrix.shape[0]
    matrix = 0.5 * (matrix + matrix.T)
    matrix[degenerate] = 0.0
    matrix[:, degenerate] = 0.0
    matrix[degenerate, degenerate] = 1.0
    floor = max(floor, _LEAST_VARIANCE)
    try:
        # Cheaper than eigenvalues, and nearly always sufficient.
        np.linalg.cholesky(matrix - floor * np.eye(d))
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(matrix)
        rounding = 4 * d * np.finfo(np.float64).eps * values[-1]
        values = np.maximum(values, max(floor, rounding))
        return (vectors * values) @ vectors.T, True
    return matrix, False


def _widened(covariances, varying):
    """Embed matrices of the `varying` coordinates (d,) in identity matrices (d, d)."""
    wide = np.eye(varying.size) * np.ones((*covariances.shape[:-2], 1, 1))
    wide[..., np.ix_(varying, varying)[0], np.ix_(varying, varying)[1]] = covariances
    return wide


def _dense_factor(covariance):
    """Return upper triangular `U` with ``U U^T`` the inverse of a covariance (d, d)."""
    return inverse_transpose(np.linalg.cholesky(covariance))


def inverse_transpose(lower):
    """Return ``L^-T``, upper triangular, for lower triangular `L` (d, d)."""
    return solve_triangular(lower, np.eye(lower.shape[0]), lower=True).T


def _lower_triangular(root):
    """Return lower triangular `L` with ``L L^T = root root^T``."""
    # By QR, because the product would square the condition number.
    upper = np.linalg.qr(root.T, mode="r")
    return (upper * np.where(np.diagonal(upper) < 0, -1.0, 1.0)[:, None]).T


def _dense_to_data(covariance, whitening):
    lower = _lower_triangular(whitening.factor @ np.linalg.cholesky(covariance))
    return lower @ lower.T, inverse_transpose(lower)


def _dense_to_white(factor, whitening):
    root = whitening.inverse @ np.linalg.inv(factor).T
    return floored(root @ root.T, 0.0, whitening.degenerate)[0]


def _symmetric_root(precisions):
    asymmetry = np.abs(precisions - precisions.swapaxes(-1, -2))
    if (asymmetry > 1e-8 * np.abs(precisions).max(axis=(-1, -2), keepdims=True)).any():
        raise np.linalg.LinAlgError("A precision is not symmetric.")
    return np.linalg.cholesky(precisions)


def _with_average(covariances, k, weights):
    covariances = covariances.copy()
    covariances[k] = np.average(covariances, axis=0, weights=weights)
    return covariances
