"""Drawing from densities of any library that keeps scikit-learn's habits."""

import copy
import inspect

import numpy as np


def draw(density, n_samples, rng, method="sample"):
    """Return float64 draws of a fitted density, in random order.

    Parameters
    ----------
    density : estimator
        With a method that draws. Where that takes no `random_state`, as in
        scikit-learn's mixtures, the parameter of that name is set on a copy; where it
        returns the components beside the rows, the rows are shuffled.
    n_samples : int
        How many.
    rng : numpy.random.RandomState
        The source of randomness.
    method : str, default="sample"
        The name of the method.

    Returns
    -------
    ndarray of shape (n_samples, n_features)
    """
    if "random_state" in inspect.signature(getattr(density, method)).parameters:
        drawn = getattr(density, method)(n_samples, random_state=rng)
    else:
        if "random_state" in density.get_params(deep=False):
            density = copy.copy(density).set_params(random_state=rng)
        drawn = getattr(density, method)(n_samples)
    if isinstance(drawn, tuple):  # sorted by component
        drawn = rng.permutation(drawn[0])
    return np.asarray(drawn, dtype=np.float64)
