r"""Mixtures as modules: unconstrained parameters about a start that moves along.

Every parameter is a change from a start of its component, measured in units of that
component: a mean moves by standard deviations, a variance by factors. Steps of one
size then suit wide and narrow components, whatever the data. `maintain` makes the
mixture that was reached the new start, every so many steps.
"""

import math
from abc import abstractmethod

import numpy as np
import torch
from torch.nn.functional import softplus

from skgen._tensors import float64_copy
from skgen.mixture._covariance import floored, inverse_transpose
from skgen.mixture._likelihood import (
    dense_distances,
    dense_distances_by_product,
    log_joint,
    low_rank_correction,
    mean_negative_log_likelihood,
    scaled_distances,
    scaled_distances_by_product,
)
from skgen.neural._net import LossModule

# softplus(_UNIT) is one.
_UNIT = math.log(math.e - 1)

# What cancellation may cost a squared distance where it goes by a product.
_CANCELLATION = 0.02

# A component that holds less than this many rows is dead.
_LEAST_ROWS = 0.5


class MixtureModule(LossModule):
    """A mixture of `K` normal components in `d` whitened features.

    Abstract: a shape of covariances fills in ``_squared``, ``_values`` and
    ``_set_covariances``.

    Parameters
    ----------
    weights : ndarray of shape (K,)
    means : ndarray of shape (K, d)
    covariances : ndarray, by type
    floor : float
        The least variance in any direction.
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

    # -- the shape of the covariances ----------------------------------------------

    @abstractmethod
    def _make(self, shape):
        """Make the parameters and buffers of covariances of the given shape."""

    @abstractmethod
    def _squared(self, X):
        """Return squared distances (n, K), and half log-determinants (K,)."""

    @abstractmethod
    def _means(self):
        """Return the means: (K, d)."""

    @abstractmethod
    def _covariances(self):
        """Return the covariances, by type, without gradients."""

    @abstractmethod
    def _set_covariances(self, covariances, means, weights):
        """Make covariances the start."""

    @abstractmethod
    def _mended(self, covariances):
        """Return float64 covariances that are nowhere below the floor."""

    @abstractmethod
    def _averaged(self, covariances, k, weights):
        """Set the covariance of component `k` to the mean of all, in place."""

    # -- the loss --------------------------------------------------------------------

    def forward(self, X):
        """Return the mean negative log-likelihood of (n, d) rows, in nats."""
        return mean_negative_log_likelihood(self.log_joint(X))

    def _scaled(self, X, scales, means):
        """Return the squared differences of rows and means, scaled: (n, K)."""
        squared = scaled_distances_by_product(X, scales, means)
        if self.narrow.numel():
            apart = scaled_distances(X, scales[self.narrow], means[self.narrow])
            squared = squared.index_copy(1, self.narrow, apart)
        return squared

    def _set_narrow(self, lost):
        """Note for which components products would cancel too many digits.

        `lost` (K,) are the squared lengths of their means, in their own metric.
        """
        self._copy(self.apart, np.finfo(np.float32).eps * lost > _CANCELLATION)
        self.narrow = self.apart.nonzero()[:, 0]

    def load_state_dict(self, *arguments, **options):
        """Load buffers and parameters, and what follows from them."""
        keys = super().load_state_dict(*arguments, **options)
        self.narrow = self.apart.nonzero()[:, 0]
        return keys

    def log_joint(self, X):
        """Return the log-density of rows together with each component: (n, K)."""
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
        """Make a mixture the start, from which all parameters are changes."""
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
        """Make what was reached the start; mend covariances; revive the dead."""
        weights, means, covariances = self.values()
        if not all(np.isfinite(value).all() for value in (weights, means, covariances)):
            return  # the loss of this epoch says so
        dead = (weights * n_rows < _LEAST_ROWS) & ~self.revived.cpu().numpy()
        for k in np.flatnonzero(dead)[:1]:
            # A row of low density, but none of the lowest: those may be outliers.
            density = torch.logsumexp(self.log_joint(rows), dim=1)
            row = density.argsort()[rows.shape[0] // 10]
            means[k] = rows[row].cpu().double().numpy()
            self._averaged(covariances, k, weights)
            weights[k] = 0.5 / weights.size
            self.revived[k] = True
        self.start(weights / weights.sum(), means, covariances)


def _inverse_gram(roots):
    """Return the covariances whose precisions are ``U U^T``, `U` upper triangular."""
    eye = torch.eye(roots.shape[-1], dtype=roots.dtype, device=roots.device)
    inverse = torch.linalg.solve_triangular(roots, eye.expand_as(roots), upper=True)
    return inverse.mT @ inverse


def _positive(change):
    """Return a factor of one where there is no change, and positive everywhere."""
    return softplus(change + _UNIT)


class FullModule(MixtureModule):
    r"""A root for each component, :math:`U_k = U^0_k T_k` with `T` triangular."""

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
    r"""One root for all components."""

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
    """A variance for each component and feature."""

    def _make(self, shape):
        self.changes = torch.nn.Parameter(torch.zeros(shape))
        self.register_buffer("variances0", torch.ones(shape))
        self.register_buffer("centre", torch.zeros(self.d))

    def _variances(self):
        """Return the variances, of the shape of the parameters."""
        return self.floor + self.variances0 * _positive(self.changes)

    def _scales(self):
        """Return one over the standard deviations: (K, d)."""
        return self._variances().rsqrt()

    def _about(self, X):
        """Return rows and means about the centre, and the scales."""
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
        # A variance at the floor can still rise from it.
        above = np.maximum(covariances - self.floor, 1e-3 * self.floor + 1e-12)
        self._copy(self.variances0, above)
        self._set_centre(covariances, means, weights)

    def _set_centre(self, variances, means, weights):
        """Choose the point about which products of narrow components cancel least."""
        precisions = weights[:, None] / variances  # (K, d)
        centre = (precisions * means).sum(axis=0) / precisions.sum(axis=0)
        self._copy(self.centre, centre)
        self._set_narrow(((means - centre) ** 2 / variances).sum(axis=1))


class SphericalModule(DiagonalModule):
    """A variance for each component."""

    def _scales(self):
        return self._variances().rsqrt()[:, None].expand(-1, self.d)

    def _deviations0(self):
        return (self.floor + self.variances0).sqrt()[:, None]

    def _set_centre(self, variances, means, weights):
        spread = np.broadcast_to(variances[:, None], means.shape)
        super()._set_centre(spread, means, weights)


class LowRankModule(DiagonalModule):
    """A few directions for each component, and a variance for each of its features.

    Covariances have the shape (K, d, r + 1): the columns of `A`, then the diagonal
    of `D`.
    """

    def _make(self, shape):
        K, d, columns = shape
        super()._make((K, d))
        # The columns of A in units of the standard deviations of the start.
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
    """Return the point from which the means are least far, each in its own metric."""
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
