r"""Transformers of a bounded range: how much of a density lies inside it.

A density :math:`p` of what a transformer returns is cut to the values that it can
return, a box :math:`B`, and renormalised: :math:`p(y) / P(B)` inside, 0 outside.
"""

import math

import numpy as np
from scipy import special
from sklearn.mixture import GaussianMixture

from skgen._quasi_random import uniform_points
from skgen.kde import GaussianKDE
from skgen.mixture import EMGaussianMixture, SGDGaussianMixture

# Points of the quasi-random rule for one normal density, and for all of a mixture.
_LEAST_POINTS, _POINTS = 2**6, 2**16

# Components times points that are looked at together.
_AT_ONCE = 2**18


def inside(Y, bounds):
    """Tell which of (n, k) rows lie inside of bounds: (n,)."""
    lower, upper = bounds
    return ((lower < Y) & (upper > Y)).all(axis=1)


def mass_inside(density, bounds):
    """Return the mass of a density inside of bounds; None where no formula says it.

    Parameters
    ----------
    density : estimator
        A fitted density.
    bounds : tuple of two ndarrays of shape (k,)
        The least and the largest values; or two floats, for every feature.

    Returns
    -------
    float or None
    """
    components = normal_components(density)
    if components is None:
        return None
    weights, means, covariances = components
    lower, upper = (np.broadcast_to(bound, means.shape[1]) for bound in bounds)
    bounded = np.isfinite(lower) | np.isfinite(upper)
    lower, upper = lower[bounded], upper[bounded]
    covariances = covariances[:, bounded][:, :, bounded]
    try:
        factors = np.linalg.cholesky(covariances)
    except np.linalg.LinAlgError:
        return None
    return normal_mass(weights, means[:, bounded], factors, lower, upper)


def normal_components(density):
    """Return weights (C,), means (C, k) and covariances (C or 1, k, k), or None."""
    if isinstance(density, GaussianKDE) and density.bounds is not None:
        return None
    if isinstance(density, GaussianKDE):
        H = np.asarray(density.covariance_)
        H = H if H.ndim == 2 else np.diag(np.broadcast_to(H, density.n_features_in_))
        return density.weights_, density.X_train_.astype(np.float64), H[None]
    if not isinstance(
        density, (EMGaussianMixture, SGDGaussianMixture, GaussianMixture)
    ):
        return None
    means, covariances = density.means_, density.covariances_
    d = means.shape[1]
    match density.covariance_type:
        case "full":
            full = covariances
        case "tied":
            full = covariances[None]
        case "diag":
            full = covariances[:, :, None] * np.eye(d)
        case "spherical":
            full = covariances[:, None, None] * np.eye(d)
        case _:
            return None
    return density.weights_, means, full


def normal_mass(weights, means, factors, lower, upper):
    r"""Return the mass of a mixture of normal densities inside of a box.

    One feature after the other, each given those before it, at quasi-random points
    (Genz, 1992): exact for independent features.

    Parameters
    ----------
    weights : ndarray of shape (C,)
        The weights.
    means : ndarray of shape (C, b)
        The means.
    factors : ndarray of shape (C or 1, b, b)
        The Cholesky factors of the covariances.
    lower, upper : ndarray of shape (b,)
        The box.

    Returns
    -------
    float
    """
    C, b = means.shape
    dependent = np.any(np.tril(factors, -1) != 0)
    m = 1
    if dependent:
        m = 2 ** round(math.log2(max(_LEAST_POINTS, _POINTS / C)))
    u = uniform_points(m, max(1, b - 1))  # (m, b - 1)
    factors = np.broadcast_to(factors, (C, b, b))
    total = 0.0
    for first in range(0, C, max(1, _AT_ONCE // m)):
        part = slice(first, first + max(1, _AT_ONCE // m))
        masses = _masses(means[part], factors[part], lower, upper, u)
        total += weights[part] @ masses
    return float(total)


def _masses(means, L, lower, upper, u):
    """Return the masses of components inside of a box: (C,)."""
    C, b = means.shape
    m = u.shape[0]
    noise = np.zeros((C, m, b))
    mass = np.ones((C, m))
    for j in range(b):
        # Given the features before it, feature j is normal with this mean.
        mean = means[:, None, j] + np.einsum("cmi,ci->cm", noise[..., :j], L[:, j, :j])
        below, above = (
            special.ndtr((bound[j] - mean) / L[:, None, j, j])
            for bound in (lower, upper)
        )  # (C, m)
        mass *= above - below
        if j + 1 < b:
            quantiles = below + u[:, j] * (above - below)
            noise[..., j] = special.ndtri(quantiles.clip(1e-300, 1 - 1e-16))
    return mass.mean(axis=1)
