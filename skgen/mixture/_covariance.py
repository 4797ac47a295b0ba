r"""Covariance types: one value each, and their M-steps.

Shapes: `K` components, `d` features, chunks of rows (s, d, c) as in `_backend`. The
covariances of all components are one array: matrices (J, d, d) or variances (J, d),
with J = 1 if all components share one, else J = K. Precisions and factors have the same
shape. The precision is :math:`\Lambda = U U^\top`, with the factor `U` an upper
triangular matrix or inverse standard deviations. `public` returns scikit-learn's
shapes.

**Products.** The logarithm of a normal density is linear in features of a row: with
:math:`z = x - s` and :math:`m_k = \mu_k - s` about any point `s`,

.. math:: \log \mathcal{N}(x; \mu_k, \Lambda_k^{-1}) = c_k + (\Lambda_k m_k)^\top z
          - \tfrac{1}{2} z^\top \Lambda_k z,

so that log-densities are coefficients (K, p) times features (p, c), and moments about
`s` are features times responsibilities. The features are 1, `z`, and its squares,
products of pairs, or a quadratic form that all components share.

**Rounding error.** The products lose the rounding of
:math:`|z|^\top |\Lambda| |z|` from the quadratic form. With
:math:`v = \operatorname{diag} \Sigma` and

.. math:: q = t^\top |\Lambda| t, \qquad t_j = \sqrt{m_j^2 + v_j},

this is at most :math:`2 q \max(1, D)` for a row at squared distance `D`, because
:math:`(x_j - \mu_j)^2 \le D v_j`. A covariance from the moments has the error
:math:`\epsilon q` in its own metric. `q` does not depend on the scale of the features,
so that the parameters alone bound the loss of digits for all rows.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import solve_triangular

# Minimum variance of a component, as a fraction of the variance of the data: far above
# the rounding error of repeated rows, far below the variance of any real cluster.
_LEAST_VARIANCE = 1e-24

# A component has collapsed if its variance in some direction is at the minimum and at
# most this fraction of the variance of the data: a high `reg_covar` is a choice.
_COLLAPSED = 1e-6

# With more features of a row than this, products are limited by memory bandwidth.
_MOST_FEATURES = 2**13


@dataclass(frozen=True)
class Parameters:
    """A mixture: `K` components in `d` dimensions."""

    weights: np.ndarray  # (K,)
    means: np.ndarray  # (K, d)
    covariances: np.ndarray  # shape depends on the type
    factors: np.ndarray  # shape depends on the type; U with U U^T the precision


class AbstractCovariance(ABC):
    """A covariance type, as scoring and sampling use it."""

    dense: bool  # matrices (J, d, d)

    # The whitening under which the covariance type is invariant.
    whitening: str

    # Groups of all features, of which only features of one group are correlated. Empty
    # for a single group.
    blocks: tuple = ()

    @abstractmethod
    def public(self, array):
        """Return covariances, precisions or factors in the shape of the attributes."""

    @abstractmethod
    def stacked(self, array, d):
        """Return the array of which `array` is the public form."""

    @abstractmethod
    def n_parameters(self, covariances):
        """Return the number of free parameters of the covariances."""

    @abstractmethod
    def factors(self, covariances):
        """Return the factors `U` of all components."""

    @abstractmethod
    def precisions(self, factors):
        """Return ``U U^T`` of all components."""

    @abstractmethod
    def log_det(self, factors, K):
        """Return ``log |U_k|``, half the log-determinants of the precisions: (K,)."""

    @abstractmethod
    def by_products(self, d):
        """Return whether densities of `d` features can be computed by products."""

    @abstractmethod
    def standardise(self, backend, difference, factors, k):
        """Return ``U_k^T`` times a chunk of differences (s, d, c) from the mean."""

    @abstractmethod
    def colour(self, noise, factors, k):
        """Return ``noise @ U_k^-1`` for noise (n, d): draws about 0."""

    @abstractmethod
    def to_data(self, covariances, whitening):
        """Return covariances and factors `U` in the units of the data."""

    @abstractmethod
    def of(self, blocks):
        """Return this type with some `blocks`."""

    @abstractmethod
    def mask(self):
        """Return which pairs of features belong to one block: (d, d), or None."""

    @abstractmethod
    def narrowed(self, varying):
        """Return the type of covariances of the `varying` coordinates (d,)."""

    @abstractmethod
    def widened(self, covariances, varying):
        """Return covariances of all d coordinates, with variance one for constant ones.

        `varying` (d,) marks the coordinates of the given covariances.
        """

    @abstractmethod
    def least_variances(self, covariances):
        """Return the minimum variance of each component in any direction: (J,)."""


@dataclass(frozen=True)
class Covariance(AbstractCovariance):
    """A covariance type that EM can estimate from moments."""

    dense: bool  # matrices, or else variances
    whitening: str
    shared: bool = False  # one for all components
    pooled: bool = False  # one variance for all features
    blocks: tuple = ()

    # -- shapes ----------------------------------------------------------------------

    def shape(self, K, d):
        """Return the public shape."""
        shape = (d, d) if self.dense else () if self.pooled else (d,)
        return shape if self.shared else (K, *shape)

    def public(self, array):
        if self.shared:
            return array[0]
        return array[:, 0].copy() if self.pooled else array

    def stacked(self, array, d):
        if self.shared:
            return array[None]
        return np.tile(array[:, None], d) if self.pooled else array

    def unit(self, K, d):
        """Return the covariances of all whitened rows together."""
        one = np.eye(d) if self.dense else np.ones(d)
        return np.stack([one] * (1 if self.shared else K))

    def n_parameters(self, covariances):
        J, d = covariances.shape[:2]
        sizes = map(len, self.blocks or [range(d)])
        n_entries = sum(size * (size + 1) // 2 for size in sizes)
        return J * (n_entries if self.dense else 1 if self.pooled else d)

    def _index(self, k):
        return 0 if self.shared else k

    def _within(self, matrices):
        """Return matrices (J, d, d) without the entries between blocks."""
        return matrices * self.mask() if self.blocks else matrices

    def of(self, blocks):
        return replace(self, blocks=blocks)

    def mask(self):
        if not self.blocks:
            return None
        label = {i: n for n, block in enumerate(self.blocks) for i in block}
        labels = np.array([label[i] for i in range(len(label))])
        return labels[:, None] == labels

    # -- linear algebra --------------------------------------------------------------

    def factors(self, covariances):
        if not self.dense:
            return 1.0 / np.sqrt(covariances)
        return np.stack([inverse_transpose(c) for c in np.linalg.cholesky(covariances)])

    def precisions(self, factors):
        return factors @ factors.swapaxes(1, 2) if self.dense else factors**2

    def log_det(self, factors, K):
        return np.broadcast_to(np.log(self.diagonals(factors)).sum(axis=1), K).copy()

    def diagonals(self, array):
        """Return the diagonals, or variances, of all components: (J, d)."""
        return np.diagonal(array, axis1=1, axis2=2) if self.dense else array

    def magnitudes(self, precisions, t):
        """Return ``t' |precision| t`` of each component for t (K, d): (K,)."""
        if not self.dense:
            return (precisions * t**2).sum(axis=1)
        q = ((t[:, None] @ np.abs(precisions)) @ t[:, :, None])[:, 0, 0]
        # A shared matrix has the error of the worst component.
        return np.full(q.size, q.max()) if self.shared else q

    def standardise(self, backend, difference, factors, k):
        factor = factors[self._index(k)]
        if self.dense:
            return backend.product(factor.T, difference)
        return difference * factor[:, None]

    def colour(self, noise, factors, k):
        factor = factors[self._index(k)]
        if self.dense:
            return solve_triangular(factor, noise.T, trans="T").T
        return noise / factor

    # -- products --------------------------------------------------------------------

    def n_features(self, d):
        """Return the number `p` of features of a row."""
        squares = 1 if self.pooled or (self.dense and self.shared) else d
        if self.dense and not self.shared:
            squares = d * (d + 1) // 2
        return 1 + d + squares

    @property
    def by_rows(self):
        """Whether most features of a row are its coordinates or their squares."""
        return not (self.dense or self.pooled)

    def by_products(self, d):
        return self.n_features(d) <= _MOST_FEATURES

    def fill(self, backend, F, d, factors):
        """Compute the features (s, p, c) after the first 1 + d, in place."""
        z, rest = F[:, 1 : 1 + d], F[:, 1 + d :]
        if self.dense and self.shared:
            y = backend.product(factors[0].T, z)
            backend.add_squares(y, out=rest[:, 0])
        elif self.dense:
            backend.pairs(z, out=rest)
        elif self.pooled:
            backend.add_squares(z, out=rest[:, 0])
        else:
            backend.math.square(z, out=rest)

    def coefficients(self, backend, means, precisions):
        """Return the coefficients of the features, without normalisers: (K, p).

        `means` (K, d) are relative to the point that the features are about.
        """
        if self.dense:
            linear = (precisions @ means[:, :, None])[:, :, 0]  # (K, d)
        else:
            linear = precisions * means
        constant = -0.5 * (means * linear).sum(axis=1, keepdims=True)
        return np.hstack(
            [constant, linear, self._quadratic(backend, precisions, means)]
        )

    def _quadratic(self, backend, precisions, means):
        """Return the coefficients of the features of `fill`: (K, p - 1 - d)."""
        if self.dense and self.shared:
            return np.full((len(means), 1), -0.5)
        if self.dense:
            i, j = backend.pair_index(means.shape[1])
            return np.where(i == j, -0.5, -1.0) * precisions[:, i, j]
        return -0.5 * (precisions[:, :1] if self.pooled else precisions)

    def second_moments(self, backend, sums, d):
        """Return second moments (m, ...) from sums of features (m, p)."""
        rest = sums[:, 1 + d :]
        if not self.dense:
            return np.tile(rest / d, d) if self.pooled else rest
        i, j = backend.pair_index(d)
        moments = np.empty((len(sums), d, d))
        moments[:, i, j] = moments[:, j, i] = rest
        return moments

    # -- M-step ----------------------------------------------------------------------

    def scatter(self, covariances, counts):
        """Return the second moments about the means of `counts` rows (K,)."""
        return (covariances.T * (counts.sum() if self.shared else counts)).T

    def outer(self, counts, points):
        """Return the second moments of `counts` rows (K,) at points (K, d)."""
        weighted = counts[:, None] * points
        if self.dense and self.shared:
            return (weighted.T @ points)[None]
        return (
            weighted[:, :, None] * points[:, None] if self.dense else weighted * points
        )

    def from_scatter(self, scatter, counts, shift, previous, floor, degenerate):
        """Return the covariances, and which components collapsed (K,).

        `shift` (K, d) are the means relative to the origins of the moments. Empty
        components keep their `previous` covariance.
        """
        total = counts.sum(keepdims=True) if self.shared else counts  # (J,)
        filled = total > 0
        total = total[filled].reshape(-1, *[1] * (scatter.ndim - 1))
        moments = (scatter - self.outer(counts, shift))[filled] / total
        if self.pooled:
            moments = np.tile(moments.mean(axis=1, keepdims=True), moments.shape[1])
        covariances, at_floor = previous.copy(), np.zeros(filled.size, dtype=bool)
        found = self.floored(moments, floor, degenerate)
        covariances[filled], at_floor[filled] = found
        return covariances, np.broadcast_to(at_floor, counts.size).copy()

    def floored(self, moments, floor, degenerate):
        """Return covariances raised to the floor, and which of them collapsed (J,).

        The variance of `degenerate` directions (d,) is set to one.
        """
        if self.dense:
            pairs = [floored(m, floor, degenerate) for m in self._within(moments)]
            # Rounding of eigenvectors mixes blocks.
            covariances = self._within(np.stack([pair[0] for pair in pairs]))
            return covariances, [pair[1] for pair in pairs]
        floor = max(floor, _LEAST_VARIANCE)
        collapsed = moments < min(floor, _COLLAPSED)
        at_floor = (collapsed & ~degenerate).any(axis=1)
        return np.where(degenerate, 1.0, np.maximum(moments, floor)), at_floor

    def averaged(self, covariances, k, weights):
        """Return the covariances, with the weighted mean of all for component `k`."""
        covariances = covariances.copy()
        if not self.shared:
            covariances[k] = np.average(covariances, axis=0, weights=weights)
        return covariances

    def least_variances(self, covariances):
        if self.dense:
            return np.linalg.eigvalsh(covariances)[:, 0]
        return covariances.min(axis=1)

    # -- coordinates -----------------------------------------------------------------

    def factors_of_precisions(self, precisions):
        """Return factors `U` of precisions; LinAlgError if not positive definite."""
        if not self.dense:
            if not (precisions > 0).all():
                raise np.linalg.LinAlgError("A precision is not positive.")
            return np.sqrt(precisions)
        asymmetry = np.abs(precisions - precisions.swapaxes(1, 2))
        size = np.abs(precisions).max(axis=(1, 2), keepdims=True)
        if (asymmetry > 1e-8 * size).any():
            raise np.linalg.LinAlgError("A precision is not symmetric.")
        if (self._within(precisions) != precisions).any():
            raise np.linalg.LinAlgError("Features of different blocks are correlated.")
        return np.linalg.cholesky(precisions)

    def to_data(self, covariances, whitening):
        if not self.dense:
            variances = covariances * whitening.scale**2
            return variances, self.factors(variances)
        roots = whitening.factor @ np.linalg.cholesky(covariances)
        lower = np.stack([_lower_triangular(root) for root in roots])
        factors = np.stack([inverse_transpose(one) for one in lower])
        return lower @ lower.swapaxes(1, 2), factors

    def to_white(self, factors, whitening):
        """Return whitened covariances from factors `U` in the units of the data."""
        if self.dense:
            roots = whitening.inverse @ np.linalg.inv(factors).swapaxes(1, 2)
            covariances = roots @ roots.swapaxes(1, 2)
        else:
            covariances = (factors * whitening.scale) ** -2.0
        return self.floored(covariances, 0.0, whitening.degenerate)[0]

    def narrowed(self, varying):
        number = np.cumsum(varying) - 1
        blocks = (tuple(number[i] for i in b if varying[i]) for b in self.blocks)
        return replace(self, blocks=tuple(filter(len, blocks)))

    def widened(self, covariances, varying):
        wide = self.unit(len(covariances), varying.size)
        if self.dense:
            wide[np.ix_(range(len(wide)), varying, varying)] = covariances
        else:
            wide[:, varying] = covariances
        return wide


COVARIANCES = {
    "full": Covariance(dense=True, whitening="full"),
    "tied": Covariance(dense=True, whitening="full", shared=True),
    "diag": Covariance(dense=False, whitening="diag"),
    "spherical": Covariance(dense=False, whitening="spherical", pooled=True),
    "block": Covariance(dense=True, whitening="full"),  # of the `blocks` of a model
}


def floored(matrix, floor, degenerate):
    """Return a covariance (d, d) with eigenvalues clipped, and whether it collapsed.

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
        raised = np.maximum(values, max(floor, rounding))
        collapsed = bool(floor <= _COLLAPSED or values[0] <= _COLLAPSED)
        return (vectors * raised) @ vectors.T, collapsed
    return matrix, False


def inverse_transpose(lower):
    """Return ``L^-T``, upper triangular, for lower triangular `L` (d, d)."""
    return solve_triangular(lower, np.eye(lower.shape[0]), lower=True).T


def _lower_triangular(root):
    """Return lower triangular `L` with ``L L^T = root root^T``."""
    # By QR, because the product would square the condition number.
    upper = np.linalg.qr(root.T, mode="r")
    return (upper * np.where(np.diagonal(upper) < 0, -1.0, 1.0)[:, None]).T
