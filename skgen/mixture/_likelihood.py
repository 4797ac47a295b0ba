r"""The likelihood of a mixture as functions of tensors, for gradients to pass through.

`n` rows, `K` components, `d` features, `r` directions of low rank. All are in
whitened coordinates, in float32 where they train and in float64 where they are
checked.
"""

import math

import torch

LOG_2PI = math.log(2 * math.pi)


def mean_negative_log_likelihood(log_joint):
    r"""Return the loss of a mixture, a scalar in nats per row.

    .. math:: L = -\frac{1}{n} \sum_{i=1}^{n} \log \sum_{k=1}^{K}
              \exp\bigl(\log \pi_k + \log \mathcal{N}(x_i; \mu_k, \Sigma_k)\bigr)

    Parameters
    ----------
    log_joint : torch.Tensor of shape (n, K)
        The log-density of each row together with each component.
    """
    # Shares below e^-60 are nothing; but for this they would become denormal numbers,
    # on which processors multiply a hundred times slower.
    least = log_joint.detach().amax(dim=1, keepdim=True) - 60
    return -torch.logsumexp(torch.maximum(log_joint, least), dim=1).mean()


def log_joint(squared, log_weights, log_dets, d):
    r"""Return :math:`\log \pi_k + \log \mathcal{N}(x; \mu_k, \Sigma_k)`: (n, K).

    Parameters
    ----------
    squared : torch.Tensor of shape (n, K)
        Squared Mahalanobis distances.
    log_weights : torch.Tensor of shape (K,)
    log_dets : torch.Tensor of shape (K,)
        Half the log-determinants of the precisions.
    d : int
        The number of features.
    """
    return torch.add(log_weights + log_dets - 0.5 * d * LOG_2PI, squared, alpha=-0.5)


def dense_distances(X, roots, offsets):
    r"""Return :math:`|(x - \mu_k) U_k|^2` for a root of each component: (n, K).

    Parameters
    ----------
    X : torch.Tensor of shape (n, d)
    roots : torch.Tensor of shape (K, d, e)
        The `U_k`; all rows meet all of them in one matrix product.
    offsets : torch.Tensor of shape (K, e)
        :math:`\mu_k U_k`.
    """
    K, d, e = roots.shape
    flat = roots.permute(1, 0, 2).reshape(d, K * e)
    y = torch.addmm(offsets.reshape(-1), X, flat, beta=-1)  # (n, K e)
    return y.view(X.shape[0], K, e).square().sum(dim=2)


def dense_distances_by_product(X, precisions, means):
    r"""Return :math:`(x - \mu_k)^\top \Lambda_k (x - \mu_k)` by one product: (n, K).

    Distances are linear in the products of two features and the features, which all
    components share: half the arithmetic of `dense_distances`, and no (n, K, d).
    It loses :math:`\epsilon \mu_k^\top \Lambda_k \mu_k` to cancellation, so `X` and
    `means` must be about a point near the narrow components.

    Parameters
    ----------
    X : torch.Tensor of shape (n, d)
    precisions : torch.Tensor of shape (K, d, d)
    means : torch.Tensor of shape (K, d)
    """
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
    r"""Return :math:`\sum_j (x_j - \mu_{kj})^2 s_{kj}^2`, by differences: (n, K).

    Parameters
    ----------
    X : torch.Tensor of shape (n, d)
    scales : torch.Tensor of shape (K, d)
        One over the standard deviations.
    means : torch.Tensor of shape (K, d)
    """
    return ((X[:, None, :] - means) * scales).square().sum(dim=2)


def scaled_distances_by_product(X, scales, means):
    r"""Return what `scaled_distances` does, by one matrix product: (n, K).

    It loses :math:`\epsilon \sum_j \mu_{kj}^2 s_{kj}^2` to cancellation, so `X` and
    `means` must be about a point near the narrow components.
    """
    squares = scales.square()  # (K, d)
    weighted = means * squares
    left = torch.cat([X.square(), X], dim=1)  # (n, 2 d)
    right = torch.cat([squares, -2 * weighted], dim=1)  # (K, 2 d)
    constant = (means * weighted).sum(dim=1)  # (K,)
    return torch.addmm(constant, left, right.T).clamp(min=0)


def low_rank_correction(X, scales, means, loadings):
    r"""Return what the low rank takes off distances, and off `log |U_k|`.

    With :math:`B = D^{-1/2} A`, :math:`M = I + B^\top B = L L^\top` and
    :math:`z = (x - \mu) D^{-1/2}` (Woodbury, 1950)

    .. math:: (x - \mu)^\top \Sigma^{-1} (x - \mu) = |z|^2 - |L^{-1} B^\top z|^2,
              \qquad \log |\Sigma| = \log |D| + 2 \log |L|.

    Parameters
    ----------
    X : torch.Tensor of shape (n, d)
    scales : torch.Tensor of shape (K, d)
        :math:`D^{-1/2}`.
    means : torch.Tensor of shape (K, d)
    loadings : torch.Tensor of shape (K, d, r)
        The `B`.

    Returns
    -------
    squared : torch.Tensor of shape (n, K)
    log_dets : torch.Tensor of shape (K,)
        :math:`\log |L|`.
    """
    r = loadings.shape[2]
    eye = torch.eye(r, dtype=X.dtype, device=X.device)
    L = torch.linalg.cholesky(eye + loadings.mT @ loadings)  # (K, r, r)
    P = torch.linalg.solve_triangular(L, loadings.mT, upper=False).mT  # (K, d, r)
    roots = scales[:, :, None] * P  # (K, d, r)
    offsets = (means[:, None, :] @ roots)[:, 0]  # (K, r)
    log_dets = torch.diagonal(L, dim1=1, dim2=2).log().sum(dim=1)
    return dense_distances(X, roots, offsets), log_dets
