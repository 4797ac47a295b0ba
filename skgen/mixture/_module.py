r"""Mixture modules: unconstrained parameters relative to a reference mixture.

Every parameter is a change relative to the reference, in units of the component: a
mean moves by standard deviations, a variance by factors. Steps of one size then suit
wide and narrow components, at any scale of the data. `maintain` regularly resets the
reference to the current mixture.
"""

import math
from abc import abstractmethod

import numpy as np
import torch
from torch.nn.functional import softplus

from skgen._torch import float64_copy
from skgen.mixture._covariance import floored, inverse_transpose
from skgen.neural._net import LossModule

LOG_2PI = math.log(2 * math.pi)


def mean_negative_log_likelihood(log_joint):
    r"""Return the mean of :math:`-\log p(x)` from joint log-densities (n, K)."""
    # Responsibilities below e^-60 do not matter, but those that underflow to denormal
    # numbers would make products a hundred times slower.
    least = log_joint.detach().amax(dim=1, keepdim=True) - 60
    return -torch.logsumexp(torch.maximum(log_joint, least), dim=1).mean()


def log_joint(squared, log_weights, log_dets, d):
    r"""Return :math:`\log \pi_k + \log \mathcal{N}(x; \mu_k, \Sigma_k)`: (n, K).

    `squared` are Mahalanobis distances (n, K), `log_dets` half the log-determinants of
    the precisions (K,).
    """
    return torch.add(log_weights + log_dets - 0.5 * d * LOG_2PI, squared, alpha=-0.5)


def dense_distances(X, roots, offsets):
    r"""Return :math:`|(x - \mu_k) U_k|^2`: (n, K).

    `roots` are the :math:`U_k` (K, d, e), `offsets` the :math:`\mu_k U_k` (K, e).
    """
    K, d, e = roots.shape
    flat = roots.permute(1, 0, 2).reshape(d, K * e)
    y = torch.addmm(offsets.reshape(-1), X, flat, beta=-1)  # (n, K e)
    return y.view(X.shape[0], K, e).square().sum(dim=2)


def dense_distances_by_product(X, precisions, means):
    r"""Return :math:`(x - \mu_k)^\top \Lambda_k (x - \mu_k)` by one product: (n, K).

    X is (n, d), `precisions` (K, d, d), `means` (K, d).
    """
    # Distances are linear in the features and their pairwise products, which all
    # components share: half the arithmetic of `dense_distances`, and no array of shape
    # (n, K, d). Cancellation loses eps * means' precisions means, so that rows and
    # means must be centred near the narrow components.
    K, d, _ = precisions.shape
    i, j = torch.triu_indices(d, d, device=X.device)  # (p,), p = d (d + 1) / 2
    left = torch.cat([X[:, i] * X[:, j], X], dim=1)  # (n, p + d)
    twice = torch.where(i == j, 1.0, 2.0).to(X.dtype)
    squares = precisions.reshape(K, d * d).index_select(1, i * d + j) * twice
    weighted = (precisions @ means[:, :, None])[:, :, 0]  # (K, d)
    right = torch.cat([squares, -2 * weighted], dim=1)  # (K, p + d)
    constant = (means * weighted).sum(dim=1)  # (K,)
    return torch.addmm(constant, left, right.T).clamp(min=0)


def scaled_distances(X, scales, means):
    r"""Return :math:`\sum_j (x_j - \mu_{kj})^2 s_{kj}^2` by differences: (n, K).

    X is (n, d); `scales` are inverse standard deviations (K, d), `means` (K, d).
    """
    return ((X[:, None, :] - means) * scales).square().sum(dim=2)


def scaled_distances_by_product(X, scales, means):
    """Return the distances of `scaled_distances` by one matrix product: (n, K)."""
    # Cancellation loses eps * sum(means**2 * scales**2), so that rows and means must be
    # centred near the narrow components.
    squares = scales.square()  # (K, d)
    weighted = means * squares
    left = torch.cat([X.square(), X], dim=1)  # (n, 2 d)
    right = torch.cat([squares, -2 * weighted], dim=1)  # (K, 2 d)
    constant = (means * weighted).sum(dim=1)  # (K,)
    return torch.addmm(constant, left, right.T).clamp(min=0)


def low_rank_correction(X, scales, means, loadings):
    r"""Return :math:`|L^{-1} B^\top z|^2` (n, K) and :math:`\log |L|` (K,).

    Here :math:`z = (x - \mu) D^{-1/2}`, :math:`B = D^{-1/2} A` are the `loadings`
    (K, d, r), and :math:`L L^\top = I + B^\top B`.
    """
    # Woodbury (1950): the squared distance is |z|^2 - |L^-1 B' z|^2, and
    # log |Sigma| = log |D| + 2 log |L|.
    r = loadings.shape[2]
    eye = torch.eye(r, dtype=X.dtype, device=X.device)
    L = torch.linalg.cholesky(eye + loadings.mT @ loadings)  # (K, r, r)
    P = torch.linalg.solve_triangular(L, loadings.mT, upper=False).mT  # (K, d, r)
    roots = scales[:, :, None] * P  # (K, d, r)
    offsets = (means[:, None, :] @ roots)[:, 0]  # (K, r)
    log_dets = torch.diagonal(L, dim1=1, dim2=2).log().sum(dim=1)
    return dense_distances(X, roots, offsets), log_dets


# softplus(_UNIT) is one.
_UNIT = math.log(math.e - 1)

# Maximum cancellation error of a squared distance computed by a matrix product.
_CANCELLATION = 0.02

# A component with a smaller expected number of rows is empty.
_LEAST_ROWS = 0.5


class MixtureModule(LossModule):
    """A mixture of weights (K,), means (K, d) and covariances of one type; abstract.

    `floor` is the minimum variance of a component in any direction.
    """

    def __init__(self, weights, means, covariances, floor):
        super().__init__()
        K, self.d = means.shape
        self.floor = floor
        self.logits = torch.nn.Parameter(torch.zeros(K))
        self.moves = torch.nn.Parameter(torch.zeros(K, self.d))
        self.register_buffer("means0", torch.zeros(K, self.d))
        self.register_buffer("apart", torch.zeros(K, dtype=torch.bool))
        self.register_buffer("revived", torch.zeros(K, dtype=torch.bool))
        self._make(covariances.shape)
        self.start(weights, means, covariances)

    # -- the covariance type -------------------------------------------------------

    @abstractmethod
    def _make(self, shape):
        """Register parameters and buffers for covariances of the given shape."""

    @abstractmethod
    def _squared(self, X):
        """Return squared Mahalanobis distances (n, K) and log-determinants (K,)."""

    @abstractmethod
    def _means(self):
        """Return the means: (K, d)."""

    @abstractmethod
    def _covariances(self):
        """Return the covariances; their shape depends on the type."""

    @abstractmethod
    def _set_covariances(self, covariances, means, weights):
        """Set the reference covariances, and what is derived from them."""

    @abstractmethod
    def _mended(self, covariances):
        """Return float64 covariances with variances raised to the floor."""

    @abstractmethod
    def _averaged(self, covariances, k, weights):
        """Set the covariance of component `k` to the weighted mean, in place."""

    # -- the loss --------------------------------------------------------------------

    def forward(self, X):
        """Return the mean negative log-likelihood of (n, d) rows, in nats."""
        return mean_negative_log_likelihood(self.log_joint(X))

    def _scaled(self, X, scales, means):
        """Return the scaled squared distances of rows (n, d) to the means: (n, K)."""
        squared = scaled_distances_by_product(X, scales, means)
        if self.narrow.numel():
            apart = scaled_distances(X, scales[self.narrow], means[self.narrow])
            squared = squared.index_copy(1, self.narrow, apart)
        return squared

    def _set_narrow(self, lost):
        """Set the components whose distances by products lose too many digits.

        `lost` (K,) are the squared lengths of the means, each in its own metric.
        """
        self._copy(self.apart, np.finfo(np.float32).eps * lost > _CANCELLATION)
        self.narrow = self.apart.nonzero()[:, 0]

    def load_state_dict(self, *arguments, **options):
        """Load parameters and buffers, and update `narrow`."""
        keys = super().load_state_dict(*arguments, **options)
        self.narrow = self.apart.nonzero()[:, 0]
        return keys

    def log_joint(self, X):
        """Return the joint log-density of rows (n, d) and components: (n, K)."""
        squared, log_dets = self._squared(X)
        log_weights = torch.log_softmax(self.logits, dim=0)
        return log_joint(squared, log_weights, log_dets, self.d)

    # -- between steps -----------------------------------------------------------------

    @torch.no_grad()
    def values(self):
        """Return weights, means and covariances as float64 arrays."""
        twin = float64_copy(self)
        weights = torch.softmax(twin.logits, dim=0)
        values = weights, twin._means(), twin._covariances()
        return tuple(value.cpu().numpy() for value in values)

    @torch.no_grad()
    def start(self, weights, means, covariances):
        """Set the reference mixture; all changes become zero."""
        for parameter in self.parameters():
            parameter.zero_()
        least = 1e-6 / weights.size
        self._copy(self.logits, np.log(np.maximum(weights, least)))
        self._copy(self.means0, means)
        self._set_covariances(self._mended(covariances), means, weights)

    def _copy(self, tensor, array):
        tensor.copy_(torch.from_numpy(np.ascontiguousarray(array)))

    @torch.no_grad()
    def maintain(self, rows, n_rows):
        """Reset the reference to the current mixture; re-initialise empty components.

        Empty components are placed on one of the given rows (b, d); covariances are
        raised to the floor.
        """
        weights, means, covariances = self.values()
        if not all(np.isfinite(value).all() for value in (weights, means, covariances)):
            return  # the loss of this epoch is NaN and raises the error
        dead = (weights * n_rows < _LEAST_ROWS) & ~self.revived.cpu().numpy()
        for k in np.flatnonzero(dead)[:1]:
            # At the first decile of the density: rows below may be outliers.
            density = torch.logsumexp(self.log_joint(rows), dim=1)
            row = density.argsort()[rows.shape[0] // 10]
            means[k] = rows[row].cpu().double().numpy()
            self._averaged(covariances, k, weights)
            weights[k] = 0.5 / weights.size
            self.revived[k] = True
        self.start(weights / weights.sum(), means, covariances)


def _inverse_gram(roots):
    """Return ``(U U^T)^-1`` for upper triangular `U` of shape (..., d, d)."""
    eye = torch.eye(roots.shape[-1], dtype=roots.dtype, device=roots.device)
    inverse = torch.linalg.solve_triangular(roots, eye.expand_as(roots), upper=True)
    return inverse.mT @ inverse


def _positive(change):
    """Map unconstrained changes to positive factors, and 0 to 1."""
    return softplus(change + _UNIT)


class FullModule(MixtureModule):
    r"""A factor per component, :math:`U_k = U^0_k T_k` with triangular :math:`T_k`."""

    def _make(self, shape):
        self.changes = torch.nn.Parameter(torch.zeros(shape))
        self.register_buffer("roots0", torch.zeros(shape))
        self.register_buffer("inverses0", torch.zeros(shape))
        self.register_buffer("offsets0", torch.zeros(shape[:2]))
        self.register_buffer("centre", torch.zeros(self.d))

    def _roots(self):
        factors = _positive(torch.diagonal(self.changes, dim1=-2, dim2=-1))
        T = torch.triu(self.changes, diagonal=1) + torch.diag_embed(factors)
        return self.roots0 @ T, T

    def _squared(self, X):
        roots, T = self._roots()
        log_dets = torch.diagonal(roots, dim1=1, dim2=2).log().sum(dim=1)
        X = X - self.centre
        means = self._means() - self.centre
        squared = dense_distances_by_product(X, roots @ roots.mT, means)
        if self.narrow.numel():
            offsets = ((self.offsets0 + self.moves)[:, None, :] @ T)[:, 0]
            apart = dense_distances(X, roots[self.narrow], offsets[self.narrow])
            squared = squared.index_copy(1, self.narrow, apart)
        return squared, log_dets

    def _means(self):
        return self.means0 + (self.moves[:, None, :] @ self.inverses0)[:, 0]

    def _covariances(self):
        return _inverse_gram(self._roots()[0])

    def _mended(self, covariances):
        regular = np.zeros(self.d, dtype=bool)
        return np.stack([floored(c, self.floor, regular)[0] for c in covariances])

    def _averaged(self, covariances, k, weights):
        covariances[k] = np.average(covariances, axis=0, weights=weights)

    def _set_covariances(self, covariances, means, weights):
        lower = np.linalg.cholesky(covariances)  # (K, d, d)
        roots = np.stack([inverse_transpose(one) for one in lower])
        centre = _heavy_centre(roots @ roots.swapaxes(1, 2), means, weights)
        offsets = ((means - centre)[:, None, :] @ roots)[:, 0]  # (K, d)
        self._copy(self.inverses0, lower.swapaxes(1, 2))
        self._copy(self.roots0, roots)
        self._copy(self.offsets0, offsets)
        self._copy(self.centre, centre)
        self._set_narrow((offsets**2).sum(axis=1))


class TiedModule(MixtureModule):
    """One triangular factor for all components."""

    def _make(self, shape):
        self.changes = torch.nn.Parameter(torch.zeros(shape))
        self.register_buffer("roots0", torch.zeros(shape))
        self.register_buffer("offsets0", torch.zeros_like(self.means0))
        self.register_buffer("centre", torch.zeros(self.d))

    _roots = FullModule._roots

    def _squared(self, X):
        roots, T = self._roots()
        offsets = (self.offsets0 + self.moves) @ T  # (K, d)
        Y = (X - self.centre) @ roots  # (n, d)
        squared = self._scaled(Y, torch.ones_like(offsets), offsets)
        log_det = torch.diagonal(roots).log().sum()
        return squared, log_det.expand(offsets.shape[0])

    def _means(self):
        return self.means0 + torch.linalg.solve_triangular(
            self.roots0, self.moves, upper=True, left=False
        )

    def _covariances(self):
        return _inverse_gram(self._roots()[0])

    def _mended(self, covariances):
        return floored(covariances, self.floor, np.zeros(self.d, dtype=bool))[0]

    def _averaged(self, covariances, k, weights):
        pass

    def _set_covariances(self, covariances, means, weights):
        roots = inverse_transpose(np.linalg.cholesky(covariances))
        centre = weights @ means  # (d,)
        offsets = (means - centre) @ roots
        self._copy(self.roots0, roots)
        self._copy(self.offsets0, offsets)
        self._copy(self.centre, centre)
        self._set_narrow((offsets**2).sum(axis=1))


class DiagonalModule(MixtureModule):
    """A variance per component and feature."""

    def _make(self, shape):
        self.changes = torch.nn.Parameter(torch.zeros(shape))
        self.register_buffer("variances0", torch.ones(shape))
        self.register_buffer("centre", torch.zeros(self.d))

    def _variances(self):
        """Return the variances: (K, d), or (K,) for spherical covariances."""
        return self.floor + self.variances0 * _positive(self.changes)

    def _scales(self):
        """Return the inverse standard deviations: (K, d)."""
        return self._variances().rsqrt()

    def _about(self, X):
        """Return centred rows (n, d), centred means (K, d), and scales (K, d)."""
        means = (self.means0 - self.centre) + self.moves * self._deviations0()
        return X - self.centre, means, self._scales()

    def _deviations0(self):
        return (self.floor + self.variances0).sqrt()

    def _squared(self, X):
        X, means, scales = self._about(X)
        return self._scaled(X, scales, means), scales.log().sum(dim=1)

    def _means(self):
        return self.means0 + self.moves * self._deviations0()

    def _covariances(self):
        return self._variances()

    def _mended(self, covariances):
        return np.maximum(covariances, self.floor)

    def _averaged(self, covariances, k, weights):
        covariances[k] = np.average(covariances, axis=0, weights=weights)

    def _set_covariances(self, covariances, means, weights):
        # Positive, so that a variance at the floor can still grow.
        above = np.maximum(covariances - self.floor, 1e-3 * self.floor + 1e-12)
        self._copy(self.variances0, above)
        self._set_centre(covariances, means, weights)

    def _set_centre(self, variances, means, weights):
        """Set the centre that minimises the cancellation of narrow components."""
        precisions = weights[:, None] / variances  # (K, d)
        centre = (precisions * means).sum(axis=0) / precisions.sum(axis=0)
        self._copy(self.centre, centre)
        self._set_narrow(((means - centre) ** 2 / variances).sum(axis=1))


class SphericalModule(DiagonalModule):
    """One variance per component."""

    def _scales(self):
        return self._variances().rsqrt()[:, None].expand(-1, self.d)

    def _deviations0(self):
        return (self.floor + self.variances0).sqrt()[:, None]

    def _set_centre(self, variances, means, weights):
        spread = np.broadcast_to(variances[:, None], means.shape)
        super()._set_centre(spread, means, weights)


class LowRankModule(DiagonalModule):
    """Low rank plus diagonal, ``A A^T + D`` per component.

    Covariances have the shape (K, d, r + 1): the columns of `A`, then the diagonal of
    `D`.
    """

    def _make(self, shape):
        K, d, columns = shape
        super()._make((K, d))
        # The columns of A in units of the reference standard deviations.
        self.loadings = torch.nn.Parameter(torch.zeros(K, d, columns - 1))

    def _squared(self, X):
        squared, log_dets = super()._squared(X)
        X, means, scales = self._about(X)
        ratio = scales * self._deviations0()
        B = self.loadings * ratio[:, :, None]
        less, log_det = low_rank_correction(X, scales, means, B)
        return squared - less, log_dets - log_det

    def _covariances(self):
        A = self.loadings * self._deviations0()[:, :, None]
        return torch.cat([A, self._variances()[:, :, None]], dim=2)

    def _mended(self, covariances):
        covariances = covariances.copy()
        covariances[:, :, -1] = np.maximum(covariances[:, :, -1], self.floor)
        return covariances

    def _set_covariances(self, covariances, means, weights):
        super()._set_covariances(covariances[:, :, -1], means, weights)
        deviations = self._deviations0().cpu().double().numpy()
        self._copy(self.loadings, covariances[:, :, :-1] / deviations[:, :, None])


def _heavy_centre(precisions, means, weights):
    """Return the centre of the means (K, d), weighted by the precisions: (d,)."""
    heavy = weights[:, None, None] * precisions  # (K, d, d)
    pull = (heavy @ means[:, :, None]).sum(axis=0)[:, 0]  # (d,)
    return np.linalg.solve(heavy.sum(axis=0), pull) if pull.size else pull


MODULES = {
    "full": FullModule,
    "tied": TiedModule,
    "diag": DiagonalModule,
    "spherical": SphericalModule,
    "lowrank": LowRankModule,
}
