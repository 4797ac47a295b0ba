"""Checks of the estimator and the data of a display."""

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from skgen._checks import (
    RANDOM_STATE_RULE,
    Described,
    generator,
    has_methods,
    is_integer,
    is_random_state,
    numbers_only,
    seed_of,
    wrong_argument,
)
from skgen._interop import draw, frame_kind, framed
from skgen._lazy import is_installed, missing_package


def check_matplotlib(method):
    """Raise an ImportError for `method` unless matplotlib is installed."""
    if not is_installed("matplotlib"):
        raise missing_package("matplotlib", method)


def check_whole(method, name, value, minimum):
    """Raise unless an argument is an int of at least `minimum`."""
    if not is_integer(value, minimum):
        raise wrong_argument(method, name, f"an int of at least {minimum}", value)


def check_seed(method, value):
    """Raise unless `value` is a valid random_state."""
    if not is_random_state(value):
        raise wrong_argument(method, "random_state", RANDOM_STATE_RULE, value)


def check_estimator(method, estimator, needed):
    """Raise unless the estimator is fitted and has these methods."""
    if not has_methods(estimator, *needed):
        listed = " and ".join(repr(name) for name in needed)
        raise wrong_argument(
            method,
            "estimator",
            f"a fitted estimator that has {listed}",
            Described(
                estimator.__name__
                if isinstance(estimator, type)
                else type(estimator).__name__
            ),
        )
    check_is_fitted(estimator)


def drawn(method, n_samples, random_state):
    """Return float64 draws of a bound `sample` or `sample_latent`.

    Without `random_state`, the `random_state` of the estimator seeds the draws.
    """
    estimator = method.__self__
    if random_state is None:
        random_state = seed_of(estimator)
    return draw(estimator, n_samples, generator(random_state), method.__name__)


def numbers(method, X):
    """Return `X` as a finite float64 array of shape (n, d)."""
    what = f"The 'X' argument of {method}"
    return numbers_only(what, check_array, X, input_name="X").astype(np.float64)


def check_columns(method, estimator_columns, columns):
    """Raise unless the data and the draws have the same number of columns."""
    if columns != estimator_columns:
        rule = f"an array of {estimator_columns} columns, as in fit"
        raise wrong_argument(method, "X", rule, Described(f"{columns} columns"))


def as_fitted(estimator, X, rows):
    """Return (n, d) rows as a dataframe like `X` if the estimator has feature names."""
    seen, kind = getattr(estimator, "feature_names_in_", None), frame_kind(X)
    return rows if kind is None else framed(rows, seen, kind)
