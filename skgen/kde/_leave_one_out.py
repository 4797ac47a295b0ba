r"""The bandwidth and the shape of a kernel by leave-one-out likelihood.

The factor `f` and the shape `S` of the kernel maximise the mean log-density of each row
by the kernels on all other rows (Habbema, Hermans and van den Broek, 1974; Duin, 1976):

.. math:: \ell(f, S) = \frac{1}{\sum_i w_i} \sum_i w_i \log \frac
          {\sum_{j : x_j \ne x_i} w_j \, \mathcal{N}(x_i; x_j, f^2 S)}
          {\sum_{j : x_j \ne x_i} w_j}.

Copies of a row are left out with the row: on copies, the likelihood would increase
without bound as `f` decreases.

A search over all octaves judges some of the rows. From its maxima, the factor climbs on
the likelihood of all rows, if transforms sum their kernels or few kernels reach a row.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn.exceptions import UndefinedMetricWarning

from skgen._warnings import quiet, warn_user
from skgen._whitening import DiagonalWhitening, FullWhitening, estimate_whitening
from skgen.kde._fourier import NotTransformed, kernels_per_query, tolerated_sum
from skgen.kde._kernel_sum import KernelSum
from skgen.rows._source import canonical_rows

SHAPES = ("full", "diag", "spherical")

# Octaves: the factor is the widest one divided by a power of two. The search visits
# octaves from 0 to the last; wider factors are for a few distinct rows.
_WIDEST, _FIRST, _LAST = 4.0, -2, 20

# Number of rows left out in the search, and number of kernels.
_FEW_ROWS, _POINTS = 512, 2**12

# Octaves that score this much less than the best one are dropped after the search: with
# kernels on all rows, and with kernels on some rows.
_FAR_BEHIND = 0.2, 0.5

# Number of rows from which a transform may pay, and the maximum error of a log-density
# in nats. The mean of the errors of all rows is far smaller.
_LEAST_ROWS, _RTOL = 2**11, 1e-6

# Number of kernels of one likelihood without a transform, and minimum number of rows
# left out. If all rows have more kernels than `_QUICK`, some rows choose the octave.
_PAIRS, _ROWS, _QUICK, _SOME_ROWS = 2**27, 2**11, 2**21, 2**10

# More than this number of kernels are in single precision in the search, which takes a
# third of the time, with errors of up to this number of nats.
_DOUBLE, _SINGLE = 2**18, 1e-4

# Accuracy of the factor in octaves, for few rows and for many, where the likelihood
# itself is less certain by far.
_ACCURACY = 0.01, 0.05

# Minimum number of distinct rows for each dimension that they span, for the shape
# "full" to compete. The covariance is estimated from all rows, those left out included:
# `d` rows lie in a plane, to which "full" would be confined with the best likelihood.
_ROWS_PER_DIMENSION = 3

# Minimum fraction of copies among the rows for a warning.
_MANY_COPIES = 0.01


@dataclass(frozen=True)
class Choice:
    """The whitening of a kernel, and the leave-one-out log-density in nats."""

    whitening: DiagonalWhitening | FullWhitening
    score: float  # mean
    standard_error: float  # of the mean


def choose_by_likelihood(X, sample_weight, shapes, **options):
    """Return the `Choice` of the shapes with the highest leave-one-out log-likelihood.

    `X` is (n, d) with at least two distinct rows, `sample_weight` is (n,), and
    `options` are the `dtype` and `names` of `estimate_whitening`.
    """
    # Distinct rows make a weight of 2 equivalent to the same row twice.
    rows, weights = canonical_rows(X, sample_weight)
    shapes = shapes[: 1 if X.shape[1] == 1 else None]  # the shapes of one feature
    with quiet():  # the shape that is chosen warns
        whitenings = {
            shape: estimate_whitening(X, sample_weight, shape, ddof=1, **options)
            for shape in shapes
        }
    if len(shapes) > 1 and _too_few(rows.shape[0], whitenings["full"]):
        del whitenings["full"]
    left_out, octave = _best(_starts(rows, weights, list(whitenings.values())))
    for shape, whitening in whitenings.items():
        if whitening is left_out.whitening:
            estimate_whitening(X, sample_weight, shape, ddof=1, **options)
    _warn(X.shape[0], X.shape[0] - rows.shape[0], octave)
    whitening = left_out.whitening.rescaled(_factor(octave))
    return Choice(whitening, *left_out.score(octave))


def _too_few(n, whitening):
    """Return whether `n` rows are too few for the "full" covariance to compete."""
    return n < _ROWS_PER_DIMENSION * np.count_nonzero(~whitening.degenerate)


def _factor(octave):
    return _WIDEST / 2.0**octave


def _starts(X, sample_weight, whitenings):
    """Return pairs of a `LeftOut` of all rows and the octave of a maximum."""
    n = X.shape[0]
    some = _sample(n, _POINTS)
    searches = [
        LeftOut(X[some], sample_weight[some], whitening, _FEW_ROWS)
        for whitening in whitenings
    ]
    curves = [few.curve() for few in searches]
    least = np.max(curves) - _FAR_BEHIND[n > _POINTS]
    pairs = []
    for few, curve in zip(searches, curves, strict=True):
        sides = np.pad(curve, 1, constant_values=-np.inf)
        peak = (curve > least) & (curve >= np.maximum(sides[:-2], sides[2:]))
        octaves = np.flatnonzero(peak).tolist()
        if octaves:
            left_out = few
            if n > _FEW_ROWS:
                left_out = LeftOut(X, sample_weight, few.whitening)
                left_out.afford(_factor(octaves[-1]))
            pairs += [(left_out, _uphill(left_out, k)) for k in octaves]
    pairs.sort(key=_score, reverse=True)
    return pairs[:1] if pairs[0][0].leave_out_more() else pairs


def _score(pair):
    left_out, octave = pair
    return left_out.mean(octave)


def _best(pairs):
    """Return the best pair of a `LeftOut` and a fraction of an octave."""
    best = None
    for left_out, octave in pairs:
        # Of many rows, a shape that loses at the best factor so far is not refined.
        if best and left_out.is_slow and left_out.mean(best[1]) < _score(best):
            continue
        found = left_out, _refined(left_out, octave)
        best = max(best or found, found, key=_score)
    return best


def _uphill(left_out, octave):
    """Return the octave of the local maximum that is uphill of an octave."""
    while True:
        near = [k for k in (octave, octave - 1, octave + 1) if _FIRST <= k <= _LAST]
        best = max(near, key=left_out.mean)
        if best == octave:
            return octave
        octave = best


def _refined(left_out, octave):
    """Return the fraction of an octave of the highest score near an octave."""
    found = octave
    while _FIRST < octave < _LAST:
        found = minimize_scalar(
            lambda fraction: -left_out.mean(float(fraction)),
            bounds=(octave - 1, octave + 1),
            method="bounded",
            options={"xatol": _ACCURACY[left_out.is_slow]},
        ).x
        if abs(found - octave) < 0.9:
            break
        octave = round(found)  # of other rows
    return max(octave, float(found), key=left_out.mean)


def _warn(n, n_copies, octave):
    """Warn of an unbounded likelihood, or that copies of rows were left out."""
    if octave > _LAST - 1:
        warn_user(
            "The leave-one-out likelihood increases down to the smallest bandwidth of "
            "the search: rows are copies of each other except for rounding, or some "
            "rows are very far from the others. Round X so that copies are equal, "
            "leave out outliers, or set the bandwidth to a number.",
            UndefinedMetricWarning,
        )
    elif n_copies > _MANY_COPIES * n:
        warn_user(
            f"More than {_MANY_COPIES:.0%} of the rows are copies of other rows, which "
            "would drive the bandwidth to zero. Each row was left out together with "
            "its copies.",
            UndefinedMetricWarning,
        )


def _sample(n, most):
    """Return the indices of all `n` rows, or of a random sample of `most` rows."""
    if n <= most:
        return np.arange(n)
    return np.random.RandomState(0).permutation(n)[:most]


class LeftOut:
    """Leave-one-out scores of up to `most` of (n, d) distinct rows."""

    def __init__(self, X, sample_weight, whitening, most=None):
        n, d = X.shape
        self.whitening = whitening
        self.points = whitening.whiten(X)[:, ~whitening.degenerate]  # (n, e)
        self.weights = sample_weight / sample_weight.sum()
        log_weights = np.log(np.maximum(self.weights, np.finfo(float).tiny))
        self.kernels = KernelSum(
            self.points, log_weights, np.ones(self.points.shape[1])
        )
        others = 1.0 - self.weights  # (n,), the weights of the other rows
        heaviest = self.weights.argmax()
        others[heaviest] = np.delete(self.weights, heaviest).sum()
        constant = whitening.log_det - 0.5 * d * math.log(2 * math.pi)
        self.log_normaliser = constant - np.log(others)  # (n,)
        self.rows = _sample(n, most or n)
        self.later = None  # rows to leave out in the end, if they are more
        self._means = {}  # by octave

    @property
    def is_slow(self):
        """Return whether the likelihood of all rows takes long."""
        return self.weights.size**2 > _QUICK

    def afford(self, factor):
        """Leave out fewer rows if sums for this factor and wider ones take too long."""
        kernels = self.kernels.rescaled(factor, 0.0)
        if self.is_slow and self._transformed(kernels) is None:
            n = self.weights.size
            n_kernels = kernels_per_query(self.points / factor)
            self.later = _sample(n, max(_ROWS, int(_PAIRS / n_kernels)))
            self.rows = _sample(n, _SOME_ROWS)

    def leave_out_more(self):
        """Leave out all rows that are affordable; return whether they are more."""
        if self.later is None:
            return False
        self.rows, self.later, self._means = self.later, None, {}
        return True

    def curve(self):
        """Return the mean scores of the octaves of the search.

        Octaves that cannot be the best score minus infinity.
        """
        means = np.full(_LAST + 1, -np.inf)
        for k in range(means.size):
            means[k] = self.mean(k)
            # Narrower kernels gain at most the logarithm of their normaliser.
            gain = (_LAST - k) * self.points.shape[1] * math.log(2)
            if means[k] + gain < means.max():
                break
        return means

    def mean(self, octave):
        """Return the mean leave-one-out log-density in nats, for the search."""
        if octave not in self._means:
            many = self.rows.size * self.weights.size > _DOUBLE
            self._means[octave], _ = self.score(octave, _SINGLE if many else 0.0)
        return self._means[octave]

    def score(self, octave, single=0.0):
        """Return the mean leave-one-out log-density, and its standard error.

        Log-densities may have errors of `single` nats.
        """
        log_density = self.log_densities(_factor(octave), single)
        weights = self.weights[self.rows] / self.weights[self.rows].sum()
        mean = weights @ log_density
        error = np.linalg.norm(weights * (log_density - mean))
        return float(mean), float(error)

    def log_densities(self, factor, single=0.0):
        """Return the leave-one-out log-densities of the rows left out: (m,)."""
        kernels = self.kernels.rescaled(factor, single)
        if self.rows.size == self.weights.size:
            kernels = self._transformed(kernels) or kernels
        log_sum, _ = kernels(self.points[self.rows], without=self.rows)
        log_factor = self.points.shape[1] * math.log(factor)
        return log_sum + self.log_normaliser[self.rows] - log_factor

    def _transformed(self, kernels):
        """Return sums by a transform, or None if exact sums of kernels are faster."""
        options = {"rtol": _RTOL, "margin": 1.0, "least_rows": _LEAST_ROWS}
        arguments = kernels, self.points, self.weights, kernels.scale
        try:
            return tolerated_sum(*arguments, **options)
        except NotTransformed:
            return None
