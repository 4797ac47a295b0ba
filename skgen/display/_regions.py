"""The density on a grid, and the levels of the regions that hold a given mass."""

import numpy as np

from skgen._parameters import is_real, wrong_argument
from skgen.display._panels import limits


def checked_masses(method, masses):
    """Return the masses of regions as a sorted array."""
    rule = "one or more different numbers between 0 and 1"
    try:
        values = list(masses)
    except TypeError:
        raise wrong_argument(method, "masses", rule, masses) from None
    inside = all(is_real(mass) and 0.0 < mass < 1.0 for mass in values)
    if not values or not inside or len(set(values)) < len(values):
        raise wrong_argument(method, "masses", rule, masses)
    return np.sort(np.array(values, dtype=np.float64))


def levels(log_density, masses):
    """Return what the log-density of a draw exceeds with each probability."""
    return np.quantile(log_density, 1.0 - masses)


def score_grid(display, log_density, shown, grid_resolution):
    """Set a display's grid and the log-density there, of all features in any order."""
    columns = zip(display.data.T, display.draws.T, strict=True)
    display.grid = [np.linspace(*limits(*c), grid_resolution) for c in columns]
    points = np.column_stack([axis.ravel() for axis in np.meshgrid(*display.grid)])
    # The estimator's order of the features.
    answer = np.asarray(log_density(points[:, np.argsort(shown)]))
    display.log_density = answer.reshape([grid_resolution] * len(display.grid))
