r"""The likelihood of a mixture as differentiable functions of tensors.

Shapes: `n` rows, `K` components, `d` features, rank `r`. Coordinates are whitened, in
float32 for training and in float64 for tests.
"""

import math

import torch

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
