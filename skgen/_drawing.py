"""Samples of any estimator that follows scikit-learn's conventions."""

import copy
import inspect

import numpy as np


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
