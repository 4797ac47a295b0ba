"""Checks of data, weights and the arguments of `sample`, for every estimator."""

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

# Largest magnitude of the data: squares of larger values overflow.
LARGEST = 1e150


def validated_rows(model, X, *, reset=False, method=None):
    """Return (n, d) rows as a finite float64 or float32 array.

    If `reset`, set the number and names of the model's features, else check them.
    Errors name the `method`, which is "fit" by default if `reset`.
    """
    method = method or ("fit" if reset else None)
    what = f"The 'X' argument of {type(model).__name__}{f'.{method}' if method else ''}"
    X = numbers_only(what, validate_data, model, X, reset=reset)
    check_magnitude(what, X)
    return X


def check_magnitude(what, X):
    """Raise unless the squares of (n, d) rows are finite."""
    largest = float(max(-X.min(), X.max()))
    if largest > LARGEST:
        raise InvalidParameterError(
            f"{what} must lie within {LARGEST:g} of 0. Got {largest:g} instead: "
            "rescale it."
        )


def column_names(model):
    """Return the names of the features as a list; None if they have no names."""
    names = getattr(model, "feature_names_in_", None)
    return None if names is None else [str(name) for name in names]


def rows_to_answer(model, X, method=None):
    """Return (n, d) rows as `validated_rows` does, but integers unconverted."""
    # Integers are finite, and chunks of them are converted one at a time: a memory map
    # is never loaded as a whole.
    if isinstance(X, np.ndarray) and X.dtype.kind in "iu" and X.ndim == 2 and X.size:
        validate_data(model, X, reset=False, skip_check_array=True)
        return X
    return validated_rows(model, X, method=method)


def float_type(dtype):
    """Return the dtype of results for rows of a dtype: float32 or float64."""
    return np.dtype(np.float32 if dtype == np.float32 else np.float64)


def present(X, sample_weight):
    """Return (n, d) rows and (n,) weights without rows of weight 0."""
    counts = sample_weight > 0
    return (X, sample_weight) if counts.all() else (X[counts], sample_weight[counts])


def validated_weight(model, sample_weight, n_samples, *, some=True):
    """Return the weights as a float64 array of shape (n_samples,); ones for None.

    If `some`, at least one of them must be positive.
    """
    if sample_weight is None:
        return np.ones(n_samples)
    if is_real(sample_weight):
        sample_weight = np.full(n_samples, float(sample_weight))
    elif np.isscalar(sample_weight):
        sample_weight = [sample_weight]  # text or a wrong shape: raises below
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
    """Check the arguments of a method that draws samples; return its generator."""
    if not is_integer(n_samples, 1):
        raise invalid_argument(
            model, method, "n_samples", "an int of at least 1", n_samples
        )
    if not is_random_state(random_state):
        raise invalid_argument(
            model, method, "random_state", RANDOM_STATE_RULE, random_state
        )
    return generator(seed_of(model) if random_state is None else random_state)


def seed_of(estimator):
    """Return the seed of an estimator, or of the density that it holds."""
    own = getattr(estimator, "random_state", None)
    return getattr(estimator, "_random_state", own)


def generator(random_state):
    """Return a RandomState; None seeds a new one and never uses the global one."""
    if isinstance(random_state, np.random.RandomState):
        return random_state
    return np.random.RandomState(random_state)
