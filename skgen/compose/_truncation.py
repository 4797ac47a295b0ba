r"""Mass of a density within the bounded range of a transformer.

The density :math:`p` of transformed data is truncated to the range of the transformer,
a box :math:`B`, and renormalised: :math:`p(y) / P(B)` inside and 0 outside.
"""

import math

import numpy as np
from scipy import special

from skgen._interop import normal_components
from skgen._quasi_random import uniform_points

# Minimum number of quasi-random points of a component, and number for all components.
_LEAST_POINTS, _POINTS = 2**6, 2**16

# Number of components times points in a block.
_AT_ONCE = 2**18


def within(Y, bounds):
    """Return which (n, k) rows lie within bounds (k,): (n,)."""
    lower, upper = bounds
    return ((lower < Y) & (upper > Y)).all(axis=1)


def mass_inside(density, bounds):
    """Return the mass of a fitted density within bounds; None without a formula.

    `bounds` are two arrays of shape (k,), or two floats for all features.
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


def normal_mass(weights, means, factors, lower, upper):
    """Return the mass of a normal mixture in the box from `lower` to `upper` (b,).

    The weights are (C,), the means (C, b), the Cholesky factors (C or 1, b, b).
    """
    # Sequential conditioning at quasi-random points (Genz, 1992), which is exact for
    # independent features.
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
    """Return the mass of each component in a box: (C,)."""
    C, b = means.shape
    m = u.shape[0]
    noise = np.zeros((C, m, b))
    mass = np.ones((C, m))
    for j in range(b):
        # Conditional mean of feature j given the features before it.
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
