"""Checks of rows, weights and the arguments of draws, the same for every estimator."""

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from skgen._parameters import (
    RANDOM_STATE_RULE,
    InvalidParameterError,
    invalid_argument,
    is_integer,
    is_random_state,
    is_real,
    numbers_only,
)

# The largest magnitude of rows that a model takes.
LARGEST = 1e150


def validated_rows(model, X, *, reset=False):
    """Return the rows as a float64 or float32 array of finite numbers.

    Parameters
    ----------
    model : estimator
        Whose number and names of features are checked, or set where `reset` says so.
    X : array-like of shape (n_samples, n_features)
        The rows.
    reset : bool, default=False
        Whether these are the rows of a fit.

    Returns
    -------
    ndarray of shape (n_samples, n_features)
    """
    what = f"The 'X' argument of {type(model).__name__}"
    X = numbers_only(what, validate_data, model, X, reset=reset)
    check_magnitude(what, X)
    return X


def check_magnitude(what, X):
    """Raise for rows whose squares are no longer numbers."""
    largest = float(max(-X.min(), X.max()))
    if largest > LARGEST:
        raise InvalidParameterError(
            f"{what} must lie within {LARGEST:g} of 0. Got {largest:g} instead: "
            "rescale it."
        )


def column_names(model):
    """Return the names of the features as a list, None where there are none."""
    names = getattr(model, "feature_names_in_", None)
    return None if names is None else [str(name) for name in names]


def rows_to_answer(model, X):
    """Return rows as `validated_rows` does, but whole numbers as they are.

    These are finite, and become floats a few at a time: a mapped file of them is never
    in memory as a whole.
    """
    if isinstance(X, np.ndarray) and X.dtype.kind in "iu" and X.ndim == 2 and X.size:
        validate_data(model, X, reset=False, skip_check_array=True)
        return X
    return validated_rows(model, X)


def float_type(dtype):
    """Return the type of answers for rows of a type: float32 for it, else float64."""
    return np.dtype(np.float32 if dtype == np.float32 else np.float64)


def present(X, sample_weight):
    """Return rows and weights without those of weight 0, which is the row absent."""
    counts = sample_weight > 0
    return (X, sample_weight) if counts.all() else (X[counts], sample_weight[counts])


def validated_weight(model, sample_weight, n_samples, *, some=True):
    """Return the weights as a float64 array of shape (n_samples,); ones for None.

    `some` says that not all of them may be 0.
    """
    if sample_weight is None:
        return np.ones(n_samples)
    if is_real(sample_weight):
        sample_weight = np.full(n_samples, float(sample_weight))
    elif np.isscalar(sample_weight):
        sample_weight = [sample_weight]  # of the wrong shape, or text: said below
    what = f"The 'sample_weight' argument of {type(model).__name__}"
    weights = numbers_only(
        what,
        check_array,
        sample_weight,
        ensure_2d=False,
        input_name="sample_weight",
        estimator=model,
    ).astype(np.float64)
    with np.errstate(over="ignore"):
        total = weights.sum()
    if weights.shape != (n_samples,):
        rule, got = f"an array of shape ({n_samples},)", f"shape {weights.shape}"
    elif weights.min() < 0:
        rule, got = "nowhere negative", weights.min()
    elif some and weights.max() == 0:
        rule, got = "positive for some row", "a weight of zero for every row"
    elif not np.isfinite(total):
        rule, got = "of a finite sum", f"weights up to {weights.max():g}"
    else:
        return weights
    raise InvalidParameterError(f"{what} must be {rule}. Got {got} instead.")


def generator_of_draws(model, method, n_samples, random_state):
    """Check the arguments of a method that draws; return its generator."""
    if not is_integer(n_samples, 1):
        raise invalid_argument(
            model, method, "n_samples", "an int of at least 1", n_samples
        )
    if not is_random_state(random_state):
        raise invalid_argument(
            model, method, "random_state", RANDOM_STATE_RULE, random_state
        )
    return generator(model.random_state if random_state is None else random_state)


def generator(random_state):
    """Return a RandomState; None seeds a new one, never the global one."""
    if isinstance(random_state, np.random.RandomState):
        return random_state
    return np.random.RandomState(random_state)
