"""Initial parameters of EM: given by the user, the others by `init_params`."""

import numpy as np
from sklearn.utils import check_array

from skgen._checks import Described, invalid_parameter
from skgen.mixture._covariance import COVARIANCES, Parameters


def start_array(model, name, shape):
    """Return a parameter as a float64 array of the given shape, or None."""
    value = getattr(model, name)
    if value is None:
        return None
    try:
        array = check_array(
            value,
            dtype=np.float64,
            ensure_2d=False,
            allow_nd=True,
            copy=True,
            ensure_min_features=0,
        )
    except (TypeError, ValueError):
        rule = f"None or an array of finite numbers of shape {shape}"
        raise invalid_parameter(model, name, rule, value) from None
    if array.shape != shape:
        rule = f"None or an array of shape {shape}"
        got = Described(f"shape {array.shape}")
        raise invalid_parameter(model, name, rule, got)
    if name == "weights_init" and (
        (array < 0).any() or not np.isclose(array.sum(), 1.0)
    ):
        rule = "nonnegative with sum 1"
        raise invalid_parameter(model, name, rule, array.tolist())
    return array


def user_start(model, d):
    """Return the weights (K,), means (K, d) and factors that the user gave, or None.

    They are in the units of the data; a factor `U` has ``U U^T`` as its precision.
    """
    K, covariance = model.n_components, COVARIANCES[model.covariance_type]
    weights = start_array(model, "weights_init", (K,))
    means = start_array(model, "means_init", (K, d))
    precisions = start_array(model, "precisions_init", covariance.shape(K, d))
    if precisions is None:
        return weights, means, None
    try:
        return (
            weights,
            means,
            covariance.factors_of_precisions(covariance.stacked(precisions, d)),
        )
    except np.linalg.LinAlgError:
        rule = "None, or symmetric and positive definite"
        given = model.precisions_init
        raise invalid_parameter(model, "precisions_init", rule, given) from None


def completed(start, found, problem, whitening):
    """Return `start` with the missing parts of `found`, as whitened `Parameters`."""
    weights, means, factors = start
    weights = found.weights if weights is None else weights
    means = found.means if means is None else whitening.whiten(means)
    covariance = problem.family.covariance
    if factors is None:
        covariances = found.covariances
    else:
        covariances = covariance.to_white(factors, whitening)
    factors = covariance.factors(covariances)
    return Parameters(weights / weights.sum(), means, covariances, factors)
