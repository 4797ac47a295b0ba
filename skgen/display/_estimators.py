"""What the displays ask of an estimator, skgen's or another's, and of the rows."""

from copy import copy
from inspect import signature

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from skgen._parameters import (
    RANDOM_STATE_RULE,
    Described,
    InvalidParameterError,
    is_integer,
    is_random_state,
    numbers_only,
)


def pyplot(method):
    """Return matplotlib.pyplot, or say how to install what `method` needs."""
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(
            f'{method} needs matplotlib: pip install "skgen[cli]"'
        ) from error
    return pyplot


def wrong(method, name, rule, got):
    """Return the error that says what argument `name` of `method` must be."""
    return InvalidParameterError(
        f"The {name!r} argument of {method} must be {rule}. Got {got!r} instead."
    )


def check_whole(method, name, value, minimum):
    """Raise unless an argument is an int of at least `minimum`."""
    if not is_integer(value, minimum):
        raise wrong(method, name, f"an int of at least {minimum}", value)


def check_seed(method, value):
    """Raise unless `value` can seed a generator."""
    if not is_random_state(value):
        raise wrong(method, "random_state", RANDOM_STATE_RULE, value)


def check_estimator(method, estimator, needed):
    """Raise unless the estimator is fitted and has the methods that are needed."""
    if isinstance(estimator, type) or not all(hasattr(estimator, n) for n in needed):
        listed = " and ".join(repr(name) for name in needed)
        raise wrong(
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
    """Return an estimator's draws as an array, without the global generator.

    `method` is a bound `sample` or `sample_latent`. scikit-learn's mixtures take no
    seed there and return the labels too; its kernel density has no seed of its own.
    """
    estimator = method.__self__
    seed = random_state
    if seed is None:
        seed = getattr(estimator, "random_state", None)
    if seed is None:
        seed = np.random.RandomState()
    if "random_state" in signature(method).parameters:
        rows = method(n_samples, random_state=seed)
    else:
        if hasattr(estimator, "random_state"):
            estimator = copy(estimator)
            estimator.random_state = seed
        rows = getattr(estimator, method.__name__)(n_samples)
    return np.asarray(rows[0] if isinstance(rows, tuple) else rows)


def numbers(method, X):
    """Return the rows of `X` as a finite float64 array."""
    what = f"The 'X' argument of {method}"
    return numbers_only(what, check_array, X, input_name="X").astype(np.float64)


def check_columns(method, estimator_columns, columns):
    """Raise unless the data have as many columns as the draws."""
    if columns != estimator_columns:
        rule = f"an array of {estimator_columns} columns, as was fitted"
        raise wrong(method, "X", rule, Described(f"{columns} columns"))


def as_fitted(estimator, X, rows):
    """Return `rows` as a dataframe like `X` where the estimator knows names."""
    seen = getattr(estimator, "feature_names_in_", None)
    library = type(X).__module__.partition(".")[0]
    if seen is None or library not in ("pandas", "polars"):
        return rows
    names = {"columns" if library == "pandas" else "schema": list(seen)}
    return type(X)(rows, **names)
