"""Sliced-Wasserstein distance: between two samples, and as a term of a loss."""

from __future__ import annotations

import math

import numpy as np
from sklearn.utils import check_array

from skgen._checks import (
    Described,
    checked_generator,
    is_integer,
    is_real,
    numbers_only,
    wrong_argument,
)
from skgen._lazy import lazy_module
from skgen._typing import MatrixLike, RandomState

torch = lazy_module("torch", "SWAE")

_NAME = "sliced_wasserstein_distance"


def sliced_wasserstein_distance(
    X: MatrixLike,
    Y: MatrixLike,
    n_projections: int = 50,
    *,
    p: float = 2,
    random_state: RandomState = None,
) -> float:
    r"""Return the sliced-Wasserstein distance between two samples.

    Both samples are projected on random directions :math:`\theta_l`. In one dimension
    the optimal transport plan preserves the order of the points, so that the
    Wasserstein distance follows from sorted projections. The sliced distance averages
    the cost over the directions [1]_,

    .. math:: \mathrm{SW}_p(X, Y) = \Big( \frac1L \sum_{l=1}^L
              \int_0^1 |F_{l,X}^{-1}(t) - F_{l,Y}^{-1}(t)|^p \, dt \Big)^{1/p},

    where :math:`F_{l,X}^{-1}` is the quantile function of :math:`\theta_l^\top X`.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        First sample.
    Y : array-like of shape (m_samples, n_features)
        Second sample, with the same features. The number of rows may differ.
    n_projections : int, default=50
        Number :math:`L` of directions, drawn uniformly from the unit sphere.
    p : float, default=2
        Exponent of the cost, at least 1.
    random_state : int, RandomState, Generator or None, default=None
        Seed or generator of the directions. Pass an int for reproducible results.
        NumPy's global generator is never used.

    Returns
    -------
    float
        Distance, in the units of the features.

    Raises
    ------
    ValueError
        If `X` or `Y` contains NaN or infinity, if their numbers of features differ,
        or if another argument is invalid.

    See Also
    --------
    SWAE : Autoencoder that matches its codes to a prior by this distance.

    Notes
    -----
    Each sample is sorted `n_projections` times. For ``p=2``, the expected squared
    distance over random directions is at most the squared Wasserstein distance divided
    by the number of features.

    References
    ----------
    .. [1] Bonneel, N., Rabin, J., Peyre, G. and Pfister, H. (2015). Sliced and Radon
       Wasserstein barycenters of measures. Journal of Mathematical Imaging and
       Vision 51, 22-45.

    Examples
    --------
    >>> import numpy as np
    >>> from skgen import sliced_wasserstein_distance
    >>> X = np.random.RandomState(0).normal(size=(500, 1))
    >>> round(sliced_wasserstein_distance(X, X + 3, random_state=0), 6)
    3.0
    """
    if not is_integer(n_projections, 1):
        raise _invalid("n_projections", "an int of at least 1", n_projections)
    if not (is_real(p) and p >= 1):
        raise _invalid("p", "a finite number of at least 1", p)
    rng = checked_generator(_NAME, random_state)
    X, Y = (
        numbers_only(
            f"The {name!r} argument of {_NAME}", check_array, table, input_name=name
        ).astype(np.float64)
        for name, table in (("X", X), ("Y", Y))
    )
    if X.shape[1] != Y.shape[1]:
        rule = f"an array with the {X.shape[1]} features of X"
        raise _invalid("Y", rule, Described(f"{Y.shape[1]} features"))
    directions = rng.standard_normal((X.shape[1], n_projections))
    directions /= np.linalg.norm(directions, axis=0)
    x, y = np.sort(X @ directions, axis=0), np.sort(Y @ directions, axis=0)
    if X.shape[0] == Y.shape[0]:
        costs = (np.abs(x - y) ** p).mean(axis=0)  # (L,)
    else:
        costs = _cost_of_quantiles(x, y, p)
    return float(costs.mean() ** (1 / p))


def _cost_of_quantiles(x, y, p):
    """Return the cost (L,) for each column of sorted x (n, L) and y (m, L)."""
    n, m = x.shape[0], y.shape[0]
    # Both quantile functions are constant between successive ranks.
    ranks = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)  # of n m
    widths = np.diff(ranks, prepend=0) / (n * m)
    gaps = np.abs(x[(ranks - 1) // m] - y[(ranks - 1) // n])  # (ranks, L)
    return widths @ gaps**p


def _invalid(name, rule, got):
    return wrong_argument(_NAME, name, rule, got)


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
