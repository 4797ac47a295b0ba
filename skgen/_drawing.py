"""Drawing from densities of any library that keeps scikit-learn's habits."""

import copy
import inspect

import numpy as np


def draw(density, n_samples, rng):
    """Return float64 draws of a fitted density, in random order.

    Parameters
    ----------
    density : estimator
        With a `sample` method. Where that takes no `random_state`, as in
        scikit-learn's mixtures, the parameter of that name is set on a copy; where it
        returns the components beside the rows, the rows are shuffled.
    n_samples : int
        How many.
    rng : numpy.random.RandomState
        The source of randomness.

    Returns
    -------
    ndarray of shape (n_samples, n_features)
    """
    if "random_state" in inspect.signature(density.sample).parameters:
        drawn = density.sample(n_samples, random_state=rng)
    else:
        if "random_state" in density.get_params(deep=False):
            density = copy.copy(density).set_params(random_state=rng)
        drawn = density.sample(n_samples)
    if isinstance(drawn, tuple):  # sorted by component
        drawn = rng.permutation(drawn[0])
    return np.asarray(drawn, dtype=np.float64)
