"""Checks of constructor parameters and arguments, in one form of sentence.

Every message reads *The 'bandwidth' parameter of GaussianKDE must be ... Got
'silver' instead.*, so that a reader finds the name, the rule and the value.
"""

from numbers import Integral, Real

import numpy as np


class InvalidParameterError(ValueError, TypeError):
    """A parameter of an estimator has a value or a type that it cannot take."""


class Described(str):
    """Words for what was given, to stand in a message without quotes."""

    __repr__ = str.__str__


def invalid_parameter(model, name, rule, got):
    """Return the error that says what parameter `name` of `model` must be."""
    return InvalidParameterError(
        f"The {name!r} parameter of {type(model).__name__} must be {rule}. "
        f"Got {got!r} instead."
    )


def invalid_argument(model, method, name, rule, got):
    """Return the error that says what argument `name` of a method must be."""
    return wrong_argument(f"{type(model).__name__}.{method}", name, rule, got)


def wrong_argument(function, name, rule, got):
    """Return the error that says what argument `name` of a function must be."""
    return InvalidParameterError(
        f"The {name!r} argument of {function} must be {rule}. Got {got!r} instead."
    )


def has_methods(estimator, *methods):
    """Tell whether something is an estimator, no class of them, with these methods."""
    return not isinstance(estimator, type) and all(
        hasattr(estimator, method) for method in methods
    )


def is_integer(value, minimum):
    """Tell whether `value` is a whole number (no bool) of at least `minimum`."""
    return (
        isinstance(value, Integral)
        and not isinstance(value, (bool, np.bool_))
        and value >= minimum
    )


def is_real(value):
    """Tell whether `value` is one finite real number (no bool)."""
    if not isinstance(value, Real) or isinstance(value, (bool, np.bool_)):
        return False
    try:
        return bool(np.isfinite(float(value)))
    except OverflowError:  # an int beyond the largest float
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
    """Raise unless `random_state` is None, an int or a RandomState."""
    value = model.random_state
    if not is_random_state(value):
        raise invalid_parameter(model, "random_state", RANDOM_STATE_RULE, value)


RANDOM_STATE_RULE = "None, an int from 0 to 2**32 - 1 or a numpy.random.RandomState"


def is_random_state(value):
    """Tell whether `value` can seed a generator, as in scikit-learn."""
    if value is None or isinstance(value, np.random.RandomState):
        return True
    return is_integer(value, 0) and value < 2**32


def numbers_only(what, check, *arguments, **options):
    """Run a check of an array, asking for floats; an error for text names `what`."""
    try:
        return check(*arguments, dtype=[np.float64, np.float32], **options)
    except ValueError as error:
        if "could not convert string" not in str(error):
            raise
        raise InvalidParameterError(
            f"{what} must hold numbers only. It holds text: {error}."
        ) from error
