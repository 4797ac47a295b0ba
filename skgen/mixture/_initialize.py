"""Initial parameters of mixtures: given by the user, or found by `init_params`."""

from functools import partial

import numpy as np
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.metrics import pairwise_distances_argmin
from sklearn.utils import check_array

from skgen._checks import Described, invalid_parameter, numbers_only
from skgen._threads import one_blas_thread
from skgen.mixture._covariance import Parameters

INIT_PARAMS = ("kmeans", "k-means++", "random", "random_from_data")


def initial_responsibilities(X, sample_weight, n_components, method, rng):
    """Return a function from a slice of rows to their responsibilities (b, K).

    `X` (n, d) are distinct rows in whitened coordinates.
    """
    if method == "random":
        r = rng.uniform(size=(X.shape[0], n_components))
        r /= r.sum(axis=1, keepdims=True)
        return lambda rows: r[rows]
    # scikit-learn limits BLAS too. Threads that restore its limit in turn would leave a
    # wrong limit behind, unless there is a limit around it.
    with one_blas_thread():
        labels = _labels(X, sample_weight, min(n_components, X.shape[0]), method, rng)
    identity = np.eye(n_components)
    return lambda rows: identity[labels[rows]]


def _labels(X, sample_weight, n_seeds, method, rng):
    """Return the initial component of each row: (n,)."""
    if method == "kmeans":
        kmeans = KMeans(n_seeds, n_init=1, random_state=rng)
        return kmeans.fit(X, sample_weight=sample_weight).labels_
    if method == "k-means++":
        seeds, _ = kmeans_plusplus(
            X, n_seeds, sample_weight=sample_weight, random_state=rng
        )
    else:
        # `choice` without replacement needs `n_seeds` positive probabilities.
        p = np.maximum(sample_weight / sample_weight.sum(), np.finfo(float).tiny)
        p /= p.sum()
        seeds = X[rng.choice(X.shape[0], n_seeds, replace=False, p=p)]
    return pairwise_distances_argmin(X, seeds)


def given_array(model, name, shape):
    """Return a parameter as a float64 array of the given shape, or None."""
    value = getattr(model, name)
    if value is None:
        return None
    return array_of(value, name, shape, partial(invalid_parameter, model, name), True)


def array_of(value, name, shape, error, optional=False):
    """Return a value as a new float64 array, or raise ``error(rule, got)``.

    None in `shape` is any length.
    """
    either = "None or " if optional else ""
    shown = ", ".join("any" if length is None else str(length) for length in shape)
    shown = f"({shown}{',' * (len(shape) == 1)})"
    try:
        array = numbers_only(
            name,
            check_array,
            value,
            ensure_2d=False,
            allow_nd=True,
            copy=True,
            ensure_min_features=0,
        ).astype(np.float64, copy=False)
    except (TypeError, ValueError):
        rule = f"{either}an array of finite numbers of shape {shown}"
        raise error(rule, value) from None
    if array.ndim != len(shape) or any(
        n not in (None, m) for n, m in zip(shape, array.shape, strict=True)
    ):
        got = Described(f"shape {array.shape}")
        raise error(f"{either}an array of shape {shown}", got)
    if name.startswith("weights") and (
        (array < 0).any() or not np.isclose(array.sum(), 1.0)
    ):
        raise error("nonnegative with sum 1", array.tolist())
    return array


def given_parameters(model, covariance, d):
    """Return the weights (K,), means (K, d) and factors that the user gave, or None.

    They are in the units of the data; a factor `U` has ``U U^T`` as its precision.
    """
    K = model.n_components
    weights = given_array(model, "weights_init", (K,))
    means = given_array(model, "means_init", (K, d))
    precisions = given_array(model, "precisions_init", covariance.shape(K, d))
    if precisions is None:
        return weights, means, None
    try:
        precisions = covariance.stacked(precisions, d)
        return weights, means, covariance.factors_of_precisions(precisions)
    except np.linalg.LinAlgError:
        rule, given = f"None, or {covariance.rule}", model.precisions_init
        raise invalid_parameter(model, "precisions_init", rule, given) from None


def completed(given, found, problem, whitening):
    """Return `given` with the missing parts of `found`, as whitened `Parameters`."""
    weights, means, factors = given
    weights = found.weights if weights is None else weights
    means = found.means if means is None else whitening.whiten(means)
    covariance = problem.family.covariance
    if factors is None:
        covariances = found.covariances
    else:
        covariances = covariance.to_white(factors, whitening)
    factors = covariance.factors(covariances)
    return Parameters(weights / weights.sum(), means, covariances, factors)
