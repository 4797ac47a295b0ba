"""Columns that are constant up to rounding errors, before and after transformers.

A collinear feature leaves a principal component with a standard deviation of rounding
errors, about 1e-16. A density of this component would gain dozens of nats. Columns of
rounding errors are therefore made constant before a step is fitted, so that the shared
floor of constant features applies.

They are found by perturbation, which works for every transformer: some rows and their
copies with relative errors pass through the transformers, and the differences of their
codes are what becomes of rounding errors.
"""

import math
import warnings

import numpy as np
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    RobustScaler,
    StandardScaler,
)

from skgen._columns import ROUNDING_STEPS
from skgen._interop import framed_like
from skgen._threads import changed
from skgen._whitening import DEGENERATE_VARIANCE, are_constant
from skgen.compose._changes import PRINCIPAL, change_of, whitening_scales
from skgen.rows._moments import moments_of, observed_moments_of

_DIVIDE = StandardScaler, RobustScaler, MaxAbsScaler
SCALERS = *_DIVIDE, MinMaxScaler

# Minimum number of rows that are perturbed if there are more: in all, and by column.
_N_PERTURBED, _N_FOR_A_COLUMN = 1000, 2

# Maximum error of rows that a transformer and its inverse return, in deviations.
MOST_LOST = 0.02

# Standard deviation of the floor, relative to the largest standard deviation.
_FLOOR = math.sqrt(DEGENERATE_VARIANCE)


def _without_warnings():
    """Return a context without warnings, also of other packages."""

    def change():
        context = warnings.catch_warnings()
        context.__enter__()
        warnings.simplefilter("ignore")
        return context

    # Python's filters are of the process.
    return changed("warnings", change, lambda context: context.__exit__())


class Rounding:
    """Rounding errors of rows X (n, d) of a data type, followed through transformers.

    `errors` (k,) are the rounding errors of the columns, `constant` (k,) marks those
    that vary by these alone, and `varies` whether any is not exactly constant.
    `divided_by` is the name of a step that divides rounding errors by their size.
    """

    def __init__(self, X, dtype):
        # The relative errors are the square root of rounding errors, and differences
        # are multiplied by the square root: float64 resolves them, and the jumps of a
        # transformer come out much smaller than they are.
        self._root = math.sqrt(ROUNDING_STEPS * np.finfo(dtype).eps)
        n, d = X.shape
        rows = X[:: max(1, n // max(_N_PERTURBED, _N_FOR_A_COLUMN * d))]
        signs = np.random.RandomState(0).choice([-1.0, 1.0], size=rows.shape)
        if np.isnan(rows).any():
            rows = _completed(rows, X)
        self._rows, self._perturbed = rows, rows * (1 + self._root * signs)
        self.errors = self._differences()  # (k,)
        self.varies = False
        self.divided_by = None
        deviations = deviations_of(rows)
        # Errors that the floor does not cover are the only variation of such a column.
        wide = (deviations <= self.errors) & ~are_constant(deviations, self.errors)
        self._perturbed[:, wide] = rows[:, wide]
        self.errors[wide] = 0.0
        self._rows = self.made_constant(rows)

    def follow(self, step, transform, fitted_to_errors=False):
        """Pass the rows through a fitted step with ``transform(step, rows)``.

        `fitted_to_errors` if columns of rounding errors were not made constant before.
        """
        enlarged = fitted_to_errors and self.varies
        before, self._rows = self._rows, transform(step, self._rows)
        # Columns of which the step does not keep the values.
        self.lost = lost_columns(step, before, self._rows, self.errors)
        try:
            with _without_warnings(), np.errstate(all="ignore"):
                self._perturbed = transform(step, self._perturbed)
        except Exception:  # such as unknown categories for an encoder
            self._perturbed = self._rows
        self.errors = self._differences()
        scales = np.ones(1)
        if isinstance(step, PRINCIPAL):
            scales = whitening_scales(step)
            self.errors = self._errors_of_components(scales)
        deviations = deviations_of(self._rows)
        constant = deviations <= self.errors
        largest = deviations[~constant].max(initial=0.0)
        large = (deviations > _FLOOR * largest) | (scales < scales.max())
        self.varies = largest > 0 and bool(deviations[constant].any())
        if enlarged or (self.varies and large[constant].any()):
            self.divided_by = self.divided_by or type(step).__name__

    def _errors_of_components(self, scales):
        """Return the errors of principal components with scales of whitening (k,)."""
        codes = self._rows * scales
        deviations = deviations_of(codes)
        largest = deviations.max()
        errors = np.maximum(self.errors * scales, self._root**2 * largest)
        limit = _FLOOR * largest
        small = (errors < deviations) & (deviations <= limit)
        if small.any():
            # Far from the origin, scikit-learn's eigenvectors have large errors. A
            # component without variance then consists of the other components.
            codes = codes - codes.mean(axis=0)
            others, rest = codes[:, deviations > limit], codes[:, small]
            rest = rest - others @ np.linalg.lstsq(others, rest)[0]
            mixed = deviations_of(rest) <= errors[small]
            errors[small] = np.where(mixed, limit, errors[small])
        return errors / scales

    def _differences(self):
        """Return the largest rounding error of each column: (k,)."""
        differences = np.nan_to_num(self._perturbed - self._rows, posinf=0, neginf=0)
        return self._root * np.abs(differences).max(axis=0)

    def made_constant(self, codes):
        """Return (n, k) rows or a dataframe, constant where only rounding errors vary.

        `codes` are the output of the last step for all rows. Set `constant`.
        """
        values = np.asarray(codes, dtype=np.float64)
        # Lower bounds of the deviations, of which the perturbed rows are a part.
        deviations = deviations_of(self._rows)
        deviations *= math.sqrt(self._rows.shape[0] / values.shape[0])
        self.constant = deviations <= self.errors
        if not self.constant.any():
            return codes
        moments = _moments_of(values, np.ones(values.shape[0]))
        self.constant = are_constant(np.sqrt(moments.variances), self.errors)
        if (values[:, self.constant] == values[0, self.constant]).all():
            return codes
        constant = self.constant & ~np.isnan(values)
        return framed_like(codes, np.where(constant, moments.mean, values))


def _completed(rows, X):
    """Return rows (m, d) of X (n, d) with observed values in the place of NaN."""
    rows, observed = rows.copy(), ~np.isnan(X)
    for j in np.flatnonzero(np.isnan(rows).any(axis=0)):
        values, some = X[observed[:, j], j], np.isnan(rows[:, j])
        if values.size:
            rows[some, j] = np.resize(values, some.sum())
    return rows


def _moments_of(X, sample_weight):
    """Return the moments of the features of rows (n, d), which may have NaN."""
    if np.isnan(X).any():
        return observed_moments_of(X, sample_weight)
    return moments_of(X, sample_weight, full=False)


def deviations_of(X, sample_weight=None):
    """Return the standard deviations of columns (n, k), 0 if constant: (k,)."""
    weights = np.ones(X.shape[0]) if sample_weight is None else sample_weight
    with np.errstate(over="ignore"):
        return np.sqrt(_moments_of(X, weights).variances)


def lost_columns(step, X, Y, errors):
    """Return the columns of rows X (n, d) that do not come back from the output Y.

    Columns that vary by rounding `errors` (d,) need not come back.
    """
    change = change_of(step)
    if not change.is_invertible:
        return np.empty(0, dtype=int)
    try:
        with _without_warnings(), np.errstate(all="ignore"):
            apart = np.abs(np.asarray(change.invert(step, Y), dtype=np.float64) - X)
    except Exception:  # no inverse
        return np.empty(0, dtype=int)
    deviations = deviations_of(X)
    rounding = ROUNDING_STEPS * np.finfo(np.float64).eps * np.abs(X).max(axis=0)
    most = np.maximum(MOST_LOST * deviations, rounding)
    # A few rows may be lost in the tails of a function.
    kept = np.median(apart, axis=0) <= most
    return np.flatnonzero(~kept & (deviations > errors))


def scale_constants(step, codes, sample_weight, constant):
    """Change the scale of `constant` (d,) columns of a scaler fitted to codes."""
    # scikit-learn's scalers divide a constant feature by 1, so a density would floor
    # its variance at a fraction of the largest scaled variance. With the scale that is
    # set here, this floor is the floor without a scaler.
    if not constant.any() or constant.all() or getattr(step, "scale_", None) is None:
        return
    deviations = deviations_of(np.asarray(codes, dtype=np.float64), sample_weight)
    if isinstance(step, _DIVIDE):
        scaled = (deviations / step.scale_)[~constant].max()
        step.scale_[constant] = deviations.max() / scaled
    elif isinstance(step, MinMaxScaler):
        scaled = (deviations * step.scale_)[~constant].max()
        step.scale_[constant] = scaled / deviations.max()
        low = step.feature_range[0] - step.data_min_ * step.scale_
        step.min_[constant] = low[constant]
