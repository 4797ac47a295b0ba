"""The kernel of a density, given by numbers or estimated by a rule."""

from dataclasses import dataclass

import numpy as np

from skgen._checks import column_names, invalid_parameter
from skgen._whitening import (
    DiagonalWhitening,
    FullWhitening,
    estimate_whitening,
)
from skgen.kde._bandwidth import RULES
from skgen.kde._improved_sheather_jones import improved_sheather_jones
from skgen.kde._leave_one_out import SHAPES, choose_by_likelihood
from skgen.rows._moments import weighted_mean

_RULES = *RULES, "likelihood", "isj"

# Bandwidths whose squares are finite and positive.
_LEAST, _MOST = 1e-150, 1e150


@dataclass(frozen=True)
class Kernel:
    """A normal kernel, and the whitening that makes it the unit normal density."""

    whitening: DiagonalWhitening | FullWhitening
    by_rule: bool
    same: bool  # whether all features have the same standard deviation
    loo_score: float | None = None

    @property
    def bandwidth(self):
        """Return the standard deviations in the units of the data: a float or (d,)."""
        covariance = self.whitening.covariance  # (d,) or (d, d)
        if covariance.ndim == 2:
            return np.sqrt(np.diagonal(covariance))
        scale = self.whitening.scale
        return float(scale[0]) if self.same else scale.copy()

    @property
    def covariance(self):
        """Return the covariance: a float, (d,) or (d, d)."""
        covariance = self.whitening.covariance
        return float(covariance[0]) if self.same else covariance

    @property
    def log_normaliser(self):
        """Return the log-density at the centre."""
        if isinstance(self.whitening, FullWhitening):
            d = self.whitening.mean.size
            return self.whitening.log_det - 0.5 * d * np.log(2 * np.pi)
        # Logarithms of small and large scales can cancel, so long doubles add digits
        # on platforms that have them.
        scale = self.whitening.scale.astype(np.longdouble)
        pi = 4 * np.arctan(np.longdouble(1))
        return -float(np.log(scale * np.sqrt(2 * pi)).sum())

    def coordinates(self, X):
        """Return (n, d) rows in the coordinates in which kernels are summed."""
        # A bandwidth given as a number can be tiny compared with the data: whitened
        # coordinates would lose the difference of neighbours to rounding.
        return self.whitening.whiten(X) if self.by_rule else X

    def from_coordinates(self, Z):
        """Return the rows (n, d) that have the coordinates `Z` (n, d)."""
        return self.whitening.unwhiten(Z) if self.by_rule else Z


def check_bandwidth(model):
    """Raise unless `bandwidth` is a rule, a number or an array of numbers."""
    if not _is_rule(model):
        _numbers(model)


def fitted_kernel(model, X, sample_weight, dtype):
    """Return the kernel for the `bandwidth` and `covariance_type` of a GaussianKDE.

    `X` is (n, d), `sample_weight` (n,), and `dtype` the original dtype of `X`.
    """
    if not _is_rule(model):
        return _by_numbers(model, X, sample_weight)
    _check_weights(model, X, sample_weight)
    auto = model.covariance_type == "auto"
    options = {"dtype": dtype, "names": column_names(model)}
    if model.bandwidth == "likelihood" and (X != X[0]).any():
        shapes = SHAPES if auto else [model.covariance_type]
        choice = choose_by_likelihood(X, sample_weight, shapes, **options)
        whitening = choice.whitening.rescaled(choice.factor)
        return Kernel(whitening, True, choice.shape == "spherical", choice.score)
    shape = "full" if auto else model.covariance_type
    whitening = estimate_whitening(X, sample_weight, shape, ddof=1, **options)
    if model.bandwidth == "isj":
        factor = _isj_factor(X, sample_weight, whitening)
    else:
        # Directions at the floor do not count as dimensions.
        d = max(1, int((~whitening.degenerate).sum()))
        rule = RULES.get(model.bandwidth, RULES["scott"])
        factor = rule(sample_weight.sum(), d)
    return Kernel(whitening.rescaled(factor), True, shape == "spherical")


def _is_rule(model):
    return isinstance(model.bandwidth, str) and model.bandwidth in _RULES


def _numbers(model, n_features=None):
    """Return the bandwidth as an array of shape () or (d,)."""
    rule = (
        f"a number from {_LEAST:g} to {_MOST:g}, one such number for each feature, "
        f"or one of {', '.join(map(repr, _RULES))}"
    )
    wrong = invalid_parameter(model, "bandwidth", rule, model.bandwidth)
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


def _by_numbers(model, X, sample_weight):
    """Return the kernel for standard deviations given as numbers."""
    d = X.shape[1]
    numbers = _numbers(model, d)
    mean, never = weighted_mean(X, sample_weight), np.zeros(d, dtype=bool)
    whitening = DiagonalWhitening(mean, np.broadcast_to(numbers, d).copy(), never)
    return Kernel(whitening, False, numbers.ndim == 0)


def _check_weights(model, X, sample_weight):
    """Raise if a rule cannot be applied to these rows and weights."""
    n = sample_weight.sum()
    rule = f"bandwidth={model.bandwidth!r} of {type(model).__name__}"
    if X.shape[0] < 2 and n < 2:
        raise ValueError(
            f"{rule} needs the covariance of at least 2 rows with a positive "
            "weight. Got 1 sample instead: set the bandwidth to a number."
        )
    if n <= 1:
        raise ValueError(
            f"{rule} needs weights that sum to more than 1, because a weight counts "
            "the occurrences of a row (2 is the same row twice). Got a "
            f"'sample_weight' argument that sums to {n:.6g} instead: rescale it, "
            "or set the bandwidth to a number."
        )
    if model.bandwidth == "isj" and X.shape[1] != 1:
        rule = "a number or another rule for more than one feature ('isj' takes one)"
        raise invalid_parameter(model, "bandwidth", rule, "isj")


def _isj_factor(X, sample_weight, whitening):
    """Return the factor of Botev's rule, or Silverman's if there is no fixed point."""
    n, factor = sample_weight.sum(), None
    if not whitening.degenerate.any():
        z = whitening.whiten(X)[:, 0]
        n_distinct = np.unique(z).size
        factor = improved_sheather_jones(z, sample_weight, min(n, n_distinct))
    return factor or RULES["silverman"](n, 1)
