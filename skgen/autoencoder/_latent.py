"""Densities that are fitted to codes, and the priors that scoring makes of them."""

import inspect
import math
import warnings

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, DataDimensionalityWarning
from sklearn.frozen import FrozenEstimator

from skgen.kde import GaussianKDE
from skgen.mixture import EMGaussianMixture

# Numbers of components to try, in this order.
_COMPONENTS = (1, 2, 4, 8, 16, 32)

# The share of rows that the choice is made on.
_HELD_OUT = 0.2

# Up to so many kernels scores steer by each of them; more overlap so much that one
# normal density is as good a guide, at a lower price.
_MOST_KERNELS = 500

# Draws of a fitted density that are scored, to see that it works.
_CHECKED = 4

# Draws to fit a density to: so many at least, of so many rows at most.
LEAST_DRAWS, MOST_ROWS = 4000, 10_000


def fit_latent_density(density, draws, seed):
    """Fit a density to draws of codes.

    Parameters
    ----------
    density : estimator or None
        What to fit a clone of. None is a mixture whose number of components is
        chosen on held-out rows.
    draws : ndarray of shape (n, m, k)
        m draws for each row, from the posterior of its code.
    seed : int
        Seeds what has a `random_state` of None.

    Returns
    -------
    estimator
    """
    if density is None:
        return _chosen_mixture(draws, seed)
    density = clone(density)
    unset = {
        name: seed
        for name, value in density.get_params().items()
        if value is None and name.split("__")[-1] == "random_state"
    }
    return density.set_params(**unset).fit(_flat(draws))


def _chosen_mixture(draws, seed):
    """Return a Gaussian mixture of as many components as held-out rows bear."""
    n = draws.shape[0]
    n_held_out = round(_HELD_OUT * n)
    best, lowest = 1, -math.inf
    with warnings.catch_warnings():
        # That few rows bear no more components is what is asked here.
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", DataDimensionalityWarning)
        for n_components in _COMPONENTS if n_held_out else (1,):
            training = _flat(draws[n_held_out:])
            if n_components * (draws.shape[2] + 1) > draws.shape[0] - n_held_out:
                break
            score = _mixture(n_components, seed).fit(training)
            score = score.score(_flat(draws[:n_held_out])) if n_held_out else 0.0
            if not score > lowest:
                break
            best, lowest = n_components, score
        return _mixture(best, seed).fit(_flat(draws))


def _mixture(n_components, seed):
    return EMGaussianMixture(n_components, random_state=seed)


def _flat(draws):
    """Return draws (n, m, k) as rows (n m, k)."""
    return draws.reshape(-1, draws.shape[2])


def normal_components(density):
    """Return weights, means and precisions of a Gaussian mixture; None of others."""
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
    # What scikit-learn leaves at a weight of 0 has no part.
    kept = weights > 0
    return weights[kept], means[kept], np.linalg.inv(wide[kept])


def few_kernels(density):
    """Return samples and width of a density of few equal round kernels; None of others.

    Parameters
    ----------
    density : estimator
        A fitted density.

    Returns
    -------
    (samples, width) : ndarray of shape (C, k), float
    """
    if isinstance(density, FrozenEstimator):
        density = density.estimator
    # Not one of a class of its own, whose density may be another.
    if type(density) is not GaussianKDE or density.bounds is not None:
        return None
    samples, weights = density.X_train_, density.weights_
    if len(samples) > _MOST_KERNELS or np.ptp(weights) > 1e-12 * weights.max():
        return None
    if np.size(density.covariance_) != 1:
        return None
    return samples, math.sqrt(np.asarray(density.covariance_).item())


def is_density(value):
    """Tell whether a value can be fitted to codes, scored and drawn from."""
    return not inspect.isclass(value) and all(
        callable(getattr(value, name, None))
        for name in ("fit", "score_samples", "sample", "get_params")
    )


def as_prior(density, codes):
    """Return what scoring needs of a fitted density of codes."""
    from skgen.autoencoder._priors import AnyDensity, NormalMixture, RoundMixture

    components = normal_components(density)
    if components is not None:
        return NormalMixture(*components)
    kernels = few_kernels(density)
    if kernels is not None:
        return RoundMixture(*kernels)
    return AnyDensity(density, codes)


def check_prior(prior):
    """Raise unless draws of a prior of codes have codes' shape and a density."""
    k = prior.means.shape[1]
    n = _CHECKED
    z = prior.draw(n, np.random.RandomState(0))
    if tuple(z.shape) != (n, k) or not z.isfinite().all():
        raise ValueError(
            f"{n} draws of it must be finite numbers of shape {(n, k)}, and have the "
            f"shape {tuple(z.shape)}"
        )
    log_p = prior.log_density(z)
    if tuple(log_p.shape) != (n,) or not log_p.isfinite().all():
        raise ValueError(
            f"score_samples of {n} draws of it must be {n} finite numbers, and is "
            f"{np.asarray(log_p).tolist()}"
        )
