"""The density on a grid, and the levels of regions of a given mass."""

import numpy as np

from skgen._checks import is_real, wrong_argument
from skgen.display._panels import limits


def checked_masses(method, masses):
    """Return the masses of regions as a sorted (n_levels,) array."""
    rule = "one or more different numbers between 0 and 1"
    try:
        values = list(masses)
    except TypeError:
        raise wrong_argument(method, "masses", rule, masses) from None
    inside = all(is_real(mass) and 0.0 < mass < 1.0 for mass in values)
    if not values or not inside or len(set(values)) < len(values):
        raise wrong_argument(method, "masses", rule, masses)
    return np.sort(np.array(values, dtype=np.float64))


def checked_limits(method, limits, n_shown):
    """Return the ends of axes as an (n_shown, 2) array; None for None."""
    if limits is None:
        return None
    rule = f"{n_shown} pairs (low, high) of numbers, one for each column that is shown"
    try:
        ends = [tuple(pair) for pair in limits]
    except TypeError:
        raise wrong_argument(method, "limits", rule, limits) from None
    valid = all(len(pair) == 2 and all(map(is_real, pair)) for pair in ends)
    if len(ends) != n_shown or not valid or any(low >= high for low, high in ends):
        raise wrong_argument(method, "limits", rule, limits)
    return np.array(ends, dtype=np.float64)


def levels(log_density, masses):
    """Return the log-densities that a draw exceeds with these (n_levels,) masses."""
    return np.quantile(log_density, 1.0 - masses)


def score_grid(display, log_density, shown, grid_resolution):
    """Set the grid of a display, and the log-density at its points."""
    ends = display.limits
    if ends is None:
        columns = zip(display.data.T, display.draws.T, strict=True)
        ends = [limits(*column) for column in columns]
    display.grid = [np.linspace(*pair, grid_resolution) for pair in ends]
    points = np.column_stack([axis.ravel() for axis in np.meshgrid(*display.grid)])
    # In the order of the features of the estimator.
    answer = np.asarray(log_density(points[:, np.argsort(shown)]))
    display.log_density = answer.reshape([grid_resolution] * len(display.grid))
