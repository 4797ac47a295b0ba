r"""Low rank plus diagonal covariances: a mixture of factor analysers.

.. math:: \Sigma_k = A_k A_k^\top + D_k, \qquad A_k \in R^{d \times r}.

No d x d matrix is formed. With :math:`B = D^{-1/2} A` of singular values
:math:`\sqrt{\lambda}` and left singular vectors :math:`V`, the symmetric root

.. math:: U = D^{-1/2} (I - V S V^\top), \qquad S = 1 - (1 + \lambda)^{-1/2},

has :math:`U U^\top = \Sigma^{-1}` (Woodbury, 1950).

Arrays have the shape (K, d, r + 1), with the columns of a matrix followed by a
diagonal: `A` and `D` for covariances; `C` and :math:`D^{-1}` with
:math:`\Sigma^{-1} = D^{-1} - C C^\top` for precisions; :math:`V \sqrt{S}` and
:math:`D^{-1/2}` for factors.

Drton, M., Sturmfels, B. and Sullivant, S. (2007). Algebraic factor analysis: tetrads,
pentads and beyond. Probability Theory and Related Fields 138, 463-493.
"""

import numpy as np
from sklearn.utils.extmath import randomized_svd

from skgen.mixture._covariance import COVARIANCES, AbstractCovariance


class LowRank(AbstractCovariance):
    """Low rank plus diagonal covariances: (K, d, r + 1)."""

    dense, whitening, module = False, "diag", "DiagonalModule"

    def n_parameters(self, covariances):
        K, d, columns = covariances.shape
        r = columns - 1
        # The covariance is invariant to rotations of the columns of A, and a symmetric
        # matrix has no more than d (d + 1) / 2 entries (Drton et al., 2007).
        return K * min(d * r - r * (r - 1) // 2 + d, d * (d + 1) // 2)

    def public(self, array):
        return array

    def stacked(self, array, d):
        return array

    def by_products(self, d):
        return False

    def of(self, blocks):
        return self

    def mask(self):
        return None

    def basis_of(self, d):
        return None

    def nearest(self, covariances):
        return covariances

    def narrowed(self, varying):
        return self

    def log_det(self, factors, K):
        shrinkage = (factors[:, :, :-1] ** 2).sum(axis=1)  # (K, r): S
        return np.log(factors[:, :, -1]).sum(axis=1) + np.log1p(-shrinkage).sum(axis=1)

    def standardise(self, backend, difference, factors, k):
        z = difference * factors[k, :, -1:]  # (s, d, c)
        P = factors[k, :, :-1]  # (d, r)
        return z - backend.product(P, backend.product(P.T, z))

    def colour(self, noise, factors, k):
        P = factors[k, :, :-1]  # (d, r)
        shrinkage = (P**2).sum(axis=0)  # (r,)
        z = noise + (noise @ (P / (1 - shrinkage))) @ P.T
        return z / factors[k, :, -1]

    def factors(self, covariances):
        scale = 1 / np.sqrt(covariances[:, :, -1:])  # (K, d, 1)
        V, roots, _ = np.linalg.svd(scale * covariances[:, :, :-1], full_matrices=False)
        # 1 - 1 / h, without cancellation for small singular values.
        h = np.hypot(1.0, roots)  # (K, r)
        shrinkage = roots**2 / (h * (1 + h))
        P = np.zeros((*covariances.shape[:2], covariances.shape[2] - 1))
        P[:, :, : V.shape[2]] = V * np.sqrt(shrinkage)[:, None]
        return np.concatenate([P, scale], axis=2)

    def precisions(self, factors):
        # (I - P P')^2 = I - P (2 - P' P) P', and the columns of P are orthogonal.
        P, scale = factors[:, :, :-1], factors[:, :, -1:]
        shrinkage = (P**2).sum(axis=1, keepdims=True)  # (K, 1, r)
        return np.concatenate([scale * P * np.sqrt(2 - shrinkage), scale**2], axis=2)

    def widened(self, covariances, varying):
        K, _, columns = covariances.shape
        wide = np.zeros((K, varying.size, columns))
        wide[:, :, -1] = 1.0
        wide[:, varying] = covariances
        return wide

    def restricted(self, covariances, factors, features):
        covariances = covariances[:, features]
        return self, covariances, self.factors(covariances)

    def conditional(self, covariances, factors, o, m):
        # With M = (I + A_o' D_o^-1 A_o)^-1, the slopes are A_m M A_o' D_o^-1, and the
        # covariances of the residuals A_m M A_m' + D_m (Woodbury, 1950).
        A, D = covariances[:, :, :-1], covariances[:, :, -1]
        scaled = A[:, o] / D[:, o, None]  # (K, o, r)
        inner = np.eye(A.shape[2]) + scaled.swapaxes(1, 2) @ A[:, o]
        M = np.linalg.inv(inner)
        slopes = A[:, m] @ (M @ scaled.swapaxes(1, 2))
        # inner = L L', so that M = L^-T L^-1.
        root = np.linalg.inv(np.linalg.cholesky(inner)).swapaxes(1, 2)
        residual = np.concatenate([A[:, m] @ root, D[:, m, None]], axis=2)
        return slopes, self, residual, self.factors(residual)

    def least_variances(self, covariances):
        return covariances[:, :, -1].min(axis=1)

    def to_data(self, covariances, whitening):
        scale = whitening.scale[:, None]  # (d, 1)
        loadings = covariances[:, :, :-1] * scale
        variances = covariances[:, :, -1:] * scale**2
        covariances = np.concatenate([loadings, variances], axis=2)
        return covariances, self.factors(covariances)


ALL_COVARIANCES = {**COVARIANCES, "lowrank": LowRank()}


def low_rank_of(X, r, mean, variances, rank, rng):
    """Return the low rank plus diagonal covariance of a cluster: (d, r + 1).

    `r` are the weighted responsibilities of the rows (n,).
    """
    # Probabilistic PCA (Tipping and Bishop, 1999): the leading directions, less the
    # mean variance of the others.
    d = variances.size
    columns = np.zeros((d, rank + 1))
    columns[:, -1] = variances
    rows = r > 0
    rank = min(rank, int(rows.sum()) - 1, d - 1)
    if rank < 1:
        return columns
    centred = np.sqrt(r[rows, None]) * (X[rows] - mean)  # (m, d)
    _, roots, directions = randomized_svd(
        centred, rank, n_iter=2, power_iteration_normalizer="QR", random_state=rng
    )
    captured = roots**2 / r.sum()  # (rank,)
    rest = max((variances.sum() - captured.sum()) / (d - rank), 0.0)
    loadings = directions.T * np.sqrt(np.maximum(captured - rest, 0.0))  # (d, rank)
    columns[:, :rank] = loadings
    columns[:, -1] = np.maximum(variances - (loadings**2).sum(axis=1), 0.1 * variances)
    return columns
