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

from skgen._checks import invalid_parameter, is_real

# Images are ignored if their kernels are smaller than the kernels of the point itself
# by this number of nats: they contribute less than rounding.
NEGLIGIBLE = 45.0

# Bounds more than this many bandwidths away from every training row are ignored: the
# density there underflows, below e^-745.
_OUT_OF_REACH = 39.0

# Maximum number of images of a row. Each of them is scored like another row.
_MOST_IMAGES = 2**12


def checked_bounds(model, n_features):
    """Return the lower and upper bounds of a model's features, (d,) each, or None."""
    bounds = model.bounds
    if bounds is None:
        return None
    rule = (
        "None, a pair (lower, upper) for all features, or a list of a pair or None for "
        f"each of the {n_features} features; None in a pair means no bound"
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
        elif np.isfinite(a):
            maps.append([(1.0, 0.0), (-1.0, 2 * a)])
        elif np.isfinite(b):
            maps.append([(1.0, 0.0), (-1.0, 2 * b)])
        else:
            maps.append([(1.0, 0.0)])
    return maps


def _turns(length, correlated):
    """Return the images between two bounds as (sign, k), the point itself first.

    `length` is the distance of the bounds in bandwidths.
    """
    # A point and a row are at most `length` apart. The squared distance of the row to
    # image `k` is larger by at least `4 length^2` times `k^2 - |k|` if the image is
    # shifted, and times `min(k^2, (k - 1)^2)` if it is reflected as well.
    most = int(np.sqrt(0.5 * NEGLIGIBLE) / length) + 2
    images = []
    for k in sorted(range(-most, most + 1), key=abs):
        for sign, farther in ((1.0, k * k - abs(k)), (-1.0, min(k * k, (k - 1) ** 2))):
            # Correlated kernels can bring an image nearer than this estimate.
            if correlated or 2 * length**2 * farther <= NEGLIGIBLE:
                images.append((sign, k))
    return images


def within_reach(X, lower, upper, deviations):
    """Return the bounds (d,), infinite where no kernel on (n, d) rows reaches them."""
    far = _OUT_OF_REACH * deviations
    return (
        np.where(X.min(axis=0) - lower > far, -np.inf, lower),
        np.where(upper - X.max(axis=0) > far, np.inf, upper),
    )


def n_images(maps):
    """Return the number of images of a row."""
    return int(np.prod([len(of_feature) for of_feature in maps], dtype=float))


def check_images(model, maps):
    """Raise if a row has too many images to sum."""
    if n_images(maps) > _MOST_IMAGES:
        raise invalid_parameter(
            model,
            "bounds",
            f"such that a row has up to {_MOST_IMAGES} reflections; their number "
            "doubles with every bounded feature, and grows for kernels that are wide "
            "compared with the range",
            model.bounds,
        )


def images(X, maps):
    """Yield the images (n, d) of (n, d) rows, beginning with the rows themselves."""
    for chosen in product(*maps):
        signs, shifts = np.transpose(chosen)  # (d,)
        yield signs * X + shifts


def folded_means(Z, maps, lower, upper, deviations):
    """Return the means (n, d) of folded kernels on (n, d) points."""
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
