"""Divergences of codes from their prior, as terms of a loss."""

import math

import torch


def kl_to_standard_normal(mean, log_variance):
    """Return KL(N(mean, diag(exp(log_variance))) || N(0, I)) in nats: (...).

    mean, log_variance: (..., k).
    """
    terms = mean.square() + torch.expm1(log_variance) - log_variance  # (..., k)
    return 0.5 * terms.sum(-1)


def directions(n_projections, k, like, generator=None):
    """Draw unit vectors, uniform on the sphere: (k, n_projections)."""
    normal = torch.empty(k, n_projections, dtype=like.dtype, device=like.device)
    normal.normal_(generator=generator)
    return normal / normal.norm(dim=0, keepdim=True).clamp(min=1e-30)


def sliced_distance(x, y, projections, p=2):
    """Return the p-th power of the sliced-Wasserstein distance of x, y (M, k).

    The mean of abs(sort(x @ theta) - sort(y @ theta)) ** p over the M rows and the
    directions theta in the columns of `projections` (k, L).
    """
    x = torch.sort(x @ projections, dim=0).values  # (M, L)
    y = torch.sort(y @ projections, dim=0).values
    return (x - y).abs().pow(p).mean()


def sliced_distance_to_normal(x, projections, p=2):
    """Return `sliced_distance` of x (M, k) to the standard normal distribution."""
    # Every projection of a standard normal vector is standard normal. The M quantiles
    # at (i - 1/2) / M replace a second sample: no sampling noise, and no sorting.
    x = torch.sort(x @ projections, dim=0).values  # (M, L)
    n = x.shape[0]
    ranks = (torch.arange(n, dtype=torch.float64, device=x.device) + 0.5) / n
    quantiles = math.sqrt(2) * torch.erfinv(2 * ranks - 1)  # (M,)
    return (x - quantiles.to(x.dtype)[:, None]).abs().pow(p).mean()
