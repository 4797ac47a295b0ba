r"""Bounded features: kernels are reflected at the bounds.

Let :math:`Y` have the unbounded kernel density :math:`p_Y` and let :math:`F` fold the
real line into :math:`[a, b]` like a strip of paper. Folding preserves lengths, so the
density of :math:`F(Y)` is a sum over the points that fold onto `x`, its images
(reflection; Schuster, 1985):

.. math:: p(x) = \sum_{y : F(y) = x} p_Y(y).

It integrates to one over :math:`[a, b]` for every :math:`p_Y`.
"""

from itertools import product

import numpy as np
from scipy.special import ndtr

from skgen._checks import (
    InvalidParameterError,
    column_names,
    invalid_parameter,
    is_real,
)
from skgen._columns import list_columns

# Images are ignored if their kernels are smaller than the kernels of the point itself
# by this number of nats: they contribute less than rounding.
NEGLIGIBLE_IMAGE = 45.0

# Bounds more than this many bandwidths away from every training row are ignored: the
# density there underflows, below e^-745.
_OUT_OF_REACH = 39.0

# Maximum number of images of a row. Each of them is scored like another row.
_MOST_IMAGES = 2**12


def checked_bounds(model, X):
    """Return the lower and upper bounds of a model's features, (d,) each, or None.

    Raise if (n, d) training rows lie outside of the bounds.
    """
    bounds, d = model.bounds, X.shape[1]
    if bounds is None:
        return None
    rule = (
        "None, a pair (lower, upper) for all features, or a list of a pair or None for "
        f"each of the {d} features; None in a pair means no bound"
    )
    wrong = invalid_parameter(model, "bounds", rule, bounds)
    try:
        pairs = list(bounds)
        if len(pairs) == 2 and all(map(_is_end, pairs)):
            pairs = [pairs] * d
        pairs = [(None, None) if pair is None else tuple(pair) for pair in pairs]
    except TypeError:
        raise wrong from None
    ends = [end for pair in pairs for end in pair]
    if {*map(len, pairs)} != {2} or len(pairs) != d or not all(map(_is_end, ends)):
        raise wrong
    lower = np.array([-np.inf if low is None else low for low, _ in pairs], float)
    upper = np.array([np.inf if high is None else high for _, high in pairs], float)
    if not (lower < upper).all():
        raise wrong
    outside = np.flatnonzero(((lower > X) | (upper < X)).any(axis=0))
    if outside.size:
        names = list_columns(outside, column_names(model))
        raise InvalidParameterError(
            f"The 'X' argument of {type(model).__name__} must lie within the bounds. "
            f"Got values outside in the columns {names} instead."
        )
    return lower, upper


def _is_end(value):
    return value is None or is_real(value)


def fold(Y, lower, upper):
    """Fold (n, d) points into the bounds, feature by feature."""
    X = np.array(Y, dtype=np.float64)
    for j, (a, b) in enumerate(zip(lower, upper, strict=True)):
        if np.isfinite(a) and np.isfinite(b):
            # Reflections at both bounds repeat after twice the length.
            turn = np.mod(X[:, j] - a, 2 * (b - a))
            X[:, j] = a + np.minimum(turn, 2 * (b - a) - turn)
        elif np.isfinite(a):
            X[:, j] = a + np.abs(X[:, j] - a)
        elif np.isfinite(b):
            X[:, j] = b - np.abs(b - X[:, j])
    return np.clip(X, lower, upper)


def image_maps(lower, upper, deviations, correlated=False):
    """Return for each feature the pairs (sign, shift) that map a value to its images.

    The first pair is (1, 0), the value itself. All other arguments have shape (d,);
    `correlated` states whether the kernel has a full covariance.
    """
    maps = []
    for a, b, h in zip(lower, upper, deviations, strict=True):
        if np.isfinite(a) and np.isfinite(b):
            turns = _turns((b - a) / h, correlated)
            maps.append([(sign, 2 * (b - a) * k + a - sign * a) for sign, k in turns])
        else:
            ends = [end for end in (a, b) if np.isfinite(end)]
            maps.append([(1.0, 0.0), *((-1.0, 2 * end) for end in ends)])
    return maps


def _turns(length, correlated):
    """Return the images between two bounds as (sign, k), the point itself first.

    `length` is the distance of the bounds in bandwidths.
    """
    # A point and a row are at most `length` apart. The squared distance of the row to
    # image `k` is larger by at least `4 length^2` times `k^2 - |k|` if the image is
    # shifted, and times `min(k^2, (k - 1)^2)` if it is reflected as well.
    most = int(np.sqrt(0.5 * NEGLIGIBLE_IMAGE) / length) + 2
    images = []
    for k in sorted(range(-most, most + 1), key=abs):
        for sign, farther in ((1.0, k * k - abs(k)), (-1.0, min(k * k, (k - 1) ** 2))):
            # Correlated kernels can bring an image nearer than this estimate. Beyond
            # `most`, images matter only where the density is below e^-45 of its peak.
            if correlated or 2 * length**2 * farther <= NEGLIGIBLE_IMAGE:
                images.append((sign, k))
    return images


def images_within_reach(model, X, lower, upper, kernel):
    """Return the `image_maps` for a kernel on (n, d) rows; raise if they are many.

    Bounds (d,) that no kernel reaches are ignored.
    """
    far = _OUT_OF_REACH * kernel.deviations
    maps = image_maps(
        np.where(X.min(axis=0) - lower > far, -np.inf, lower),
        np.where(upper - X.max(axis=0) > far, np.inf, upper),
        kernel.deviations,
        correlated=kernel.is_correlated,
    )
    if n_images(maps) > _MOST_IMAGES:
        raise invalid_parameter(
            model,
            "bounds",
            f"such that a row has up to {_MOST_IMAGES} reflections; their number "
            "doubles with every bounded feature, and grows for kernels that are wide "
            "compared with the range",
            model.bounds,
        )
    return maps


def n_images(maps):
    """Return the number of images of a row."""
    return int(np.prod([len(of_feature) for of_feature in maps], dtype=float))


def images(X, maps):
    """Yield the images (n, d) of (n, d) rows, beginning with the rows themselves."""
    for chosen in product(*maps):
        signs, shifts = np.transpose(chosen)  # (d,)
        yield signs * X + shifts


def folded_means(Z, maps, lower, upper, deviations):
    """Return the means (n, d) of folded kernels on (n, d) points."""
    means = np.array(Z, dtype=np.float64)
    for j, (a, b, h) in enumerate(zip(lower, upper, deviations, strict=True)):
        if len(maps[j]) == 1:
            continue
        means[:, j] = 0.0
        for sign, shift in maps[j]:
            centre = sign * Z[:, j] + shift
            low, high = (a - centre) / h, (b - centre) / h
            means[:, j] += centre * (ndtr(high) - ndtr(low))
            means[:, j] -= h * (_normal_density(high) - _normal_density(low))
    return np.clip(means, lower, upper)


def folded_cdf(x, cdf, survival, maps, lower, upper):
    """Return the distribution function of a folded density in one dimension: (n,).

    `cdf` and `survival` of the density map (n,) points to probabilities, and `maps` are
    the pairs (sign, shift) of the images.
    """
    inside = np.clip(x, lower, upper)
    total = np.zeros(x.size)
    for sign, shift in maps:
        # The mass that is folded onto the values from the lower bound to x.
        function = cdf if sign > 0 else survival
        total += function(sign * inside + shift)
        if np.isfinite(lower):
            total -= function(np.array([sign * lower + shift]))
    total = np.clip(total, 0.0, 1.0)
    return np.where(x < lower, 0.0, np.where(x >= upper, 1.0, total))


def moved_between(X, lower, upper):
    """Return (n, d) rows moved close to two bounds, which leaves folded kernels equal.

    A kernel moved by twice the distance of the bounds is folded onto the same density.
    """
    X = X.copy()
    for x, a, b in zip(X.T, lower, upper, strict=True):
        if np.isfinite(a) and np.isfinite(b):
            period = 2 * (b - a)
            x -= period * np.rint((x - (a + 0.5 * (b - a))) / period)
    return X


def _normal_density(x):
    return np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)
