"""Fitting of latent densities, and their conversion to priors for scoring."""

import inspect
import math

import numpy as np
from sklearn.base import clone

from skgen._interop import normal_components
from skgen._warnings import quiet
from skgen.autoencoder._prior import AnyDensity, NormalMixture, RoundMixture
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
        return chosen_mixture(draws, seed)
    return seeded_clone(density, seed).fit(draws.reshape(-1, draws.shape[2]))


def seeded_clone(density, seed):
    """Return a clone of `density` in which `seed` replaces unset `random_state`s."""
    density = clone(density)
    unset = {
        name: seed
        for name, value in density.get_params().items()
        if value is None and name.split("__")[-1] == "random_state"
    }
    return density.set_params(**unset)


def chosen_mixture(draws, seed, patience=1):
    """Return a Gaussian mixture; held-out rows choose its number of components.

    The search ends after `patience` numbers in turn without a better score.
    """
    n, m, k = draws.shape
    n_held_out = round(_HELD_OUT * n)
    codes = draws.reshape(-1, k)
    held_out, training = codes[: n_held_out * m], codes[n_held_out * m :]
    best, highest, waited = 1, -math.inf, 0
    # Mixtures with too many components for the rows lose the comparison.
    with quiet():
        for n_components in _COMPONENTS if n_held_out else ():
            if n_components * (k + 1) > n - n_held_out:
                break
            score = _mixture(n_components, seed).fit(training).score(held_out)
            if score > highest:
                best, highest, waited = n_components, score, 0
                continue
            waited += 1
            if waited == patience:
                break
        return _mixture(best, seed).fit(codes)


def _mixture(n_components, seed):
    return EMGaussianMixture(n_components, random_state=seed)


def is_density(value):
    """Return whether a value has the methods of a density estimator."""
    return not inspect.isclass(value) and all(
        callable(getattr(value, name, None))
        for name in ("fit", "score_samples", "sample", "get_params")
    )


def as_prior(density, codes):
    """Return a fitted density as a prior; codes (n, k) guide an `AnyDensity`."""
    components = normal_components(density)
    if components is None:
        return AnyDensity(density, codes)
    weights, means, covariances = components
    if len(covariances) == len(weights):
        kept = weights > 0  # scikit-learn's mixtures can have weights of 0
        return NormalMixture(
            weights[kept], means[kept], np.linalg.inv(covariances[kept])
        )
    variance = covariances[0, 0, 0]
    few_and_equal = (
        len(weights) <= _MOST_KERNELS and np.ptp(weights) <= 1e-12 * weights.max()
    )
    if few_and_equal and (covariances[0] == variance * np.eye(means.shape[1])).all():
        return RoundMixture(means, math.sqrt(variance))
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
