r"""Mixtures as modules: unconstrained parameters relative to a reference mixture.

Every parameter is a change relative to the reference, in units of the component: a
mean moves by standard deviations, a variance by factors. Steps of one size then suit
wide and narrow components, at any scale of the data. `maintain` regularly resets the
reference to the current mixture.

Shapes: `n` rows, `K` components, `d` features, rank `r`. Coordinates are whitened, in
float32 for training and in float64 for tests.
"""

import math
from abc import abstractmethod

import numpy as np
import torch
from torch.nn.functional import softplus

from skgen._torch import float64_copy
from skgen.mixture._covariance import floored, inverse_transpose
from skgen.neural._net import LossModule

# softplus(_UNIT) is one.
_UNIT = math.log(math.e - 1)

# Maximum cancellation error of a squared distance computed by a matrix product.
_CANCELLATION = 0.02

# Maximum distance of the centre from the heaviest component, in standard deviations of
# the component. float32 resolves its rows to 1e-4 of them.
_FARTHEST = 1000.0

# A component with a smaller expected number of rows is empty.
_LEAST_ROWS = 0.5


class AbstractMixtureModule(LossModule):
    """A mixture of weights (K,), means (K, d) and covariances of one type.

    `floor` is the minimum variance of a component in any direction, `mask` (d, d) marks
    the entries of matrices that are not zero, `basis` (m, d, d) spans a linear type.
    """

    def __init__(self, weights, means, covariances, floor, mask=None, basis=None):
        super().__init__()
        K, self.d = means.shape
        self.floor = floor
        self.logits = torch.nn.Parameter(torch.zeros(K))
        self.moves = torch.nn.Parameter(torch.zeros(K, self.d))
        self.register_buffer("means0", torch.zeros(K, self.d))
        self.register_buffer("apart", torch.zeros(K, dtype=torch.bool))
        self.register_buffer("revived", torch.zeros(K, dtype=torch.bool))
        self.register_buffer("centre", torch.zeros(self.d))
        if mask is not None:
            self.register_buffer("mask", torch.from_numpy(mask))
        if basis is not None:
            self.register_buffer("basis", torch.from_numpy(basis).float())
        self._make(covariances.shape)
        self.reset(weights, means, covariances)

    # -- the covariance type -------------------------------------------------------

    # Whether all components have the same covariance.
    shared = False

    @abstractmethod
    def _make(self, shape):
        """Register parameters and buffers for covariances of the given shape."""

    @abstractmethod
    def _squared(self, X):
        """Return squared Mahalanobis distances of centred rows (n, d): (n, K).

        Also return half the log-determinants of the precisions (K,).
        """

    @abstractmethod
    def _squared_of_observed(self, difference, observed):
        """Return what `_squared` returns for rows with missing values: both (n, K).

        `difference` (n, K, d) are the rows less the means, and 0 for missing values;
        `observed` (n, d) is 1 or 0. Both are float64.
        """

    @abstractmethod
    def _means(self):
        """Return the means: (K, d)."""

    @abstractmethod
    def _covariances(self):
        """Return the covariances; their shape depends on the type."""

    @abstractmethod
    def _set_covariances(self, covariances, means, weights):
        """Set the reference covariances, with variances raised to the floor.

        Also set what is derived from them: `centre` and the components in `apart`.
        """

    # -- the loss --------------------------------------------------------------------

    def forward(self, X):
        """Return the mean negative log-likelihood of (n, d) rows, in nats."""
        return mean_negative_log_likelihood(self.log_joint(X))

    def log_joint(self, X):
        """Return the joint log-density of rows (n, d) and components: (n, K).

        It is the density of the values that are not NaN.
        """
        missing, n_observed = X.isnan(), self.d
        if missing.any():
            observed = (~missing).double()
            n_observed = observed.sum(dim=1, keepdim=True)
            difference = X[:, None] - self._means()  # (n, K, d)
            difference = difference.masked_fill(missing[:, None], 0.0).double()
            squared, log_dets = self._squared_of_observed(difference, observed)
        else:
            squared, log_dets = self._squared(X - self.centre)
        log_weights = torch.log_softmax(self.logits, dim=0)
        constants = log_weights + log_dets - 0.5 * n_observed * math.log(2 * math.pi)
        return torch.add(constants, squared, alpha=-0.5)

    def _distances(self, X, roots, offsets):
        """Return `distances` by products, or by differences where digits are lost."""
        squared, narrow = distances_by_product(X, roots, offsets), self.narrow
        if not narrow.numel():
            return squared
        exact = distances(X, roots[narrow], offsets[narrow])
        return squared.index_copy(1, narrow, exact)

    def _set_narrow(self, lost):
        """Set the components whose distances by products lose too many digits.

        `lost` (K,) are the squared lengths of the means, each in its own metric.
        """
        self._copy(self.apart, np.finfo(np.float32).eps * lost > _CANCELLATION)
        self.narrow = self.apart.nonzero()[:, 0]

    def _centred(self, roots, means, weights):
        """Set `centre` and `apart` for roots of precisions (K, d, d) or (d, d).

        Return the means (K, d) relative to the centre, each in its own metric.
        """
        # The centre of the means, weighted by the precisions.
        heavy = weights[:, None, None] * (roots @ roots.swapaxes(-1, -2))  # (K, d, d)
        pull = (heavy @ means[:, :, None]).sum(axis=0)[:, 0]  # (d,)
        centre = np.linalg.solve(heavy.sum(axis=0), pull) if pull.size else pull
        k = weights.argmax()
        root = roots if roots.ndim == 2 else roots[k]
        centre = _near(centre, means[k], (centre - means[k]) @ root)
        offsets = ((means - centre)[:, None, :] @ roots)[:, 0]  # (K, d)
        self._copy(self.centre, centre)
        self._set_narrow((offsets**2).sum(axis=1))
        return offsets

    def load_state_dict(self, *arguments, **options):
        """Load parameters and buffers, and update `narrow`."""
        keys = super().load_state_dict(*arguments, **options)
        self.narrow = self.apart.nonzero()[:, 0]
        return keys

    # -- between steps -----------------------------------------------------------------

    @torch.no_grad()
    def values(self):
        """Return weights, means and covariances as float64 arrays."""
        twin = float64_copy(self)
        weights = torch.softmax(twin.logits, dim=0)
        values = weights, twin._means(), twin._covariances()
        return tuple(value.cpu().numpy() for value in values)

    @torch.no_grad()
    def reset(self, weights, means, covariances):
        """Set the reference mixture; all changes become zero."""
        for parameter in self.parameters():
            parameter.zero_()
        least = 1e-6 / weights.size
        self._copy(self.logits, np.log(np.maximum(weights, least)))
        self._copy(self.means0, means)
        self._set_covariances(covariances, means, weights)

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
        empty = (weights * n_rows < _LEAST_ROWS) & ~self.revived.cpu().numpy()
        for k in np.flatnonzero(empty)[:1]:
            # At the first decile of the density: rows below may be outliers.
            density = torch.logsumexp(self.log_joint(rows), dim=1)
            row = density.argsort()[rows.shape[0] // 10]
            found = rows[row].cpu().double().numpy()
            means[k] = np.where(np.isnan(found), weights @ means, found)
            if not self.shared:
                covariances[k] = np.average(covariances, axis=0, weights=weights)
            weights[k] = 0.5 / weights.size
            self.revived[k] = True
        self.reset(weights / weights.sum(), means, covariances)


class DenseModule(AbstractMixtureModule):
    r"""Triangular factors :math:`U = U^0 T` of the precisions.

    One for all components, of shape (d, d), or one per component, (K, d, d).
    """

    def _make(self, shape):
        self.changes = torch.nn.Parameter(torch.zeros(shape))
        self.register_buffer("roots0", torch.zeros(shape))
        self.register_buffer("offsets0", torch.zeros_like(self.means0))

    @property
    def shared(self):
        return self.changes.ndim == 2

    def _factors(self):
        """Return the factors `U` and `T`, each like the covariances."""
        diagonal = _positive(torch.diagonal(self.changes, dim1=-2, dim2=-1))
        T = torch.triu(self.changes, diagonal=1) + torch.diag_embed(diagonal)
        T = self._masked(T)
        return self._masked(self.roots0 @ T), T

    def _masked(self, matrices):
        """Return matrices (..., d, d) without the entries between blocks."""
        return matrices * self.mask if hasattr(self, "mask") else matrices

    def _squared(self, X):
        U, T = self._factors()
        log_dets = torch.diagonal(U, dim1=-2, dim2=-1).log().sum(dim=-1)
        offsets = ((self.offsets0 + self.moves)[:, None, :] @ T)[:, 0]  # (K, d)
        if self.shared:
            squared = self._distances(X @ U, torch.ones_like(offsets), offsets)
            return squared, log_dets.expand(offsets.shape[0])
        return self._distances(X, U, offsets), log_dets

    def _squared_of_observed(self, difference, observed):
        return of_observed(difference, observed, _inverse(self._factors()[0].double()))

    def _means(self):
        roots, moves = self.roots0, self.moves[:, None, :]
        moved = torch.linalg.solve_triangular(roots, moves, upper=True, left=False)
        return self.means0 + moved[:, 0]

    def _covariances(self):
        return _inverse(self._factors()[0])

    def _set_covariances(self, covariances, means, weights):
        roots, regular = np.empty_like(covariances), np.zeros(self.d, dtype=bool)
        for k in np.ndindex(covariances.shape[:-2]):
            raised, _ = floored(covariances[k], self.floor, regular)
            roots[k] = inverse_transpose(np.linalg.cholesky(raised))
        self._copy(self.roots0, roots)
        self._copy(self.offsets0, self._centred(roots, means, weights))


class LinearModule(AbstractMixtureModule):
    r"""Precisions :math:`\exp(L)`, where a `basis` spans the matrices `L`.

    `L` has the shape (K, d, d), or (d, d) if all components share one.
    """

    def _make(self, shape):
        size = *shape[:-2], len(self.basis)
        self.changes = torch.nn.Parameter(torch.zeros(size))
        self.register_buffer("logs0", torch.zeros(size))
        self.register_buffer("deviations0", torch.zeros(shape))

    @property
    def shared(self):
        return self.changes.ndim == 1

    def _logs(self):
        """Return the logarithms `L` of the precisions."""
        return torch.tensordot(self.logs0 + self.changes, self.basis, 1)

    def _squared(self, X):
        logs = self._logs()
        roots = torch.linalg.matrix_exp(0.5 * logs).expand(len(self.moves), -1, -1)
        means = (self.means0 - self.centre) + self._moved()
        offsets = (means[:, None, :] @ roots)[:, 0]  # (K, d)
        log_dets = 0.5 * torch.diagonal(logs, dim1=-2, dim2=-1).sum(dim=-1)
        return self._distances(X, roots, offsets), log_dets.expand(len(roots))

    def _squared_of_observed(self, difference, observed):
        covariances = torch.linalg.matrix_exp(-self._logs().double())
        return of_observed(difference, observed, covariances)

    def _moved(self):
        return (self.moves[:, None, :] @ self.deviations0)[:, 0]

    def _means(self):
        return self.means0 + self._moved()

    def _covariances(self):
        return torch.linalg.matrix_exp(-self._logs())

    def _set_covariances(self, covariances, means, weights):
        values, vectors = np.linalg.eigh(covariances)
        values = np.maximum(values, self.floor)[..., None, :]
        logs = (vectors * -np.log(values)) @ vectors.mT
        deviations = (vectors * np.sqrt(values)) @ vectors.mT
        basis = self.basis.cpu().double().numpy() / self.d
        self._copy(self.logs0, np.tensordot(logs, basis, [[-2, -1], [1, 2]]))
        self._copy(self.deviations0, deviations)
        self._centred((vectors / np.sqrt(values)) @ vectors.mT, means, weights)


class DiagonalModule(AbstractMixtureModule):
    """Variances `D` by feature, (J, d), or pooled, (J,); or ``A A^T + D`` of low rank.

    J is K, or 1 if all components share them. ``A A^T + D`` has the shape
    (K, d, r + 1): the columns of `A`, then the diagonal of `D`.
    """

    def _make(self, shape):
        self.changes = torch.nn.Parameter(torch.zeros(shape[:2]))
        self.register_buffer("variances0", torch.ones(shape[:2]))
        if len(shape) == 3:
            # The columns of A in units of the reference standard deviations.
            loadings = torch.zeros(*shape[:2], shape[2] - 1)
            self.loadings = torch.nn.Parameter(loadings)

    @property
    def low_rank(self):
        """Whether covariances have columns beside a diagonal."""
        return hasattr(self, "loadings")

    @property
    def shared(self):
        return len(self.changes) < len(self.moves)

    def _by_feature(self, values):
        """Return values (J, d) or (J,) as (K, d)."""
        values = values if values.ndim == 2 else values[:, None]
        return values.expand(self.moves.shape)

    def _variances(self):
        """Return the variances: (J, d), or (J,) if pooled."""
        return self.floor + self.variances0 * _positive(self.changes)

    def _deviations0(self):
        """Return the standard deviations of the reference: (K, d)."""
        return self._by_feature((self.floor + self.variances0).sqrt())

    def _squared(self, X):
        deviations0 = self._deviations0()
        scales = self._by_feature(self._variances().rsqrt())
        means = (self.means0 - self.centre) + self.moves * deviations0
        offsets = means * scales  # (K, d)
        squared, log_dets = self._distances(X, scales, offsets), scales.log().sum(dim=1)
        if not self.low_rank:
            return squared, log_dets
        B = self.loadings * (scales * deviations0)[:, :, None]
        less, log_det = low_rank_correction(X, scales, offsets, B)
        return squared - less, log_dets - log_det

    def _squared_of_observed(self, difference, observed):
        scales = self._by_feature(self._variances().double().rsqrt())  # (K, d)
        z = difference * scales
        squared, log_dets = z.square().sum(dim=2), observed @ scales.log().T
        if not self.low_rank:
            return squared, log_dets
        B = self.loadings * (scales * self._deviations0())[:, :, None]
        less, more = low_rank_correction_of_observed(z, observed, B)
        return squared - less, log_dets - more

    def _means(self):
        return self.means0 + self.moves * self._deviations0()

    def _covariances(self):
        if not self.low_rank:
            return self._variances()
        A = self.loadings * self._deviations0()[:, :, None]
        return torch.cat([A, self._variances()[:, :, None]], dim=2)

    def _set_covariances(self, covariances, means, weights):
        variances = covariances[:, :, -1] if self.low_rank else covariances
        variances = np.maximum(variances, self.floor)
        # Positive, so that a variance at the floor can still grow.
        above = np.maximum(variances - self.floor, 1e-3 * self.floor + 1e-12)
        self._copy(self.variances0, above)
        by_feature = variances.reshape(len(variances), -1)
        variances = np.broadcast_to(by_feature, means.shape)
        precisions = weights[:, None] / variances  # (K, d)
        # The centre that minimises the cancellation of narrow components.
        centre = (precisions * means).sum(axis=0) / precisions.sum(axis=0)
        k = weights.argmax()
        distances = (centre - means[k]) / np.sqrt(variances[k])
        centre = _near(centre, means[k], distances)
        self._copy(self.centre, centre)
        self._set_narrow(((means - centre) ** 2 / variances).sum(axis=1))
        if self.low_rank:
            deviations = self._deviations0().cpu().double().numpy()
            self._copy(self.loadings, covariances[:, :, :-1] / deviations[:, :, None])


def _inverse(U):
    """Return the covariances ``(U U^T)^-1`` of factors (..., d, d)."""
    eye = torch.eye(U.shape[-1], dtype=U.dtype, device=U.device).expand_as(U)
    inverse = torch.linalg.solve_triangular(U, eye, upper=True)
    return inverse.mT @ inverse


def _near(centre, mean, distances):
    """Return the centre (d,), or the mean (d,) if an outlier pulls the centre away."""
    return mean if np.abs(distances).max(initial=0) > _FARTHEST else centre


def _positive(change):
    """Map unconstrained changes to positive factors, and 0 to 1."""
    return softplus(change + _UNIT)


def mean_negative_log_likelihood(log_joint):
    r"""Return the mean of :math:`-\log p(x)` from joint log-densities (n, K)."""
    # Responsibilities below e^-60 do not matter, but those that underflow to denormal
    # numbers would make products a hundred times slower.
    least = log_joint.detach().amax(dim=1, keepdim=True) - 60
    return -torch.logsumexp(torch.maximum(log_joint, least), dim=1).mean()


def distances(X, roots, offsets):
    r"""Return :math:`|x U_k - o_k|^2` of rows (n, d) by differences: (n, K).

    `roots` are the :math:`U_k` (K, d, e), or the diagonals of diagonal ones (K, d);
    `offsets` the :math:`o_k = \mu_k U_k` (K, e).
    """
    if roots.ndim == 2:
        return (X[:, None, :] * roots - offsets).square().sum(dim=2)
    K, d, e = roots.shape
    stacked = roots.permute(1, 0, 2).reshape(d, K * e)
    y = torch.addmm(offsets.reshape(-1), X, stacked, beta=-1)  # (n, K e)
    return y.view(X.shape[0], K, e).square().sum(dim=2)


def distances_by_product(X, roots, offsets):
    """Return the same `distances` by one matrix product: (n, K)."""
    # Distances are linear in the features and their products, which all components
    # share: half the arithmetic of differences, and no array of shape (n, K, d).
    # Cancellation loses eps * |offsets|^2, so that rows and means must be centred near
    # the narrow components.
    if roots.ndim == 2:
        second, squares, weighted = X.square(), roots.square(), roots * offsets
    else:
        K, d, _ = roots.shape
        i, j = torch.triu_indices(d, d, device=X.device)  # (p,), p = d (d + 1) / 2
        second = X[:, i] * X[:, j]  # (n, p)
        twice = torch.where(i == j, 1.0, 2.0).to(X.dtype)
        precisions = (roots @ roots.mT).reshape(K, d * d)
        squares = precisions.index_select(1, i * d + j) * twice  # (K, p)
        weighted = (roots @ offsets[:, :, None])[:, :, 0]  # (K, d)
    left = torch.cat([second, X], dim=1)  # (n, p + d)
    right = torch.cat([squares, -2 * weighted], dim=1)  # (K, p + d)
    constants = offsets.square().sum(dim=1)  # (K,)
    return torch.addmm(constants, left, right.T).clamp(min=0)


def low_rank_correction(X, scales, offsets, loadings):
    r"""Return :math:`|L^{-1} B^\top z|^2` (n, K) and :math:`\log |L|` (K,).

    Here :math:`z = (x - \mu) D^{-1/2}`, with the `scales` :math:`D^{-1/2}` and
    `offsets` :math:`\mu D^{-1/2}` (K, d), :math:`B = D^{-1/2} A` are the `loadings`
    (K, d, r), and :math:`L L^\top = I + B^\top B`.
    """
    # Woodbury (1950): the squared distance is |z|^2 - |L^-1 B' z|^2, and
    # log |Sigma| = log |D| + 2 log |L|.
    r = loadings.shape[2]
    eye = torch.eye(r, dtype=X.dtype, device=X.device)
    L = torch.linalg.cholesky(eye + loadings.mT @ loadings)  # (K, r, r)
    P = torch.linalg.solve_triangular(L, loadings.mT, upper=False).mT  # (K, d, r)
    roots, offsets = scales[:, :, None] * P, (offsets[:, None, :] @ P)[:, 0]
    log_dets = torch.diagonal(L, dim1=1, dim2=2).log().sum(dim=1)
    return distances(X, roots, offsets), log_dets


def of_observed(difference, observed, covariances):
    r"""Return squared Mahalanobis distances of the observed values of rows: (n, K).

    Also return half the log-determinants of their precisions (n, J). `difference` (n,
    K, d) is 0 for missing values, `observed` (n, d) is 1 or 0, and `covariances` are
    (K, d, d), or (d, d) with J = 1.
    """
    # Missing values get the variance 1 and no correlation, which changes neither.
    pairs = observed[:, :, None] * observed[:, None, :]  # (n, d, d)
    filled = covariances * pairs[:, None] + torch.diag_embed(1 - observed)[:, None]
    if covariances.ndim == 2:
        filled = filled[:, :1]  # (n, 1, d, d)
    L = torch.linalg.cholesky(filled)
    z = torch.linalg.solve_triangular(L, difference[..., None], upper=False)[..., 0]
    log_dets = -torch.diagonal(L, dim1=-2, dim2=-1).log().sum(dim=-1)
    return z.square().sum(dim=2), log_dets


def low_rank_correction_of_observed(z, observed, loadings):
    r"""Return `low_rank_correction` for rows with missing values: both (n, K).

    `z` (n, K, d) are standardised differences, 0 for missing values, `observed` (n, d)
    is 1 or 0, and `loadings` are (K, d, r).
    """
    r = loadings.shape[2]
    eye = torch.eye(r, dtype=z.dtype, device=z.device)
    pairs = loadings[:, :, :, None] * loadings[:, :, None, :]  # (K, d, r, r)
    inner = torch.einsum("nd,kdrs->nkrs", observed, pairs.to(z.dtype))
    L = torch.linalg.cholesky(eye + inner)
    b = torch.einsum("nkd,kdr->nkr", z, loadings.to(z.dtype))
    y = torch.linalg.solve_triangular(L, b[..., None], upper=False)[..., 0]
    log_dets = torch.diagonal(L, dim1=-2, dim2=-1).log().sum(dim=-1)
    return y.square().sum(dim=2), log_dets
