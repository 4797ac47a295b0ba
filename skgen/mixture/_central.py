r"""Coordinates in which outliers do not set the minimum variance of a component.

The minimum variance is a fraction of the variance of the rows. A few far rows, such as
codes for missing values, can make this variance arbitrarily large. The unit of a
direction is therefore at most ten standard deviations of the *central* rows: rows moved
to within ten spreads of each feature, and then of each whitened coordinate. The spread
is the length of the shortest interval with half of the distinct values, in units of a
normal density (the shorth of Andrews et al., 1972, Robust Estimates of Location). With
a quarter of them, the values at one end of a saturated feature would be the centre.
Rows without far outliers keep their whitening.
"""

from dataclasses import replace

import numpy as np
from scipy.special import ndtri

from skgen._warnings import quiet
from skgen._whitening import DiagonalWhitening, FullWhitening, estimate_whitening
from skgen.rows._moments import moments_of, observed_moments_of

# Maximum number of rows that are needed.
ROWS = 4096

# Maximum standard deviation of the rows in units of the central rows, and distance of
# central rows in spreads.
_WIDEST, _FARTHEST = 10.0, 10.0

# Fraction and minimum number of distinct values in the shortest interval.
_FRACTION, _LEAST_VALUES = 0.5, 10

# Maximum fraction of rows that are outliers for `limits_of`.
_RARE = 0.01

# Maximum number of times that whitened coordinates are limited.
_ROUNDS = 3


def central_whitening(whitening, X, sample_weight, blocks=()):
    """Return the whitening, narrowed where outliers widen it.

    X (m, d) is a sample of the rows, of which the first ones are used.
    """
    X, sample_weight = X[:ROWS], sample_weight[:ROWS]
    inside = moved_inside(X)
    if isinstance(whitening, DiagonalWhitening):
        return _narrowed_scales(whitening, X, inside, sample_weight)
    factor, inverse = whitening.factor.copy(), whitening.inverse.copy()
    Z, narrow = whitening.whiten(inside), False
    for block in blocks or [range(X.shape[1])]:
        i = np.array([j for j in block if not whitening.degenerate[j]], dtype=int)
        central = _central(Z[:, i], sample_weight) if i.size else None
        if central is None or central.degenerate.any():
            continue
        # Directions in which the central rows have the standard deviation 1 / wide.
        _, wide, directions = np.linalg.svd(central.inverse)
        if wide[0] > _WIDEST:
            units = np.minimum(1.0, _WIDEST / wide)  # (r,)
            factor[:, i] = factor[:, i] @ directions.T * units
            inverse[i] = directions @ inverse[i] / units[:, None]
            narrow = True
    if not narrow:
        return whitening
    return FullWhitening(
        _mean(inside, sample_weight), factor, inverse, whitening.degenerate
    )


def limits_of(whitening, X):
    """Return the whitening, narrowed by rare outliers, and the limits of other rows.

    X (m, d) is a sample of at most `ROWS` rows. The lowest and highest values are (d,)
    each, infinite without far and rare outliers.
    """
    infinite = np.full(X.shape[1], np.inf)
    central = central_whitening(whitening, X, np.ones(len(X)))
    if central is whitening:
        return whitening, (-infinite, infinite)
    limits = np.array([_limits(column) for column in X.T]).T  # (2, d)
    outside = ((X < limits[0]) | (X > limits[1])).any(axis=1)
    # Many rows outside are a heavy tail, which belongs to the density.
    if outside.mean() > _RARE:
        return whitening, (-infinite, infinite)
    if isinstance(whitening, DiagonalWhitening):
        # Once outliers are moved, central rows have unit variance.
        narrow = central.scale < whitening.scale
        scale = np.where(narrow, central.scale / _WIDEST, central.scale)
        central = replace(central, scale=scale)
    return central, limits


def _narrowed_scales(whitening, X, inside, sample_weight):
    """Return a diagonal whitening with a limited scale of each feature."""
    if inside is X:
        return whitening
    variances = _moments(inside, sample_weight).variances
    if (whitening.scale == whitening.scale[0]).all() and not whitening.degenerate.any():
        variances[:] = variances.mean()  # one scale for all features
    limits = np.where(whitening.degenerate, np.inf, _WIDEST * np.sqrt(variances))
    scale = np.where(limits > 0, np.minimum(whitening.scale, limits), whitening.scale)
    if (scale == whitening.scale).all():
        return whitening
    return replace(whitening, mean=_mean(inside, sample_weight), scale=scale)


def _mean(X, sample_weight):
    return _moments(X, sample_weight).mean


def _moments(X, sample_weight):
    """Return the moments of each feature of rows (m, d), which can have NaN."""
    if np.isnan(X).any():
        return observed_moments_of(X, sample_weight)
    return moments_of(X, sample_weight, full=False)


def _central(Z, sample_weight):
    """Return the full whitening of the central rows of (m, r) rows."""
    if Z.shape[0] < 2:
        return None
    with quiet():
        for _ in range(_ROUNDS):
            whitening = estimate_whitening(Z, sample_weight, "full")
            Y = whitening.whiten(Z)
            inside = moved_inside(Y)
            if inside is Y:
                break
            Z = whitening.unwhiten(inside)
    return whitening


def moved_inside(X):
    """Return the rows (m, d), moved to within a number of spreads; X if all are.

    NaN stays.
    """
    limits = np.array([_limits(column) for column in X.T])  # (d, 2)
    low, high = limits.T
    if not ((X < low) | (X > high)).any():
        return X
    return np.clip(X, low, high)


def _limits(values):
    """Return the lowest and highest central value of a feature (m,)."""
    values = np.unique(values)
    values = values[~np.isnan(values)]
    m = values.size
    count = max(int(np.ceil(_FRACTION * m)), min(m - 2, _LEAST_VALUES))
    if m < 5:  # too few values for outliers
        return -np.inf, np.inf
    lengths = values[count:] - values[:-count]
    i = lengths.argmin()
    spread = 0.5 * lengths[i] / ndtri(0.5 + 0.5 * count / m)
    centre = values[i] + 0.5 * lengths[i]
    return centre - _FARTHEST * spread, centre + _FARTHEST * spread
