"""The kernel of a density, given by numbers or estimated by a rule."""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from skgen._checks import column_names, invalid_parameter
from skgen._columns import ROUNDING_STEPS
from skgen._warnings import quiet
from skgen._whitening import (
    DiagonalWhitening,
    FullWhitening,
    constant_features,
    estimate_whitening,
    lower_triangular,
)
from skgen.kde._bandwidth import rule_factor
from skgen.kde._leave_one_out import SHAPES, choose_by_likelihood
from skgen.rows._moments import moments_of

_RULES = "scott", "silverman", "likelihood", "isj"

# Bandwidths whose squares are finite and positive.
_LEAST, _MOST = 1e-150, 1e150


@dataclass(frozen=True)
class Kernel:
    """A normal kernel, and the whitening that makes it the unit normal density."""

    whitening: DiagonalWhitening | FullWhitening
    by_rule: bool

    @property
    def deviations(self):
        """Return the standard deviation in each feature: (d,)."""
        if self.is_correlated:
            return np.sqrt(np.einsum("ij,ij->i", *[self.whitening.factor] * 2))
        return self.whitening.scale.copy()

    @property
    def covariance(self):
        """Return the covariance: (d, d)."""
        covariance = self.whitening.covariance
        return covariance if covariance.ndim == 2 else np.diag(covariance)

    @property
    def is_correlated(self):
        """Return whether the kernel has a full covariance."""
        return isinstance(self.whitening, FullWhitening)

    @property
    def log_normaliser(self):
        """Return the log-density at the centre."""
        if self.is_correlated:
            d = self.whitening.mean.size
            return self.whitening.log_det - 0.5 * d * np.log(2 * np.pi)
        # Logarithms of small and large scales can cancel, so long doubles add digits
        # on platforms that have them.
        scale = self.whitening.scale.astype(np.longdouble)
        pi = 4 * np.arctan(np.longdouble(1))
        return -float(np.log(scale * np.sqrt(2 * pi)).sum())

    # A bandwidth given as a number can be tiny compared with the data: whitened
    # coordinates would lose the difference of neighbours to rounding. Kernels of
    # numbers are summed in the units of the data, kernels of rules in whitened rows.

    def coordinates(self, X):
        """Return (n, d) rows in the coordinates in which kernels are summed."""
        return self.whitening.whiten(X) if self.by_rule else X

    def from_coordinates(self, Z):
        """Return the rows (n, d) that have the coordinates `Z` (n, d)."""
        return self.whitening.unwhiten(Z) if self.by_rule else Z

    @property
    def scale(self):
        """Return the standard deviations in these coordinates: (d,)."""
        deviations = self.deviations
        return np.ones(deviations.size) if self.by_rule else deviations

    def restricted(self, features):
        """Return the marginal kernel of features, given by their indices (f,)."""
        whitening = self.whitening
        mean = whitening.mean[features]
        if self.is_correlated:
            lower = lower_triangular(whitening.factor[features])
            return Kernel(_full_whitening(mean, lower), self.by_rule)
        scale, degenerate = whitening.scale[features], whitening.degenerate[features]
        return Kernel(DiagonalWhitening(mean, scale, degenerate), self.by_rule)

    def conditional(self, o, m):
        """Return the regression of features `m` on features `o`, both indices.

        It is the slopes (m, o) on the coordinates of the marginal kernel of `o`, or
        None if all of them are 0, and the kernel of the residuals.
        """
        if not self.is_correlated:
            return None, self.restricted(m)
        lower = lower_triangular(self.whitening.factor[np.append(o, m)])  # (d, d)
        mean, n = self.whitening.mean[m], o.size
        residual = _full_whitening(mean, lower[n:, n:])
        return lower[n:, :n], Kernel(residual, self.by_rule)


def _full_whitening(mean, lower):
    """Return the whitening of a lower triangular factor (d, d)."""
    inverse = solve_triangular(lower, np.eye(mean.size), lower=True)
    return FullWhitening(mean, lower, inverse, np.zeros(mean.size, dtype=bool))


def check_bandwidth(model, n_features=None):
    """Return the standard deviations (d,) or () that are given, None for a rule.

    Raise unless `bandwidth` is a rule, a number, or an array of `n_features` numbers.
    """
    if isinstance(model.bandwidth, str) and model.bandwidth in _RULES:
        return None
    rule = (
        f"a number from {_LEAST:g} to {_MOST:g}, one such number for each feature, "
        f"or one of {', '.join(map(repr, _RULES))}"
    )
    wrong = invalid_parameter(model, "bandwidth", rule, model.bandwidth)
    if np.ma.is_masked(model.bandwidth):
        raise wrong
    try:
        numbers = np.asarray(model.bandwidth)
    except ValueError:  # ragged lists
        raise wrong from None
    if numbers.dtype.kind not in "iuf" or numbers.ndim > 1:
        raise wrong
    numbers = numbers.astype(np.float64)
    if not ((numbers >= _LEAST) & (numbers <= _MOST)).all():
        raise wrong
    if n_features is not None and numbers.ndim and numbers.shape != (n_features,):
        rule = f"one number, or one for each of the {n_features} features"
        raise invalid_parameter(model, "bandwidth", rule, model.bandwidth)
    return numbers


def fitted_kernel(model, X, sample_weight, dtype, completed=None):
    """Return the kernel of a GaussianKDE, and the `Choice` by likelihood or None.

    `X` is (n, d), `sample_weight` (n,), and `dtype` the original dtype of `X`. They are
    the kernels of the `Completed` rows for incomplete rows.
    """
    d = X.shape[1]
    numbers = check_bandwidth(model, d)
    if numbers is not None:
        scale = np.broadcast_to(numbers, d).copy()
        whitening = DiagonalWhitening(np.zeros(d), scale, np.zeros(d, dtype=bool))
        return Kernel(whitening, False), None
    _check_weights(model, X, sample_weight)
    auto = model.covariance_type == "auto"
    options = {"dtype": dtype, "names": column_names(model)}
    if model.bandwidth in ("likelihood", "isj"):  # which leave copies out
        moments = moments_of(X, sample_weight, full=False)
        constant = constant_features(moments, dtype)
        X = np.where(constant, X[0], without_rounding_errors(X, moments, dtype))
    if model.bandwidth == "likelihood":
        if not constant.all():
            shapes = SHAPES if auto else [model.covariance_type]
            if completed is not None:
                # Completions of a row are near copies of each other, and a completion
                # of the row that it was drawn from: both would narrow the kernel.
                sample_weight = completed.sample_weight
                rows = completed.draws[0]
                with quiet():
                    first = choose_by_likelihood(rows, sample_weight, shapes, **options)
                X = completed.scattered(Kernel(first.whitening, True))
            choice = choose_by_likelihood(X, sample_weight, shapes, **options)
            return Kernel(choice.whitening, True), choice
    shape = "full" if auto else model.covariance_type
    whitening = estimate_whitening(X, sample_weight, shape, ddof=1, **options)
    n_rows = sample_weight
    if completed is not None:  # the number of observed values, in rows
        n_rows = sample_weight * completed.fraction
    factor = rule_factor(model.bandwidth, X, n_rows, whitening)
    return Kernel(whitening.rescaled(factor), True), None


# Features with a smaller standard deviation, in rounding errors, are left as they are.
_RESOLVED = 1e3


def without_rounding_errors(X, moments, dtype):
    """Return rows (n, d) in which values of a feature that differ by rounding agree."""
    relative = ROUNDING_STEPS * np.finfo(dtype).eps
    resolved = np.sqrt(moments.variances) > _RESOLVED * relative * moments.magnitudes
    merged = X.copy()
    for j in np.flatnonzero(resolved):
        x = X[:, j]
        order = np.argsort(x, kind="stable")
        x = x[order]
        error = relative * np.abs(x)  # (n,)
        new = np.append(True, np.diff(x) > np.maximum(error[1:], error[:-1]))
        # Many dense rows are a chain of such values, which is cut into short pieces.
        first = x[new][np.cumsum(new) - 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            piece = np.nan_to_num(np.floor((x - first) / error), posinf=0)
        new[1:] |= np.diff(piece) != 0
        merged[order, j] = x[new][np.cumsum(new) - 1]
    return merged


# Least number of rows beyond the first whose covariance rounding does not distort.
_LEAST_EXCESS = 1e-6


def _check_weights(model, X, sample_weight):
    """Raise if a rule cannot be applied to these rows and weights."""
    n = sample_weight.sum()
    rule = f"bandwidth={model.bandwidth!r} of {type(model).__name__}"
    if n < 1 + _LEAST_EXCESS:
        weights = "a 'sample_weight' argument with all of its weight on 1 row"
        got = "1 sample" if X.shape[0] == 1 else weights
        raise ValueError(
            f"{rule} needs the covariance of at least 2 rows with a positive weight. "
            f"Got {got} instead: set the bandwidth to a number."
        )
    if model.bandwidth == "isj" and X.shape[1] != 1:
        rule = "a number or another rule for more than one feature ('isj' takes one)"
        raise invalid_parameter(model, "bandwidth", rule, "isj")
