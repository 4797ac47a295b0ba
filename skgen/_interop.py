"""Dataframes and densities of any library: rows in and out, samples, components."""

import copy
import inspect

import numpy as np
from sklearn import get_config
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from skgen._lazy import lazy_module

pandas = lazy_module("pandas", 'set_output(transform="pandas")')
polars = lazy_module("polars", 'set_output(transform="polars")')
_mixture = lazy_module("sklearn.mixture")
_neighbors = lazy_module("sklearn.neighbors")


def frame_kind(X):
    """Return the library of a dataframe, "pandas" or "polars"; None for other rows."""
    library = type(X).__module__.split(".")[0]
    return library if library in ("pandas", "polars") else None


def framed(X, names, kind, like=None):
    """Return (n, d) rows as a dataframe with d names; without names, as an array.

    `kind` is "pandas", "polars" or None, which means pandas. Rows for a pandas
    dataframe `like` keep its index.
    """
    if names is None:
        return X
    if kind == "polars":
        return polars.DataFrame(X, schema=list(names))
    index = like.index if frame_kind(like) == "pandas" else None
    return pandas.DataFrame(X, columns=list(names), index=index)


def framed_like(table, X):
    """Return (n, d) rows in the container of `table`: a dataframe or an array."""
    kind = frame_kind(table)
    return X if kind is None else framed(X, table.columns, kind, table)


def as_set_output(estimator, rows, like=None, names_out=None):
    """Return (n, d) rows in the container that `set_output` or the configuration names.

    Their columns are ``names_out()``, by default the names of the features: estimators
    that were not fitted to a dataframe then return arrays. Rows for a pandas dataframe
    `like` keep its index.
    """
    # The attribute is scikit-learn's own: `set_output` has no public counterpart that
    # reads the setting.
    own = getattr(estimator, "_sklearn_output_config", {})
    kind = own.get("transform", get_config()["transform_output"])
    if kind not in ("pandas", "polars"):
        return rows
    names = getattr(estimator, "feature_names_in_", None)
    return framed(rows, names_out() if names_out else names, kind, like)


def draw(density, n_samples, rng, method="sample"):
    """Return (n_samples, n_features) float64 samples of a density in random order."""
    if "random_state" in inspect.signature(getattr(density, method)).parameters:
        drawn = getattr(density, method)(n_samples, random_state=rng)
    else:
        # In scikit-learn's mixtures, `random_state` is a parameter of the constructor.
        if "random_state" in density.get_params(deep=False):
            density = copy.copy(density).set_params(random_state=rng)
        drawn = getattr(density, method)(n_samples)
    if isinstance(drawn, tuple):  # rows sorted by component, and their components
        drawn = rng.permutation(drawn[0])
    return np.asarray(drawn, dtype=np.float64)


def log_density_of(density, X, handed):
    """Return the float64 log-densities (n,) of checked rows under a fitted density.

    Densities of other libraries get ``handed(X)``, and check it.
    """
    if _is_ours(density) and hasattr(density, "_log_densities"):
        return density._log_densities(X)
    # The score of scikit-learn's variational mixture integrates to less than one. The
    # density is the mixture from which it draws.
    inner = density.estimator if isinstance(density, FrozenEstimator) else density
    if type(inner) is _mixture.BayesianGaussianMixture:
        density = _mixture.GaussianMixture(covariance_type=inner.covariance_type)
        fitted = {k: v for k, v in vars(inner).items() if k.endswith("_")}
        vars(density).update(fitted)
    return np.asarray(density.score_samples(handed(X)), dtype=np.float64)


def _is_ours(density):
    """Return whether the class of a density is skgen's own; a subclass can differ."""
    return type(density).__module__.partition(".")[0] == "skgen"


def is_density(value):
    """Return whether a value has the methods of a density estimator."""
    return not inspect.isclass(value) and all(
        callable(getattr(value, name, None))
        for name in ("fit", "score_samples", "sample", "get_params")
    )


def seeded_clone(density, seed):
    """Return a clone of `density` in which `seed` replaces unset `random_state`s."""
    density = clone(density)
    unset = {
        name: seed
        for name, value in density.get_params().items()
        if value is None and name.split("__")[-1] == "random_state"
    }
    return density.set_params(**unset)


def normal_components(density):
    """Return the weights, means and covariances of a normal mixture, or else None.

    The weights are (C,), the means (C, k), the covariances (C, k, k), or (1, k, k) for
    kernels, which share one covariance.
    """
    if isinstance(density, FrozenEstimator):
        density = density.estimator
    kind = type(density)  # a subclass could define another density
    if _is_ours(density):
        return getattr(density, "_normal_components", lambda: None)()
    if kind in (_mixture.GaussianMixture, _mixture.BayesianGaussianMixture):
        return _mixture_components(density)
    if kind is _neighbors.KernelDensity and density.kernel == "gaussian":
        return _kernel_components(density)
    return None


def _mixture_components(density):
    """Return the normal components of scikit-learn's Gaussian mixture."""
    means, covariances = density.means_, density.covariances_
    K, k = means.shape
    match density.covariance_type:
        case "tied":
            covariances = np.broadcast_to(covariances, (K, k, k))
        case "diag":
            covariances = covariances[:, :, None] * np.eye(k)
        case "spherical":
            covariances = covariances[:, None, None] * np.eye(k)
    return density.weights_, means, covariances


def _kernel_components(density):
    """Return the normal components of scikit-learn's Gaussian kernel density."""
    if density.metric != "euclidean":
        return None
    rows, weights = np.asarray(density.tree_.data), density.tree_.sample_weight
    n, k = rows.shape
    weights = np.ones(n) if weights is None else np.asarray(weights)
    return weights / weights.sum(), rows, density.bandwidth_**2 * np.eye(k)[None]
