r"""Bounded features: kernels folded back at the edges.

With :math:`Y` drawn from the kernels and :math:`F` the map that folds the line into
:math:`[a, b]` like a strip of paper, :math:`F(Y)` has the density

.. math:: p(x) = \sum_{y : F(y) = x} p_Y(y),

for folding keeps lengths: the sum of the unbounded density over all points that fold
onto `x`, its images. It integrates to one over the box whatever :math:`p_Y` is, and
leaks nothing (reflection; Schuster, 1985).
"""

from itertools import product

import numpy as np
from scipy.special import ndtr

from skgen._parameters import invalid_parameter, is_real

# An image is left out whose kernels are smaller than those of the point itself by so
# many nats: they weigh less than rounding.
NEGLIGIBLE = 45.0

# A bound farther than this from every row of the fit is none: the density there is
# less than the least number, e^-745.
_OUT_OF_REACH = 39.0

# The most images of a row: every one costs as much as the row.
_MOST_IMAGES = 2**12


def checked_bounds(model, n_features):
    """Return the lower and upper bounds of features, (d,) each; None without any."""
    bounds = model.bounds
    if bounds is None:
        return None
    rule = (
        "None, a pair of a lower and an upper bound for all features, or such a pair "
        f"or None for each of the {n_features} features; None in a pair is no bound"
    )
    wrong = invalid_parameter(model, "bounds", rule, bounds)
    try:
        pairs = list(bounds)
    except TypeError:
        raise wrong from None
    if len(pairs) == 2 and all(end is None or is_real(end) for end in pairs):
        pairs = [pairs] * n_features
    if len(pairs) != n_features:
        raise wrong
    lower, upper = np.full(n_features, -np.inf), np.full(n_features, np.inf)
    for j, pair in enumerate(pairs):
        if pair is None:
            continue
        try:
            low, high = pair
        except (TypeError, ValueError):
            raise wrong from None
        for ends, end in ((lower, low), (upper, high)):
            if end is not None:
                if not is_real(end):
                    raise wrong
                ends[j] = end
        if not lower[j] < upper[j]:
            raise wrong
    return lower, upper


def fold(Y, lower, upper):
    """Fold (n, d) points into the bounds, feature by feature."""
    X = np.array(Y, dtype=np.float64)
    for j, (a, b) in enumerate(zip(lower, upper, strict=True)):
        if np.isfinite(a) and np.isfinite(b):
            # Once around is twice the length: there and back.
            turn = np.mod(X[:, j] - a, 2 * (b - a))
            X[:, j] = a + np.minimum(turn, 2 * (b - a) - turn)
        elif np.isfinite(a):
            X[:, j] = a + np.abs(X[:, j] - a)
        elif np.isfinite(b):
            X[:, j] = b - np.abs(b - X[:, j])
    return np.clip(X, lower, upper)


def image_maps(lower, upper, deviations, correlated=False):
    """Return the maps of each feature onto its images: a list of (sign, shift) each.

    Parameters
    ----------
    lower, upper : ndarray of shape (d,)
        The bounds.
    deviations : ndarray of shape (d,)
        The standard deviations of the kernel.
    correlated : bool, default=False
        Whether the kernel is wider in some direction that is no feature.

    Returns
    -------
    list of list of tuple of two floats
        The first of each feature is (1, 0), the point itself.
    """
    maps = []
    for a, b, h in zip(lower, upper, deviations, strict=True):
        if np.isfinite(a) and np.isfinite(b):
            turns = _turns((b - a) / h, correlated)
            maps.append([(sign, 2 * (b - a) * k + a - sign * a) for sign, k in turns])
        elif np.isfinite(a):
            maps.append([(1.0, 0.0), (-1.0, 2 * a)])
        elif np.isfinite(b):
            maps.append([(1.0, 0.0), (-1.0, 2 * b)])
        else:
            maps.append([(1.0, 0.0)])
    return maps


def _turns(length, correlated):
    """Return the images between two bounds, as (sign, turns), the point itself first.

    With a point and a row `length` kernels apart at most, the image after `k` turns is
    farther from the row, by a square of at least ``4 length^2`` times ``k^2 - |k|``
    where it is shifted, and ``min(k^2, (k - 1)^2)`` where it is reflected too.
    """
    most = int(np.sqrt(0.5 * NEGLIGIBLE) / length) + 2
    images = []
    for k in sorted(range(-most, most + 1), key=abs):
        for sign, farther in ((1.0, k * k - abs(k)), (-1.0, min(k * k, (k - 1) ** 2))):
            # Across correlated features a row may be nearer to an image than that.
            if correlated or 2 * length**2 * farther <= NEGLIGIBLE:
                images.append((sign, k))
    return images


def within_reach(X, lower, upper, deviations):
    """Return the bounds that kernels on (n, d) rows reach, infinite for the others."""
    far = _OUT_OF_REACH * deviations
    return (
        np.where(X.min(axis=0) - lower > far, -np.inf, lower),
        np.where(upper - X.max(axis=0) > far, np.inf, upper),
    )


def n_images(maps):
    """Return how many images a row has."""
    return int(np.prod([len(of_feature) for of_feature in maps], dtype=float))


def check_images(model, maps):
    """Raise where a row has more images than can be summed."""
    if n_images(maps) > _MOST_IMAGES:
        raise invalid_parameter(
            model,
            "bounds",
            f"such that a row has up to {_MOST_IMAGES} reflections, which double with "
            "every bounded feature and with kernels wider than the bounds",
            model.bounds,
        )


def images(X, maps):
    """Yield the images of (n, d) rows, the rows themselves first."""
    for chosen in product(*maps):
        signs, shifts = np.transpose(chosen)  # (d,)
        yield signs * X + shifts


def folded_means(Z, maps, lower, upper, deviations):
    """Return the means of normal densities about (n, d) points, folded: (n, d)."""
    means = np.array(Z, dtype=np.float64)
    for j, h in enumerate(deviations):
        if len(maps[j]) == 1:
            continue
        a, b = lower[j], upper[j]
        total = np.zeros(Z.shape[0])
        for sign, shift in maps[j]:
            centre = sign * Z[:, j] + shift
            low, high = (a - centre) / h, (b - centre) / h
            total += centre * (ndtr(high) - ndtr(low))
            total -= (
                h
                / np.sqrt(2 * np.pi)
                * (np.exp(-0.5 * high**2) - np.exp(-0.5 * low**2))
            )
        means[:, j] = total
    return np.clip(means, lower, upper)
