"""Fitting of latent densities, and their conversion to priors for scoring."""

import inspect
import math
import warnings

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, DataDimensionalityWarning
from sklearn.frozen import FrozenEstimator

from skgen.autoencoder._prior import AnyDensity, NormalMixture, RoundMixture
from skgen.kde import GaussianKDE
from skgen.mixture import EMGaussianMixture

# Candidates for the number of components, in this order.
_COMPONENTS = (1, 2, 4, 8, 16, 32)

# Fraction of the rows held out to choose the number of components.
_HELD_OUT = 0.2

# Maximum number of kernels that become components of the proposal. With more kernels,
# the overlap is such that one normal density guides the proposal as well, and faster.
_MOST_KERNELS = 500

# Number of draws with which a density is checked.
_CHECKED = 4

# Minimum number of draws to fit a density to, and maximum number of rows that they
# belong to.
LEAST_DRAWS, MOST_ROWS = 4000, 10_000


def fit_latent_density(density, draws, seed):
    """Return a fitted clone of `density`, or a chosen mixture for None.

    draws: (n, m, k), with m draws from the posterior of the code of each row. `seed`
    replaces every `random_state` that is unset.
    """
    if density is None:
        return _chosen_mixture(draws, seed)
    density = clone(density)
    unset = {
        name: seed
        for name, value in density.get_params().items()
        if value is None and name.split("__")[-1] == "random_state"
    }
    return density.set_params(**unset).fit(draws.reshape(-1, draws.shape[2]))


def _chosen_mixture(draws, seed):
    """Return a Gaussian mixture; held-out rows choose its number of components."""
    n, m, k = draws.shape
    n_held_out = round(_HELD_OUT * n)
    codes = draws.reshape(-1, k)
    held_out, training = codes[: n_held_out * m], codes[n_held_out * m :]
    best, highest = 1, -math.inf
    with warnings.catch_warnings():
        # Mixtures with too many components for the rows lose the comparison.
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", DataDimensionalityWarning)
        for n_components in _COMPONENTS if n_held_out else ():
            if n_components * (k + 1) > n - n_held_out:
                break
            score = _mixture(n_components, seed).fit(training).score(held_out)
            if not score > highest:
                break
            best, highest = n_components, score
        return _mixture(best, seed).fit(codes)


def _mixture(n_components, seed):
    return EMGaussianMixture(n_components, random_state=seed)


def normal_components(density):
    """Return weights, means and precisions of a Gaussian mixture, or else None."""
    names = ("weights_", "means_", "covariances_", "covariance_type")
    if not all(hasattr(density, name) for name in names):
        return None
    weights, means = np.asarray(density.weights_), np.asarray(density.means_)
    covariances = np.asarray(density.covariances_)
    K, k = means.shape
    kind = getattr(density, "_fitted_covariance_type", density.covariance_type)
    if kind == "full":
        wide = covariances
    elif kind == "tied":
        wide = np.broadcast_to(covariances, (K, k, k))
    elif kind == "diag":
        wide = covariances[:, :, None] * np.eye(k)
    elif kind == "spherical":
        wide = covariances[:, None, None] * np.eye(k)
    elif kind == "lowrank":
        columns, diagonal = covariances[:, :, :-1], covariances[:, :, -1]
        wide = columns @ columns.transpose(0, 2, 1) + diagonal[:, :, None] * np.eye(k)
    else:
        return None
    # Mixtures of scikit-learn can have components of weight 0.
    kept = weights > 0
    return weights[kept], means[kept], np.linalg.inv(wide[kept])


def few_kernels(density):
    """Return (samples (C, k), width) of a `GaussianKDE` with few kernels, or else None.

    The kernels must have equal weights and one isotropic bandwidth.
    """
    if isinstance(density, FrozenEstimator):
        density = density.estimator
    # A subclass could define another density.
    if type(density) is not GaussianKDE or density.bounds is not None:
        return None
    samples, weights = density.X_train_, density.weights_
    if len(samples) > _MOST_KERNELS or np.ptp(weights) > 1e-12 * weights.max():
        return None
    if np.size(density.covariance_) != 1:
        return None
    return samples, math.sqrt(np.asarray(density.covariance_).item())


def is_density(value):
    """Return whether a value has the methods of a density estimator."""
    return not inspect.isclass(value) and all(
        callable(getattr(value, name, None))
        for name in ("fit", "score_samples", "sample", "get_params")
    )


def as_prior(density, codes):
    """Return a fitted density as a prior; codes (n, k) guide an `AnyDensity`."""
    components = normal_components(density)
    if components is not None:
        return NormalMixture(*components)
    kernels = few_kernels(density)
    if kernels is not None:
        return RoundMixture(*kernels)
    return AnyDensity(density, codes)


def check_prior(prior):
    """Raise ValueError unless a prior draws and scores codes of its dimension."""
    k = prior.means.shape[1]
    n = _CHECKED
    z = prior.draw(n, np.random.RandomState(0))
    if tuple(z.shape) != (n, k) or not z.isfinite().all():
        right = tuple(z.shape) == (n, k)
        got = "NaN or infinity" if right else f"shape {tuple(z.shape)}"
        raise ValueError(
            f"{n} draws must be finite numbers of shape {(n, k)}, got {got}"
        )
    log_p = prior.log_density(z)
    if tuple(log_p.shape) != (n,) or not log_p.isfinite().all():
        raise ValueError(
            f"score_samples of {n} draws must return {n} finite numbers, got "
            f"{np.asarray(log_p).tolist()}"
        )
