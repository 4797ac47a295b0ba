"""Conversion of latent densities to priors for scoring."""

import math

import numpy as np

from skgen._interop import normal_components
from skgen.autoencoder._prior import AnyDensity, NormalMixture, RoundMixture

# Maximum number of kernels that become components of the proposal. With more kernels,
# the overlap is such that one normal density guides the proposal as well, and faster.
_MOST_KERNELS = 500

# Number of draws with which a density is checked.
_CHECKED = 4

# Minimum number of draws to fit a density to, and maximum number of rows that they
# belong to.
LEAST_DRAWS, MOST_ROWS = 4000, 10_000


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
