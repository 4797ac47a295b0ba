"""Priors of a sliced-Wasserstein autoencoder: names, densities and samples."""

import numpy as np
import torch

from skgen.autoencoder._latent_density import as_prior
from skgen.autoencoder._modules import Pool, Shell, Uniform
from skgen.autoencoder._prior import Cube, Ring, standard_normal
from skgen.kde import GaussianKDE

NAMED = ("normal", "uniform", "ring")

# Radii of "ring".
RADII = (0.8, 1.2)

# Bandwidth of the kernel at each sample, relative to the standard deviation of the
# samples.
_NARROW = 0.05

# Number of stored draws from a density, to which batches are matched.
_POOL = 20_000


def is_table_of(value, k):
    """Return whether a value is a finite array (n, k) with two different rows."""
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
    """Return the name or the fitted density of a prior; samples become a KDE."""
    if isinstance(prior, str) or hasattr(prior, "score_samples"):
        return prior
    samples = np.asarray(prior, dtype=np.float64)
    width = _NARROW * np.sqrt(samples.var(axis=0).mean())
    return GaussianKDE(float(width)).fit(samples)


def named_prior(name, k):
    """Return the prior in k dimensions with the given name."""
    if name == "uniform":
        return Cube(k)
    return Ring(k, *RADII) if name == "ring" else standard_normal(k)


def unguided(density, k):
    """Return a fitted density as a prior, without codes for a guide."""
    return as_prior(density, np.concatenate([np.eye(k), -np.eye(k)]))


def prior_draws(density, k):
    """Return a module that draws codes from a prior, or None for "normal"."""
    if isinstance(density, str) and density == "normal":
        return None
    if isinstance(density, str):
        return Uniform() if density == "uniform" else Shell(*RADII)
    pool = unguided(density, k).draw(_POOL, np.random.RandomState(0))
    return Pool(torch.as_tensor(pool, dtype=torch.float32))
