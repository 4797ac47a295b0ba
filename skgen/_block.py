"""Functions of one block of Dask rows, which run on the workers."""

import numpy as np
from sklearn.utils import check_array

from skgen._parameters import InvalidParameterError, check_finite, numbers_only
from skgen._threads import one_of_many
from skgen._validation import check_magnitude, present

# Number of values that a worker converts to float64 at once.
_AT_ONCE = 2**19


def numbers(X, dtype, name):
    """Return a block or partition as a numeric array; values may be infinite or NaN."""
    if not X.shape[0]:
        return np.empty(X.shape, dtype)
    rest = {"ensure_all_finite": False, "input_name": "X", "estimator": name}
    X = numbers_only(f"The 'X' argument of {name}", check_array, X, **rest)
    return X.astype(dtype, copy=False)


def sum_of_block(X, weights, *, function, dtype_of_rows, estimator):
    """Return the sum of `function` over a block, or None if all weights are 0."""
    X = numbers(X, dtype_of_rows, estimator)
    weights = _checked_weights(weights, X.shape[0], estimator)
    size = max(1, _AT_ONCE // X.shape[1])

    def parts():
        for start in range(0, X.shape[0], size):
            some, w = present(X[start : start + size], weights[start : start + size])
            if w.size:
                yield function(np.ascontiguousarray(some, np.float64), w)

    with one_of_many():
        return added(parts())


def _checked_weights(weights, n, name):
    """Return the weights of a block as a float64 array of shape (n,)."""
    if np.ndim(weights) == 0:
        return np.full(n, weights)
    what = f"The 'sample_weight' argument of {name}"
    if weights.shape != (n,):
        raise InvalidParameterError(
            f"{what} must have blocks of the same lengths as 'X'. Got "
            f"{weights.shape[0]} weights for a block of {n} rows instead."
        )
    if not n:
        return np.empty(0)
    given = {"input_name": "sample_weight", "estimator": name, "ensure_2d": False}
    weights = numbers_only(what, check_array, weights, **given).astype(np.float64)
    if weights.min() < 0:
        raise InvalidParameterError(
            f"{what} must be nowhere negative. Got {weights.min()} instead."
        )
    return weights


def added(parts):
    """Return the sum of an iterable, in order; skip None, return None if empty."""
    total = None
    for part in parts:
        if part is not None:
            total = part if total is None else total + part
    return total


def answers_of_block(X, *, function, dtype_of_rows, estimator, names, answer):
    """Return ``function(X)`` in the dtype of `answer`, which is for an empty block."""
    if not X.shape[0]:
        return answer
    X = numbers(X, dtype_of_rows, estimator)
    check_finite(X, estimator, names)
    check_magnitude(f"The 'X' argument of {estimator}", X)
    with one_of_many(), np.errstate(over="ignore"):  # -inf below the range of float32
        answers = function(np.ascontiguousarray(X, np.float64))
        return answers.astype(answer.dtype, copy=False)
