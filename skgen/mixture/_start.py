"""The parameters that EM starts from: the user's, and `init_params` for the rest."""

import numpy as np
from sklearn.utils import check_array

from skgen._parameters import Described, invalid_parameter
from skgen.mixture._covariance import COVARIANCES
from skgen.mixture._joint import Parameters


def start_array(model, name, shape):
    """Return a parameter as a float array of the given shape; None for None."""
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
        rule = "nowhere negative and of sum one"
        raise invalid_parameter(model, name, rule, array.tolist())
    return array


def user_start(model, d):
    """Return what the user gave to start from, in the units of the data.

    Parameters
    ----------
    model : EMGaussianMixture
        Its parameters `weights_init`, `means_init` and `precisions_init`.
    d : int
        The number of features.

    Returns
    -------
    weights : ndarray of shape (K,) or None
    means : ndarray of shape (K, d) or None
    factors : ndarray, by type, or None
        Some `U` with ``U U^T`` the precision.
    """
    K, covariance = model.n_components, COVARIANCES[model.covariance_type]
    weights = start_array(model, "weights_init", (K,))
    means = start_array(model, "means_init", (K, d))
    precisions = start_array(model, "precisions_init", covariance.shape(K, d))
    if precisions is None:
        return weights, means, None
    try:
        return weights, means, covariance.factors_of_precisions(precisions)
    except np.linalg.LinAlgError:
        rule = "None, or symmetric and positive definite"
        given = model.precisions_init
        raise invalid_parameter(model, "precisions_init", rule, given) from None


def completed(start, found, problem, whitening):
    """Return what the user gave, and the rest from other parameters.

    Parameters
    ----------
    start : tuple of weights, means and factors
        As `user_start` returns them.
    found : Parameters or None
        What None in `start` stands for, in whitened coordinates.
    problem : Problem
        The family.
    whitening : FullWhitening or DiagonalWhitening
        The coordinates.

    Returns
    -------
    parameters : Parameters
        In whitened coordinates.
    """
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
