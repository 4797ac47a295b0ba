"""Tied columns: finding them, warning of them, and spreading them by noise.

A column of counts or of rounded measurements has no density: narrower and
narrower kernels on its few values raise the likelihood without bound. Uniform
noise of one grid step makes it continuous again (Theis, van den Oord and Bethge,
2016), and then log-likelihoods can be compared.
"""

import warnings

import numpy as np
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils import check_array

from skgen._parameters import (
    RANDOM_STATE_RULE,
    is_random_state,
    numbers_only,
    wrong_argument,
)

# How the warning begins.
TIES = "Most values occur more than once in the columns"

# A fit looks for ties in this many rows at most: what it finds is only a warning.
_ROWS_LOOKED_AT = 4096

# How far from a multiple of the step a value may be, in steps, on a grid.
_GRID_TOLERANCE = 0.05

# The most decimals that a grid of rounded numbers is looked for with.
_MOST_DECIMALS = 6

# A step is found from the values that occur more than once where these are so many,
# and such a share of the rows.
_FEW_VALUES = 5
_MOSTLY = 0.75


def dequantize(X, random_state=None):
    r"""Add uniform noise of one grid step to every column that has ties.

    Data that were counted or rounded lie on a grid, where a density has no upper
    bound. For a column with ties and grid step :math:`\delta`,

    .. math:: x' = x + \delta u, \qquad u \sim U(-1/2, 1/2).

    The step is found from the column: the greatest that its values are multiples of
    (of those that occur more than once, where most do). A column that is no grid,
    such as zeros among unrounded values, gets the median distance from a tied row to
    the nearest other value, but no more than a tenth of the interquartile range of
    the rows without ties. Columns without ties, and constant columns, come back as
    they are.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        The rows. They are copied, never changed.
    random_state : int, RandomState instance or None, default=None
        Seeds the noise. None takes fresh entropy; the global generator is never
        used.

    Returns
    -------
    ndarray of shape (n_samples, n_features)
        The rows with noise; float32 for float32, else float64.

    Raises
    ------
    ValueError
        If `X` is not a table of finite numbers, or `random_state` is not None, an
        int or a RandomState.

    Notes
    -----
    For data on a grid, the mean log-density of the dequantised rows plus
    ``log(step)`` for each tied column is at most the log-probability that the model
    gives the rounded rows [1]_.

    References
    ----------
    .. [1] Theis, L., van den Oord, A. and Bethge, M. (2016). A note on the
       evaluation of generative models. ICLR.

    Examples
    --------
    >>> import numpy as np
    >>> from skgen import dequantize
    >>> X = np.array([[1.0, 0.31], [2.0, 0.44], [2.0, 0.15], [4.0, 0.92]])
    >>> X_noisy = dequantize(X, random_state=0)
    >>> bool(np.all(np.abs(X_noisy[:, 0] - X[:, 0]) <= 0.5))
    True
    >>> bool(np.all(X_noisy[:, 1] == X[:, 1]))
    True
    """
    if not is_random_state(random_state):
        raise wrong_argument(
            "dequantize", "random_state", RANDOM_STATE_RULE, random_state
        )
    X = numbers_only(
        "The 'X' argument of dequantize", check_array, X, copy=True, input_name="X"
    )
    rng = (
        random_state
        if isinstance(random_state, np.random.RandomState)
        else np.random.RandomState(random_state)
    )
    for j in range(X.shape[1]):
        step = grid_step(X[:, j])
        if step > 0:
            X[:, j] += step * rng.uniform(-0.5, 0.5, size=X.shape[0])
    return X


def grid_step(column):
    """Return the step of a tied column; 0 without ties. See `column_step`."""
    return column_step(column)[0]


def column_step(column):
    """Return the step of a tied column, and whether the column is a grid.

    For whole numbers, and numbers of a few decimals, the step is their greatest
    common one: of the values that occur more than once, where those are most of the
    rows, so that one odd number among many rounded ones does not count. Else,
    where all values are multiples of the smallest gap between them, it is that gap.
    Else the column is no grid (atoms among unrounded values, say), and the step is
    how far tied rows are from the nearest other value, in the median, but no more
    than a tenth of the interquartile range of the rows without ties.

    Parameters
    ----------
    column : ndarray of shape (n_samples,)
        Finite values.

    Returns
    -------
    step : float
        The step. 0 says that no value occurs twice, or that all are the same.
    is_grid : bool
        Whether the values are multiples of the step.
    """
    values, counts = _distinct(column)
    if values.size in (1, column.size):
        return 0.0, False
    tied = counts > 1
    mostly_tied = counts[tied].sum() >= _MOSTLY * column.size
    common = values[tied] if mostly_tied and tied.sum() >= _FEW_VALUES else values
    step = _decimal_step(common, np.finfo(column.dtype).eps) or _multiple_step(common)
    if step > 0:
        return step, True
    return _typical_step(values, counts), False


def _distinct(column):
    """Return the distinct values of a column in order, and how often each occurs."""
    ordered = np.sort(column)  # (n,)
    # Neighbours among floating-point numbers are one value: 0.1 + 0.2 and 0.3.
    apart = 1.5 * np.spacing(np.abs(ordered)).astype(np.float64)
    whole = bool((ordered == np.rint(ordered)).all())
    ordered = ordered.astype(np.float64)
    with np.errstate(over="ignore"):
        gaps = np.diff(ordered)  # (n - 1,)
    if not np.isfinite(gaps).all():
        return ordered, np.ones(ordered.size, dtype=int)
    new = np.append(True, gaps > (0 if whole else np.maximum(apart[1:], apart[:-1])))
    return ordered[new], np.diff(np.append(np.flatnonzero(new), ordered.size))


def _decimal_step(values, eps):
    """Return the common step of numbers of a few decimals; 0 where there is none."""
    largest = np.abs(values).max()
    for decimals in range(_MOST_DECIMALS + 1):
        scaled = values * 10.0**decimals
        if largest * 10.0**decimals > 2.0**53:
            return 0.0
        tolerance = min(4 * eps * largest * 10.0**decimals, _GRID_TOLERANCE)
        if np.abs(scaled - np.rint(scaled)).max() <= tolerance:
            steps = np.diff(np.rint(scaled).astype(np.int64))
            return float(np.gcd.reduce(steps) / 10.0**decimals)
    return 0.0


def _multiple_step(values):
    """Return the smallest gap where all values are multiples of it; else 0."""
    step = np.diff(values).min()
    multiples = (values - values[0]) / step
    on_grid = np.abs(multiples - np.rint(multiples)).max() < _GRID_TOLERANCE
    return float(step) if on_grid else 0.0


def _typical_step(values, counts):
    """Return how far tied rows are from the nearest other value, in the median."""
    gaps = np.diff(values)
    nearest = np.minimum(np.append(np.inf, gaps), np.append(gaps, np.inf))  # (m,)
    tied = counts > 1
    step = np.median(np.repeat(nearest[tied], counts[tied]))
    low, high = np.quantile(values[~tied], [0.25, 0.75]) if (~tied).any() else (0, 0)
    # Noise that swamps the rows without ties would cure nothing: a sentinel of -999
    # is far from everything.
    return float(min(step, 0.1 * (high - low)) if high > low else step)


def tied_columns(X):
    """Return the columns in which fewer than half of the values are distinct.

    Looks at no more than a few thousand rows, spread over the table. Constant
    columns are another matter (see the shared floor) and are not among them.
    """
    rows = X[:: max(1, -(-X.shape[0] // _ROWS_LOOKED_AT))]
    if X.shape[1] > 1:
        # A row that comes twice, as in a bootstrap, is no tie of its columns.
        rows = np.unique(rows, axis=0)
    n_distinct = 1 + (np.diff(np.sort(rows, axis=0), axis=0) > 0).sum(axis=0)  # (d,)
    return np.flatnonzero((n_distinct > 1) & (n_distinct < rows.shape[0] / 2))


def list_columns(columns, names=None):
    """Return the names (or numbers) of columns for a message, ten at most."""
    shown = [str(names[j]) if names else str(j) for j in columns[:10]]
    more = f", ... ({len(columns)} in all)" if len(columns) > 10 else ""
    return "[" + ", ".join(shown) + more + "]"


def warn_about_ties(X, names=None):
    """Warn that a likelihood on tied columns has no upper bound."""
    tied = tied_columns(X)
    if tied.size:
        warnings.warn(
            f"{TIES} {list_columns(tied, names)}. A density "
            "on such a grid has no upper bound, so that scores reward narrow "
            "components: add noise of one grid step with skgen.dequantize first.",
            UndefinedMetricWarning,
            stacklevel=2,
        )
