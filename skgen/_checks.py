"""Checks of data, weights and the arguments of `sample`, for every estimator."""

import re
from numbers import Integral, Real

import numpy as np
from sklearn import config_context, get_config
from sklearn.utils import assert_all_finite, check_array
from sklearn.utils.validation import validate_data

from skgen._columns import (
    has_times,
    list_columns,
    non_finite_columns,
    non_numeric_columns,
)
from skgen._interop import frame_kind


class InvalidParameterError(ValueError, TypeError):
    """A parameter or an argument has an invalid value or type."""


class Described(str):
    """Description of a value, shown in a message without quotes."""

    __repr__ = str.__str__


def invalid_parameter(model, name, rule, got):
    """Return the error for an invalid parameter `name` of `model`."""
    return InvalidParameterError(
        f"The {name!r} parameter of {type(model).__name__} must be {rule}. "
        f"Got {got!r} instead."
    )


def invalid_argument(model, method, name, rule, got):
    """Return the error for an invalid argument `name` of a method of `model`."""
    return wrong_argument(f"{type(model).__name__}.{method}", name, rule, got)


def wrong_argument(function, name, rule, got):
    """Return the error for an invalid argument `name` of `function`."""
    return InvalidParameterError(
        f"The {name!r} argument of {function} must be {rule}. Got {got!r} instead."
    )


def has_methods(estimator, *methods):
    """Return whether `estimator` is an instance with these methods."""
    return not isinstance(estimator, type) and all(
        hasattr(estimator, method) for method in methods
    )


def is_integer(value, minimum):
    """Return whether `value` is an integer, not a bool, of at least `minimum`."""
    return (
        isinstance(value, Integral)
        and not isinstance(value, (bool, np.bool_))
        and value >= minimum
    )


def is_real(value):
    """Return whether `value` is a finite real number, not a bool."""
    if not isinstance(value, Real) or isinstance(value, (bool, np.bool_)):
        return False
    try:
        return bool(np.isfinite(float(value)))
    except OverflowError:  # an int beyond the range of floats
        return False


def check_integer(model, name, minimum):
    """Raise unless the parameter is an int of at least `minimum`."""
    value = getattr(model, name)
    if not is_integer(value, minimum):
        raise invalid_parameter(model, name, f"an int of at least {minimum}", value)


def check_nonnegative(model, name):
    """Raise unless the parameter is a finite number of at least 0."""
    value = getattr(model, name)
    if not (is_real(value) and value >= 0):
        raise invalid_parameter(model, name, "a finite number of at least 0", value)


def check_boolean(model, name):
    """Raise unless the parameter is True or False."""
    value = getattr(model, name)
    if not isinstance(value, (bool, np.bool_)):
        raise invalid_parameter(model, name, "True or False", value)


def check_choice(model, name, choices):
    """Raise unless the parameter is one of the strings `choices`."""
    value = getattr(model, name)
    if not (isinstance(value, str) and value in choices):
        listed = ", ".join(repr(choice) for choice in choices)
        raise invalid_parameter(model, name, f"one of {listed}", value)


def check_random_state_parameter(model):
    """Raise unless the seed of a model is valid."""
    value = model._random_state
    if not is_random_state(value):
        raise invalid_parameter(model, "random_state", RANDOM_STATE_RULE, value)


RANDOM_STATE_RULE = (
    "None, an int from 0 to 2**32 - 1, a numpy.random.RandomState or a "
    "numpy.random.Generator"
)


def is_random_state(value):
    """Return whether `value` can seed a generator."""
    if value is None or isinstance(value, (np.random.RandomState, np.random.Generator)):
        return True
    return is_integer(value, 0) and value < 2**32


def numbers_only(what, check, *arguments, **options):
    """Convert the last argument to floats by a check; its errors name the columns."""
    X = arguments[-1]
    refuse_masked(what, X)
    if has_times(X):
        raise InvalidParameterError(_not_numbers(what, X, ""))
    try:
        return check(*arguments, dtype=[np.float64, np.float32], **options)
    except (TypeError, ValueError, OverflowError) as error:
        explained = _explained(str(error), what, X)
        if explained is None:
            raise
        raise InvalidParameterError(explained) from None


def refuse_masked(what, X):
    """Raise if an array, or an array in a list, has masked values."""
    # Conversions of NumPy take what lies under the mask.
    parts = X if isinstance(X, (list, tuple)) else [X]
    masked = [part for part in parts if isinstance(part, np.ma.MaskedArray)]
    n_masked = sum(map(np.ma.count_masked, masked))
    if n_masked:
        raise InvalidParameterError(
            f"{what} must have no masked values. Got {n_masked} of them instead: leave "
            "these rows out, or impute the values."
        )


# Messages of scikit-learn's checks, and of Python's and NumPy's conversions.
_NOT_FINITE = re.compile(r"Input (?:\w+ )?contains (?:NaN|infinity[^\n]*(?=\.))")
_NO_MISSING = re.compile(r"\n(\w+) does not accept missing values")
_NO_FLOAT = re.compile(
    "could not convert string|argument must be a string or a real number"
    "|too large to convert|could not be promoted|Cannot cast array data"
    "|array element with a sequence(?!.* after 1 dim)"  # rows of different lengths
)


def _explained(message, what, X, names=None):
    """Return the message of a failed check with the columns; None for other errors."""
    if found := _NOT_FINITE.match(message):
        where = non_finite_columns(X, nan=found[0].endswith("NaN"), names=names)
        if where is None:
            return None
        estimator = _NO_MISSING.search(message)
        advice = estimator and (
            f" {estimator[1]} does not accept missing values: leave these rows out, "
            "impute the values, for example with skgen.GenerativeImputer, or use a "
            "model that accepts them, such as EMGaussianMixture."
        )
        return f"{found[0]} in {where}.{advice or ''}"
    if message.startswith("Complex data not supported"):
        return f"Complex data not supported. {_not_numbers(what, X, message)}"
    if message.startswith("fill value must be 0"):  # of sparse columns
        return f"{what} must be dense. Got sparse columns: use X.sparse.to_dense()."
    return _not_numbers(what, X, message) if _NO_FLOAT.search(message) else None


def _not_numbers(what, X, message):
    """Return the error message for columns without numbers; None if there are none."""
    got = non_numeric_columns(X)
    if got is None:
        return None
    # scikit-learn's estimator checks look for Python's words about other types.
    reason = f": {message.rstrip('.')}" if "values of type" in got else ""
    return f"{what} must hold numbers only. Got {got} instead{reason}."


# Largest magnitude of the data: squares of larger values overflow.
LARGEST = 1e150


def validated_rows(
    model, X, *, reset=False, method=None, missing=False, incomplete=False
):
    """Return (n, d) rows as a finite float64 or float32 array.

    If `reset`, set the number and names of the model's features, else check them.
    Errors name the `method`, which is "fit" by default if `reset`. NaN passes if
    `incomplete`, and for `missing` if scikit-learn's option `assume_finite` is set.
    """
    method = method or ("fit" if reset else None)
    owner = type(model).__name__ + (f".{method}" if method else "")
    what = f"The 'X' argument of {owner}"
    options = {}
    if incomplete:
        X, options = with_nan(X), {"ensure_all_finite": "allow-nan"}
    X = numbers_only(what, validate_data, model, X, reset=reset, **options)
    nan = incomplete or (missing and get_config()["assume_finite"])
    check_values(owner, X, column_names(model), nan=nan)
    return X


def with_nan(X):
    """Return rows with NaN for masked values and for pandas' NA in object columns."""
    if isinstance(X, np.ma.MaskedArray) and X.dtype.kind in "iuf":
        return X.astype(np.result_type(X.dtype, np.float32)).filled(np.nan)
    if frame_kind(X) == "pandas" and X.dtypes.eq(object).any():
        return X.mask(X.isna(), np.nan)
    return X


def check_values(owner, X, names=None, *, nan=False):
    """Raise unless (n, d) numbers and their squares are finite; name the columns.

    If `nan`, NaN is valid.
    """
    largest = max(-float(X.min()), float(X.max()))
    if largest <= LARGEST:  # false for NaN
        return
    if nan:
        largest = float(np.fmax.reduce(np.abs(X), axis=None))
        if not largest > LARGEST:
            return
        X = np.where(np.isnan(X), 0, X)
    what = f"The 'X' argument of {owner}"
    try:
        with config_context(assume_finite=False):
            assert_all_finite(X, estimator_name=owner, input_name="X")
    except ValueError as error:
        raise InvalidParameterError(_explained(str(error), what, X, names)) from None
    beyond = np.where(np.abs(X) > LARGEST, np.inf, 0.0)
    raise InvalidParameterError(
        f"{what} must lie within {LARGEST:g} of 0. Got {largest:g} in "
        f"{non_finite_columns(beyond, nan=False, names=names)} instead: rescale it."
    )


def check_observed(function, observed, names=None):
    """Raise if a column has no value; `observed` (d,) is 0 for such columns."""
    empty = np.flatnonzero(np.asarray(observed) == 0)
    if empty.size:
        rule = "an array with a value in every column"
        got = Described(f"only NaN in {list_columns(empty, names)}")
        raise wrong_argument(function, "X", rule, got)


def column_names(model):
    """Return the names of the features as a list; None if they have no names."""
    names = getattr(model, "feature_names_in_", None)
    return None if names is None else [str(name) for name in names]


def rows_to_answer(model, X, method=None):
    """Return (n, d) rows as `validated_rows` does, but integers unconverted."""
    # Integers are finite, and chunks of them are converted one at a time: a memory map
    # is never loaded as a whole.
    plain = isinstance(X, np.ndarray) and not np.ma.isMaskedArray(X)
    if plain and X.dtype.kind in "iu" and X.ndim == 2 and X.size:
        validate_data(model, X, reset=False, skip_check_array=True)
        return X
    incomplete = getattr(model, "_answers_incomplete", False)
    return validated_rows(model, X, method=method, missing=True, incomplete=incomplete)


def answers_with_nan(function, X):
    """Return what a function answers to (n, d) rows, and NaN to rows with NaN.

    Only scikit-learn's option `assume_finite` lets such rows in. A label is then 0, the
    `argmax` of NaN.
    """
    if not get_config()["assume_finite"] or X.dtype.kind != "f":
        return function(X)
    missing = np.isnan(X).any(axis=1)
    # Any value in the domain of common transformers.
    answers = np.array(function(np.where(missing[:, None], 0.5, X)))
    answers[missing] = np.nan if answers.dtype.kind == "f" else 0
    return answers


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
    half = getattr(sample_weight, "dtype", None) == np.float16
    weights = numbers_only(
        what,
        check_array,
        sample_weight,
        ensure_2d=False,
        input_name="sample_weight",
        estimator=model,
    )
    step = np.finfo(np.float16 if half else weights.dtype).eps
    weights = _whole_up_to_rounding(weights.astype(np.float64), step)
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


# Number of roundings of a weight that is computed as a whole number.
_ROUNDINGS = 4


def _whole_up_to_rounding(weights, step):
    """Return float64 weights (n,); whole numbers lose their rounding errors.

    `step` is the relative precision of the data type that the weights had.
    """
    nearest = np.rint(weights)
    error = np.minimum(_ROUNDINGS * step * weights, 2.0**-10)
    weights = np.where(np.abs(weights - nearest) <= error, nearest, weights)
    if step == np.finfo(np.float64).eps:
        return weights
    # From 1 / step on, all numbers of the type are whole, so that these count nothing.
    return np.where(weights >= 1 / step, np.nextafter(weights, np.inf), weights)


def row_counts(sample_weight):
    """Return weights (n,) in numbers of rows.

    Whole numbers count rows and stay as they are. Other weights are importance weights:
    only their ratios matter, and they are worth the effective number of rows of Kish
    (1965), (sum w)^2 / sum w^2.
    """
    return in_rows(sample_weight, row_weight(*weight_sums(sample_weight)))


def effective_counts(sample_weight):
    """Return importance weights (n,) in numbers of rows, also if they are whole."""
    _, mean, _ = weight_sums(sample_weight)
    return in_rows(sample_weight, mean)


def in_rows(sample_weight, one):
    """Return weights (n,) over the weight `one` of a row; no positive one becomes 0."""
    least = np.where(sample_weight > 0, np.finfo(np.float64).tiny, 0.0)
    with np.errstate(over="ignore", under="ignore"):
        return np.maximum(sample_weight / one, least)


def row_weight(total, mean, whole):
    """Return the weight that is worth one row, from the `weight_sums` of all rows."""
    return 1.0 if whole and total <= 2.0**53 else mean


def weight_sums(sample_weight):
    """Return the sum of weights (n,), their weighted mean, and if all are whole."""
    whole = bool((sample_weight == np.rint(sample_weight)).all())
    if not whole:  # the order of the rows then changes no bit
        sample_weight = np.sort(sample_weight)
    _, exponent = np.frexp(sample_weight.max())
    scaled = np.ldexp(sample_weight, -exponent)  # no square overflows
    mean = np.ldexp((scaled @ scaled) / scaled.sum(), exponent)
    return float(sample_weight.sum()), float(mean), whole


def generator_of_draws(model, method, n_samples, random_state):
    """Check the arguments of a method that draws samples; return its generator."""
    if not is_integer(n_samples, 1):
        raise invalid_argument(
            model, method, "n_samples", "an int of at least 1", n_samples
        )
    seed = seed_of(model) if random_state is None else random_state
    return checked_generator(f"{type(model).__name__}.{method}", seed)


def check_seed(function, random_state):
    """Raise unless the argument `random_state` of `function` is valid."""
    if not is_random_state(random_state):
        raise wrong_argument(function, "random_state", RANDOM_STATE_RULE, random_state)


def checked_generator(function, random_state):
    """Return the generator of an argument of `function`; raise for an invalid one."""
    check_seed(function, random_state)
    return generator(random_state)


def seed_of(estimator):
    """Return the seed of an estimator, or of the density that it holds."""
    own = getattr(estimator, "random_state", None)
    return getattr(estimator, "_random_state", own)


def generator(random_state):
    """Return a RandomState; None seeds a new one and never uses the global one."""
    if isinstance(random_state, np.random.RandomState):
        return random_state
    if isinstance(random_state, np.random.Generator):  # which scikit-learn cannot use
        random_state = random_state.integers(2**32, size=4)
    return np.random.RandomState(random_state)
