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
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from scipy.linalg import orth, solve_triangular

from skgen._whitening import lower_triangular

# Minimum variance of a component, as a fraction of the variance of the data: far above
# the rounding error of repeated rows, far below the variance of any real cluster.
_LEAST_VARIANCE = 1e-24

# A component has collapsed if its variance in some direction is at the minimum and at
# most this fraction of the variance of the data: a high `reg_covar` is a choice.
_COLLAPSED = 1e-6

# Up to this number of features, triangular matrices are inverted all at once.
_SUBSTITUTED = 64

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

    @property
    @abstractmethod
    def module(self):
        """Name of the class of `_module` for gradient descent, or None."""

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
    def basis_of(self, d):
        """Return orthogonal matrices (m, d, d) that span a linear type, or None."""

    @abstractmethod
    def nearest(self, covariances):
        """Return the nearest covariances of this type."""

    @abstractmethod
    def narrowed(self, varying):
        """Return the type of covariances of the `varying` coordinates (d,)."""

    @abstractmethod
    def widened(self, covariances, varying):
        """Return covariances of all d coordinates, with variance one for constant ones.

        `varying` (d,) marks the coordinates of the given covariances.
        """

    @abstractmethod
    def restricted(self, covariances, factors, features):
        """Return the type, covariances and factors of features, given by indices."""

    @abstractmethod
    def conditional(self, covariances, factors, o, m):
        """Return the regression of features `m` on features `o`, both indices.

        It is the slopes ``S_mo S_oo^-1`` (J, m, o), or None if all of them are 0, and
        the type, the covariances and the factors of the residuals.
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
    basis: Callable | None = None  # a function of d: matrices (m, d, d) that span all

    def __post_init__(self):
        dense, spherical = self.dense, self.whitening == "spherical"
        impossible = (
            (self.pooled and (dense or not spherical))
            or (self.blocks and not dense)
            or (self.basis and not (dense and spherical and not self.blocks))
            or (self.whitening == "full" and not dense)
        )
        if impossible:
            raise ValueError(f"No covariance type has all of these fields: {self}.")

    @property
    def module(self):
        if self.basis:
            return "LinearModule"
        return "DenseModule" if self.dense else "DiagonalModule"

    # -- shapes ----------------------------------------------------------------------

    def shape(self, K, d):
        """Return the public shape."""
        if self.pooled:
            return (1 if self.shared else K,)
        shape = (d, d) if self.dense else (d,)
        return shape if self.shared else (K, *shape)

    def public(self, array):
        if self.pooled:
            return array[:, 0].copy()
        return array[0] if self.shared else array

    def stacked(self, array, d):
        array = np.tile(array[:, None], d) if self.pooled else array
        return array if array.ndim == 2 + self.dense else array[None]

    def unit(self, K, d):
        """Return the covariances of all whitened rows together."""
        one = np.eye(d) if self.dense else np.ones(d)
        return np.stack([one] * (1 if self.shared else K))

    def n_parameters(self, covariances):
        J, d = covariances.shape[:2]
        if self.basis:
            return J * len(self.basis_of(d))
        sizes = map(len, self.blocks or [range(d)])
        n_entries = sum(size * (size + 1) // 2 for size in sizes)
        return J * (n_entries if self.dense else 1 if self.pooled else d)

    def _index(self, k):
        return 0 if self.shared else k

    def basis_of(self, d):
        return orthogonal(self.basis, d) if self.basis else None

    def nearest(self, covariances):
        if self.basis:
            basis = self.basis_of(d := covariances.shape[-1])
            coordinates = np.tensordot(covariances, basis / d, [[1, 2], [1, 2]])
            return np.tensordot(coordinates, basis, 1)
        return covariances * self.mask() if self.blocks else covariances

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
        if self.dense:
            q = ((t[:, None] @ np.abs(precisions)) @ t[:, :, None])[:, 0, 0]
        else:
            q = (precisions * t**2).sum(axis=1)
        # A shared covariance has the error of the worst component.
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
        if self.common or self.pooled:
            return 1 + d + 1
        return 1 + d + (d * (d + 1) // 2 if self.dense else d)

    @property
    def common(self):
        """Whether all components share one matrix, and one feature of it."""
        return self.dense and self.shared

    @property
    def by_rows(self):
        """Whether most features of a row are its coordinates or their squares."""
        return not (self.dense or self.pooled)

    def by_products(self, d):
        return self.n_features(d) <= _MOST_FEATURES

    def fill(self, backend, F, d, factors):
        """Compute the features (s, p, c) after the first 1 + d, in place."""
        z, rest = F[:, 1 : 1 + d], F[:, 1 + d :]
        if self.common:
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
        if self.common:
            return np.full((len(means), 1), -0.5)
        if self.dense:
            i, j = backend.pair_index(means.shape[1])
            return np.where(i == j, -0.5, -1.0) * precisions[:, i, j]
        squares = -0.5 * (precisions[:, :1] if self.pooled else precisions)
        return np.broadcast_to(squares, (len(means), squares.shape[1]))

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
        if self.common:
            return (weighted.T @ points)[None]
        if self.dense:
            return weighted[:, :, None] * points[:, None]
        squares = weighted * points
        return squares.sum(axis=0, keepdims=True) if self.shared else squares

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
            pairs = [floored(m, floor, degenerate) for m in self.nearest(moments)]
            # Rounding of eigenvectors mixes blocks.
            covariances = self.nearest(np.stack([pair[0] for pair in pairs]))
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

    @property
    def rule(self):
        """What `factors_of_precisions` requires, in words."""
        more = ", with zeros between blocks" if self.blocks else ""
        more = ", of the covariance type" if self.basis else more
        return f"symmetric and positive definite{more}"

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
        # Precisions have the same type as their covariances.
        allowed = 1e-8 * size if self.basis else 0.0
        if (np.abs(self.nearest(precisions) - precisions) > allowed).any():
            raise np.linalg.LinAlgError("A precision is not of the covariance type.")
        return np.linalg.cholesky(precisions)

    def to_data(self, covariances, whitening):
        if not self.dense:
            variances = covariances * whitening.scale**2
            return variances, self.factors(variances)
        roots = whitening.displacements(np.linalg.cholesky(covariances).mT).mT
        return _of_roots(lower_triangular(roots))

    def to_white(self, factors, whitening):
        """Return whitened covariances from factors `U` in the units of the data."""
        if self.dense:
            roots = whitening.whitened_difference(np.linalg.inv(factors)).mT
            covariances = roots @ roots.swapaxes(1, 2)
        else:
            covariances = (factors * whitening.scale) ** -2.0
        return self.floored(covariances, 0.0, whitening.degenerate)[0]

    def narrowed(self, varying):
        return self._of_features(np.flatnonzero(varying))

    def _of_features(self, features):
        """Return the type of covariances of some features, given by indices."""
        number = {i: n for n, i in enumerate(features.tolist())}
        blocks = (tuple(number[i] for i in b if i in number) for b in self.blocks)
        return replace(self, blocks=tuple(filter(len, blocks)))

    def restricted(self, covariances, factors, features):
        if not self.dense:
            return self, covariances[:, features], factors[:, features]
        lower = _triangular_roots(factors, features)
        return self._family(features), *_of_roots(lower)

    def _family(self, features):
        """Return the type of marginals and conditionals: a linear one is left."""
        return replace(self._of_features(features), basis=None)

    def conditional(self, covariances, factors, o, m):
        if not self.dense:
            return None, self, covariances[:, m], factors[:, m]
        lower = _triangular_roots(factors, np.append(o, m))  # (J, d, d)
        n = o.size
        slopes = lower[:, n:, :n] @ inverses(lower[:, :n, :n])
        return slopes, self._family(m), *_of_roots(lower[:, n:, n:])

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


@cache
def orthogonal(basis, d):
    """Return orthogonal matrices (m, d, d), as long as the identity, for a basis."""
    columns = orth(basis(d).reshape(-1, d * d).T)  # (d^2, m)
    return np.sqrt(d) * columns.T.reshape(-1, d, d)


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


def _triangular_roots(factors, features):
    """Return lower triangular roots of covariances of features: (J, f, f).

    `factors` (J, d, d) are the factors `U` of all features.
    """
    return lower_triangular(inverses(factors.mT)[:, features])


def _of_roots(lower):
    """Return covariances and factors `U` of lower triangular roots (J, d, d)."""
    return lower @ lower.mT, np.ascontiguousarray(inverses(lower).mT)


def inverses(lower):
    """Return the inverses of lower triangular matrices (J, d, d)."""
    d = lower.shape[1]
    if d > _SUBSTITUTED:
        return np.stack([inverse_transpose(L).T for L in lower])
    found = np.zeros(lower.shape)
    for i in range(d):  # forward substitution in all matrices at once
        row = lower[:, i : i + 1, :i] @ found[:, :i]  # (J, 1, d)
        found[:, i] = -row[:, 0]
        found[:, i, i] += 1.0
        found[:, i] /= lower[:, i, i, None]
    return found


def inverse_transpose(lower):
    """Return ``L^-T``, upper triangular, for lower triangular `L` (d, d)."""
    return solve_triangular(lower, np.eye(lower.shape[0]), lower=True).T
