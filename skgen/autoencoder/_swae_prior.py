"""The priors of a sliced-Wasserstein autoencoder: by name, by density, by samples."""

import numpy as np

from skgen.autoencoder._latent import as_prior
from skgen.kde import GaussianKDE

NAMED = ("normal", "uniform", "ring")

# The radii of "ring".
RADII = (0.8, 1.2)

# The standard deviation of the normal density about a sample, in those of all.
_NARROW = 0.05

# Draws from a density that batches are matched with.
_POOL = 20_000


def is_table_of(value, k):
    """Tell whether a value is a table of `k` finite numbers a row, two rows or more."""
    try:
        table = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return False
    return (
        table.ndim == 2
        and table.shape[0] >= 2
        and table.shape[1] == k
        and bool(np.isfinite(table).all())
        and bool((table != table[0]).any())
    )


def prior_density(prior):
    """Return the name or the fitted density of a prior.

    Samples become a mixture of narrow normal densities about them.
    """
    if isinstance(prior, str) or hasattr(prior, "score_samples"):
        return prior
    samples = np.asarray(prior, dtype=np.float64)
    width = _NARROW * np.sqrt(samples.var(axis=0).mean())
    return GaussianKDE(float(width)).fit(samples)


def named_prior(name, k):
    """Return what scoring needs of a prior by name."""
    from skgen.autoencoder._priors import Cube, Ring, standard_normal

    if name == "uniform":
        return Cube(k)
    return Ring(k, *RADII) if name == "ring" else standard_normal(k)


def unguided(density, k):
    """Return what draws and scores codes of a fitted density before there are codes."""
    return as_prior(density, np.concatenate([np.eye(k), -np.eye(k)]))


def prior_draws(density, k):
    """Return a module that draws codes from a prior; None for the normal one."""
    import torch

    from skgen.autoencoder._modules import Pool, Shell, Uniform

    if isinstance(density, str) and density == "normal":
        return None
    if isinstance(density, str):
        return Uniform() if density == "uniform" else Shell(*RADII)
    pool = unguided(density, k).draw(_POOL, np.random.RandomState(0))
    return Pool(torch.as_tensor(pool, dtype=torch.float32))
