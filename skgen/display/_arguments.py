"""Checks of the arguments of displays."""

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from skgen._checks import (
    Described,
    generator,
    has_methods,
    is_integer,
    is_real,
    numbers_only,
    seed_of,
    with_nan,
    wrong_argument,
)
from skgen._interop import draw, frame_kind, framed
from skgen._lazy import is_installed, missing_package

MAX_SHOWN = 4  # columns of a corner plot, unless the caller chooses columns


def check_matplotlib(method):
    """Raise an ImportError for `method` unless matplotlib is installed."""
    if not is_installed("matplotlib"):
        raise missing_package("matplotlib", method)


def check_whole(method, name, value, minimum):
    """Raise unless an argument is an int of at least `minimum`."""
    if not is_integer(value, minimum):
        raise wrong_argument(method, name, f"an int of at least {minimum}", value)


def check_estimator(method, estimator, *needed):
    """Raise unless the estimator is fitted and has the `needed` methods."""
    if not has_methods(estimator, *needed):
        rule = f"a fitted estimator that has {' and '.join(map(repr, needed))}"
        kind = estimator if isinstance(estimator, type) else type(estimator)
        raise wrong_argument(method, "estimator", rule, Described(kind.__name__))
    check_is_fitted(estimator)


def check_columns(method, estimator_columns, columns):
    """Raise unless the data and the draws have the same number of columns."""
    if columns != estimator_columns:
        rule = f"an array of {estimator_columns} columns, as in fit"
        raise wrong_argument(method, "X", rule, Described(f"{columns} columns"))


def numbers(method, X, *, nan=False):
    """Return `X` as a finite float64 array of shape (n, d), with NaN if `nan`."""
    what, options = f"The 'X' argument of {method}", {"input_name": "X"}
    if nan:
        X, options = with_nan(X), {**options, "ensure_all_finite": "allow-nan"}
    return numbers_only(what, check_array, X, **options).astype(np.float64)


def drawn(sample, n_samples, random_state):
    """Return float64 draws of a bound `sample` or `sample_latent`.

    Without `random_state`, the `random_state` of the estimator seeds the draws.
    """
    estimator = sample.__self__
    if random_state is None:
        random_state = seed_of(estimator)
    return draw(estimator, n_samples, generator(random_state), sample.__name__)


def scored(estimator, X, rows):
    """Return the log-densities of (n, d) rows, handed over with the names of `X`."""
    seen, kind = getattr(estimator, "feature_names_in_", None), frame_kind(X)
    rows = rows if kind is None else framed(rows, seen, kind)
    return np.asarray(estimator.score_samples(rows))


def _items(value):
    """Return the items of a sequence as a list; an empty list for all else."""
    return [] if isinstance(value, str) or not np.iterable(value) else list(value)


def checked_masses(method, masses):
    """Return the masses of regions as a sorted (n_levels,) array."""
    values = _items(masses)
    inside = all(is_real(mass) and 0.0 < mass < 1.0 for mass in values)
    if not values or not inside or len(set(values)) < len(values):
        rule = "one or more different numbers between 0 and 1"
        raise wrong_argument(method, "masses", rule, masses)
    return np.sort(np.array(values, dtype=np.float64))


def checked_limits(method, limits, n_shown):
    """Return the ends of axes as an (n_shown, 2) array; None for None."""
    if limits is None:
        return None
    rule = f"{n_shown} pairs (low, high) of numbers, one for each column that is shown"
    ends = [_items(pair) for pair in _items(limits)]
    valid = all(len(pair) == 2 and all(map(is_real, pair)) for pair in ends)
    if len(ends) != n_shown or not valid or any(low >= high for low, high in ends):
        raise wrong_argument(method, "limits", rule, limits)
    return np.array(ends, dtype=np.float64)


def checked_names(method, feature_names, estimator, X, n_features):
    """Return the names of all features, given or of a dataframe, as a list; or None."""
    seen = getattr(estimator, "feature_names_in_", None)
    columns = getattr(X, "columns", None)
    if seen is not None and columns is not None and list(columns) != list(seen):
        rule = f"a dataframe with the columns of fit, {list(seen)}"
        raise wrong_argument(method, "X", rule, Described(list(columns)))
    names = seen if columns is None else columns
    if feature_names is not None:
        names = _items(feature_names)
        if len(names) != n_features:
            rule = f"{n_features} names, one for each feature"
            raise wrong_argument(method, "feature_names", rule, feature_names)
    return None if names is None else list(names)


def checked_features(method, features, names, n_features):
    """Return the indices of the columns to show, in the order of `features`."""
    if features is None:
        return list(range(min(n_features, MAX_SHOWN)))
    known = [] if names is None else names
    shown = [
        known.index(feature)
        if isinstance(feature, str) and feature in known
        else feature
        for feature in _items(features)
    ]
    valid = all(is_integer(j, 0) and j < n_features for j in shown)
    if not shown or not valid or len(set(shown)) < len(shown):
        rule = f"a list of different ints from 0 to {n_features - 1}"
        if names is not None:
            rule += f", or of names in {names}"
        raise wrong_argument(method, "features", rule, features)
    return [int(j) for j in shown]
