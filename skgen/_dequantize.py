"""Detection and dequantisation of tied columns.

A column of counts or rounded measurements has no density: ever narrower kernels on its
few values raise the likelihood without bound. Uniform noise of one grid step makes the
column continuous, so that log-likelihoods can be compared (Theis, van den Oord and
Bethge, 2016).
"""

from __future__ import annotations

import numpy as np
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils import check_array

from skgen._checks import checked_generator, numbers_only
from skgen._columns import ROUNDING_STEPS, list_columns
from skgen._interop import framed_like
from skgen._typing import FloatArray, MatrixLike, RandomState
from skgen._warnings import warn_user

# First words of the warning, by which estimators that hold a density silence it.
TIES = "Most values occur more than once in the columns"

# Maximum number of rows in which `fit` searches for ties, which only cause a warning.
_SEARCHED_ROWS = 4096

# Maximum distance of a value on a grid from a multiple of the step, in steps.
_GRID_TOLERANCE = 0.05

# Maximum number of decimals of a grid of rounded numbers.
_MAX_DECIMALS = 6

# The step is found from the tied values alone if they are at least this many distinct
# values and make up at least this fraction of the rows.
_MIN_TIED_VALUES = 5
_MIN_TIED_FRACTION = 0.75


def dequantize(X: MatrixLike, random_state: RandomState = None) -> FloatArray:
    r"""Add uniform noise of one grid step to every column with ties.

    Counts and rounded measurements lie on a grid, on which the likelihood of a density
    has no upper bound. A column with ties and grid step :math:`\delta` becomes

    .. math:: x' = x + \delta u, \qquad u \sim U(-1/2, 1/2).

    The step is the largest number that divides all differences between values of the
    column. If most values occur more than once, only these values are considered. For a
    column that does not lie on a grid, such as zeros among unrounded values, the step
    is the median distance from a tied row to the nearest other value, but at most a
    tenth of the interquartile range of the rows without ties. Columns without ties and
    constant columns are returned unchanged.

    Parameters
    ----------
    X : array-like or dataframe of shape (n_samples, n_features)
        The data. They are not changed.
    random_state : int, RandomState, Generator or None, default=None
        Seed of the noise. None seeds every call anew. NumPy's global generator is
        never used.

    Returns
    -------
    ndarray or dataframe of shape (n_samples, n_features)
        The data with noise: float32 for float32 data, else float64. A pandas or polars
        dataframe gives a dataframe with the same column names (and index).

    Raises
    ------
    ValueError
        If `X` is not a table of finite numbers, or `random_state` is invalid.

    Notes
    -----
    For data on a grid, the mean log-density of the dequantised rows plus
    ``log(step)`` for each tied column is, in expectation over the noise, a lower bound
    on the mean log-probability that the model assigns to the rounded rows [1]_.

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
    rng = checked_generator("dequantize", random_state)
    table = X
    X = numbers_only(
        "The 'X' argument of dequantize", check_array, X, copy=True, input_name="X"
    )
    if not X.flags.writeable:  # a dataframe of booleans, in pandas 3
        X = X.copy()
    for j in range(X.shape[1]):
        step, _ = column_step(X[:, j])
        if step > 0:
            X[:, j] += step * rng.uniform(-0.5, 0.5, size=X.shape[0])
    return framed_like(table, X)


def column_step(column):
    """Return the step of an (n,) column and whether its values are multiples of it.

    The step is 0 if no value occurs twice or all values are equal.
    """
    values, counts = _distinct_values(column)
    if values.size in (1, column.size):
        return 0.0, False
    tied = counts > 1
    # One unrounded number among many rounded ones must not decide the step.
    mostly_tied = counts[tied].sum() >= _MIN_TIED_FRACTION * column.size
    common = values[tied] if mostly_tied and tied.sum() >= _MIN_TIED_VALUES else values
    step = _decimal_step(common, np.finfo(column.dtype).eps) or _multiple_step(common)
    if step > 0:
        return step, True
    return _typical_step(values, counts), False


def _distinct_values(column):
    """Return the distinct values of an (n,) column in order and their counts."""
    ordered = np.sort(column)  # (n,)
    # Adjacent floating-point numbers count as one value: 0.1 + 0.2 and 0.3.
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
    """Return the greatest common step of numbers with few decimals, or 0."""
    largest = np.abs(values).max()
    for decimals in range(_MAX_DECIMALS + 1):
        scaled = values * 10.0**decimals
        if largest * 10.0**decimals > 2.0**53:
            return 0.0
        tolerance = min(4 * eps * largest * 10.0**decimals, _GRID_TOLERANCE)
        if np.abs(scaled - np.rint(scaled)).max() <= tolerance:
            steps = np.diff(np.rint(scaled).astype(np.int64))
            return float(np.gcd.reduce(steps) / 10.0**decimals)
    return 0.0


def _multiple_step(values):
    """Return the smallest gap if all values are multiples of it, else 0."""
    step = np.diff(values).min()
    multiples = (values - values[0]) / step
    on_grid = np.abs(multiples - np.rint(multiples)).max() < _GRID_TOLERANCE
    return float(step) if on_grid else 0.0


def _typical_step(values, counts):
    """Return the median distance of tied rows to the nearest other value."""
    gaps = np.diff(values)
    nearest = np.minimum(np.append(np.inf, gaps), np.append(gaps, np.inf))  # (m,)
    tied = counts > 1
    step = np.median(np.repeat(nearest[tied], counts[tied]))
    low, high = np.quantile(values[~tied], [0.25, 0.75]) if (~tied).any() else (0, 0)
    # The noise must not drown the rows without ties: a sentinel of -999 is far from
    # all of them.
    return float(min(step, 0.1 * (high - low)) if high > low else step)


def tied_columns(X):
    """Return the columns of (n, d) rows with fewer than half of their values distinct.

    Only a few thousand rows are searched. Columns that are constant up to rounding
    errors are left out.
    """
    rows = X[:: max(1, -(-X.shape[0] // _SEARCHED_ROWS))]
    if X.shape[1] > 1:
        # Repeated rows, as in a bootstrap sample, are not ties within a column.
        rows = np.unique(rows, axis=0)
    rows = np.sort(rows, axis=0)
    n_distinct = 1 + (np.diff(rows, axis=0) > 0).sum(axis=0)  # (d,)
    n_observed = rows.shape[0] - np.isnan(rows).sum(axis=0)  # NaN is sorted last
    ends = rows[[0, -1]]
    if (n_observed < rows.shape[0]).any():
        ends[1] = rows[n_observed - 1, np.arange(rows.shape[1])]
    span = ends[1].astype(np.float64) - ends[0]
    error = ROUNDING_STEPS * np.finfo(X.dtype).eps * np.abs(ends).max(axis=0)
    return np.flatnonzero((span > error) & (n_distinct < n_observed / 2))


def warn_about_ties(X, names=None):
    """Warn that the likelihood of (n, d) rows with tied columns has no upper bound."""
    tied = tied_columns(X)
    if tied.size:
        warn_user(
            f"{TIES} {list_columns(tied, names)}. The likelihood of tied data has no "
            "upper bound, so scores reward narrow components. Add noise of one grid "
            "step with skgen.dequantize first.",
            UndefinedMetricWarning,
            kind="ties",
        )
