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

from skgen._parameters import RANDOM_STATE_RULE, InvalidParameterError, is_random_state

# A fit looks for ties in this many rows at most: what it finds is only a warning.
_ROWS_LOOKED_AT = 4096

# Values closer than this share of the largest magnitude count as one value:
# 0.1 + 0.2 and 0.3 differ by 5.6e-17.
_SAME_VALUE = 1e-12

# How far from a multiple of the step a value may be, in steps, on a grid.
_GRID_TOLERANCE = 0.05


def dequantize(X, random_state=None):
    r"""Add uniform noise of one grid step to every column that has ties.

    Data that were counted or rounded lie on a grid, where a density has no upper
    bound. For a column with ties and grid step :math:`\delta`,

    .. math:: x' = x + \delta u, \qquad u \sim U(-1/2, 1/2).

    The step is found from the column: the smallest gap between its values where
    all are multiples of it, else the median distance from a tied row to the nearest
    other value. Columns without ties, and constant columns, come back as they are.

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
        If `X` is not a table of finite numbers, or `random_state` is no seed.

    Notes
    -----
    The mean log-density of the dequantised data is a lower bound on the
    log-probability of the rounded data, less ``log(step)`` for each tied column
    [1]_.

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
        raise InvalidParameterError(
            f"The 'random_state' argument of dequantize must be {RANDOM_STATE_RULE}. "
            f"Got {random_state!r} instead."
        )
    X = check_array(X, dtype=[np.float64, np.float32], copy=True, input_name="X")
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
    """Return the step of the grid that a tied column lies on; 0 without ties.

    Where all values are multiples of the smallest gap between them, that gap is the
    step. Where they are not (a column of atoms and unrounded values, or of numbers
    rounded by many hands), it is how far tied rows are from the nearest other
    value, in the median.

    Parameters
    ----------
    column : ndarray of shape (n_samples,)
        Finite values.

    Returns
    -------
    float
        The step. 0 says that no value occurs twice, or that all are the same.
    """
    resolution = max(_SAME_VALUE, np.finfo(column.dtype).eps) * np.abs(column).max()
    ordered = np.sort(column.astype(np.float64))  # (n,)
    new = np.concatenate([[True], np.diff(ordered) > resolution])
    if new.all() or new.sum() == 1:
        return 0.0
    starts = np.flatnonzero(new)
    values = ordered[starts]  # (m,) distinct
    counts = np.diff(np.append(starts, ordered.size))
    gaps = np.diff(values)  # (m - 1,)
    multiples = (values - values[0]) / gaps.min()
    if np.abs(multiples - np.round(multiples)).max() < _GRID_TOLERANCE:
        return float(gaps.min())
    nearest = np.minimum(
        np.append(np.inf, gaps),  # to the value below
        np.append(gaps, np.inf),  # and above
    )
    return float(np.median(np.repeat(nearest, counts)[np.repeat(counts, counts) > 1]))


def tied_columns(X):
    """Return the columns in which fewer than half of the values are distinct.

    Looks at no more than a few thousand rows, spread over the table. Constant
    columns are another matter (see the shared floor) and are not among them.
    """
    rows = X[:: max(1, -(-X.shape[0] // _ROWS_LOOKED_AT))]
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
            "Most values occur more than once in the columns "
            f"{list_columns(tied, names)}. A density "
            "on such a grid has no upper bound, so that scores reward narrow "
            "components: add noise of one grid step with skgen.dequantize first.",
            UndefinedMetricWarning,
            stacklevel=2,
        )
