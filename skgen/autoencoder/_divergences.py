"""How far codes are from their prior: the terms that losses add."""

import math

import torch


def kl_to_standard_normal(mean, log_variance):
    r"""Return :math:`\mathrm{KL}(\mathcal N(\mu, \sigma^2) \| \mathcal N(0, I))`.

    Parameters
    ----------
    mean, log_variance : torch.Tensor of shape (..., k)
        The normal densities, independent in each number.

    Returns
    -------
    torch.Tensor of shape (...)
        In nats.
    """
    terms = mean.square() + torch.expm1(log_variance) - log_variance  # (..., k)
    return 0.5 * terms.sum(-1)


def directions(n_projections, k, like, generator=None):
    """Draw directions of uniform angle: (k, n_projections), of unit length."""
    normal = torch.empty(k, n_projections, dtype=like.dtype, device=like.device)
    normal.normal_(generator=generator)
    return normal / normal.norm(dim=0, keepdim=True).clamp(min=1e-30)


def sliced_distance(x, y, projections, p=2):
    r"""Return the `p`-th power of the sliced-Wasserstein distance of two samples.

    Along each direction the best coupling of two samples of equal size is that of
    their order, so that

    .. math:: \mathrm{SW}_p^p = \frac1{LM} \sum_{l=1}^L \sum_{i=1}^M
              |(\theta_l^\top x)_{(i)} - (\theta_l^\top y)_{(i)}|^p .

    Parameters
    ----------
    x, y : torch.Tensor of shape (M, k)
        The samples.
    projections : torch.Tensor of shape (k, L)
        The directions.
    p : float, default=2
        The power of the cost.

    Returns
    -------
    torch.Tensor
        A scalar: the mean over directions and rows.
    """
    x = torch.sort(x @ projections, dim=0).values  # (M, L)
    y = torch.sort(y @ projections, dim=0).values
    return (x - y).abs().pow(p).mean()


def sliced_distance_to_normal(x, projections, p=2):
    """Return the same to the standard normal density, by its exact quantiles.

    Every projection of a standard normal vector is a standard normal number: the
    other sample can be the M quantiles in the middle of M equal shares, without its
    noise and without sorting it.
    """
    x = torch.sort(x @ projections, dim=0).values  # (M, L)
    n = x.shape[0]
    ranks = (torch.arange(n, dtype=torch.float64, device=x.device) + 0.5) / n
    quantiles = math.sqrt(2) * torch.erfinv(2 * ranks - 1)  # (M,)
    return (x - quantiles.to(x.dtype)[:, None]).abs().pow(p).mean()
