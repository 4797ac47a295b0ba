r"""The bandwidth and the shape of a kernel by leave-one-out likelihood.

The factor `f` and the shape `S` of the kernel maximise the mean log-density of each row
by the kernels on all other rows (Habbema, Hermans and van den Broek, 1974; Duin, 1976):

.. math:: \ell(f, S) = \frac{1}{\sum_i w_i} \sum_i w_i \log \frac
          {\sum_{j : x_j \ne x_i} w_j \, \mathcal{N}(x_i; x_j, f^2 S)}
          {\sum_{j : x_j \ne x_i} w_j}.

Copies of a row are left out with the row: on copies, the likelihood would increase
without bound as `f` decreases.

One pass over squared distances serves all factors. Let :math:`e_j` be the kernel on row
`j` relative to the nearest one, :math:`e^{-(D_{ij} - \min_j D_{ij}) / 2 f^2}`. Halving
:math:`f^2` squares every :math:`e_j`, so a multiplication replaces the exponential.
"""

import math
import warnings
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.exceptions import UndefinedMetricWarning

from skgen._threads import in_parallel
from skgen._warnings import warn_user
from skgen._whitening import estimate_whitening
from skgen.kde._kernel_sum import boxes_around, neighbours

SHAPES = ("full", "diag", "spherical")

# The search begins at the widest factor and divides it by up to this power of two.
_WIDEST, _HALVINGS = 4.0, 20

# Number of rows left out in the search and in the refinement of the factor. The mean
# over this number of rows is as reliable as the mean over all rows.
_FEW_ROWS, _ROWS = 512, 4096

# Maximum number of kernels in the search.
_POINTS = 2**15

# Shapes that score this much less than the best one are dropped after the search: with
# kernels on all rows, and with kernels on some rows.
_FAR_BEHIND = 0.2, 0.5

# Number of points in a cell of neighbours. Cells are skipped if their kernels are
# smaller than the kernel of a nearer point by this number of nats.
_CELL, _NEGLIGIBLE = 1024, 40.0

# Number of pairs of rows (a megabyte) and of factors in one pass. Later passes have
# narrower kernels and skip more cells.
_PAIRS, _AT_ONCE = 2**17, 5

# Smallest kernel relative to the nearest one. Its fourth power is a normal number.
_TINY = 1e-75

# Minimum fraction of copies among the rows for a warning.
_MANY_COPIES = 0.01


@dataclass(frozen=True)
class Choice:
    """The shape of a kernel, the whitening to scale, the factor and the score."""

    shape: str
    whitening: object
    factor: float
    score: float  # mean leave-one-out log-density in nats


def choose_by_likelihood(X, sample_weight, shapes, **options):
    """Return the `Choice` of the shapes with the highest leave-one-out log-likelihood.

    `X` is (n, d) with at least two distinct rows, `sample_weight` is (n,), and
    `options` are the `dtype` and `names` of `estimate_whitening`.
    """
    # Sorted distinct rows make a weight of 2 equivalent to the same row twice.
    rows, index = np.unique(X, axis=0, return_inverse=True)
    weights = np.bincount(index.ravel(), weights=sample_weight)
    some = _sample(rows.shape[0], _POINTS)
    found = {}
    for shape in shapes:
        with warnings.catch_warnings():
            if shape != shapes[0]:  # the first shape has warned
                warnings.simplefilter("ignore")
            whitening = estimate_whitening(X, sample_weight, shape, ddof=1, **options)
        left_out = LeftOut(rows[some], weights[some], whitening, _FEW_ROWS)
        scores = left_out.scores(_WIDEST, _HALVINGS + 1, every=2, all_of_them=False)
        found[shape] = whitening, scores
    least = max(scores.max() for _, scores in found.values())
    least -= _FAR_BEHIND[rows.shape[0] > _POINTS]
    choices = [
        _settled(rows, weights, shape, whitening, scores)
        for shape, (whitening, scores) in found.items()
        if scores.max() > least
    ]
    choice = max(choices, key=lambda choice: choice.score)
    _warn(X.shape[0], X.shape[0] - rows.shape[0], choice)
    return choice


def _settled(X, sample_weight, shape, whitening, scores):
    """Return the `Choice` of a shape, refined around the best factor of the search."""
    rows = LeftOut(X, sample_weight, whitening, _ROWS)
    # Five factors around the best one, in steps of half an octave. The five move on
    # while the first or the last of them is the best.
    k, step = int(scores.argmax()), 0
    while True:
        widest = _WIDEST / 2.0**k * 2.0
        fine = rows.scores(widest, 5)
        onward = int(fine.argmax() == 4) - int(fine.argmax() == 0)
        if onward in (0, -step) or not 0 <= k + onward <= _HALVINGS:
            break
        k, step = k + onward, onward
    i = int(np.clip(fine.argmax(), 1, 3))
    low, middle, high = fine[i - 1 : i + 2]
    # The vertex of the parabola through three scores, in steps of half an octave.
    bend = low - 2 * middle + high
    vertex = 0.5 * (low - high) / bend if bend < 0 else 0.0
    step = i + float(np.clip(vertex, -1.0, 1.0))
    factor = widest * 2.0 ** (-step / 2)
    score = float(rows.scores(factor, 1)[0])
    if score < fine.max():  # the scores do not follow a parabola
        factor, score = widest * 2.0 ** (-fine.argmax() / 2), float(fine.max())
    return Choice(shape, whitening, factor, score)


def _warn(n, n_copies, choice):
    """Warn of an unbounded likelihood, or that copies of rows were left out."""
    if choice.factor < 2 * _WIDEST / 2.0**_HALVINGS:
        warn_user(
            "The leave-one-out likelihood increases down to the smallest bandwidth of "
            "the search: rows are copies of each other except for rounding. Add noise "
            "with skgen.dequantize, or set the bandwidth to a number.",
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
    """Leave-one-out scores of up to `most` of (n, d) rows, in whitened coordinates."""

    def __init__(self, X, sample_weight, whitening, most):
        n, d = X.shape
        varies = ~whitening.degenerate
        self.points = whitening.whiten(X)[:, varies]  # (n, e)
        self.weights = sample_weight / sample_weight.sum()
        chosen = np.zeros(n, dtype=bool)
        chosen[_sample(n, most)] = True
        self.cells = neighbours(self.points, _CELL)
        self.boxes = boxes_around(self.points, self.cells)
        # Indices of the rows to leave out, for each cell.
        self.left_out = [index[chosen[index]] for index in self.cells]
        self.rows = np.concatenate(self.left_out)
        self.constant = whitening.log_det - 0.5 * d * math.log(2 * math.pi)

    def scores(self, widest, n_factors, every=1, *, all_of_them=True):
        """Return the mean leave-one-out log-densities of factors: (n_factors,).

        The factors decrease from `widest` in steps of ``2 ** (-every / 2)``. Unless
        `all_of_them`, factors that cannot be the best score minus infinity.
        """
        columns = []
        for first in range(0, n_factors, _AT_ONCE):
            some = min(_AT_ONCE, n_factors - first)
            factor = widest / 2.0 ** (0.5 * every * first)
            columns.append(self._mean_logs(factor, some, every))
            left = n_factors - first - some
            if all_of_them:
                continue
            # Narrower kernels gain at most the logarithm of their normaliser.
            gain = 0.5 * every * left * self.points.shape[1] * math.log(2)
            if columns[-1][-1] + gain < max(map(np.max, columns)):
                columns.append(np.full(left, -np.inf))
                break
        return np.concatenate(columns)

    def _mean_logs(self, widest, n_factors, every):
        """Return the mean leave-one-out log-densities of a few factors (n_factors,)."""
        logs = in_parallel(
            lambda task: self._logs(*task, widest, n_factors, every),
            [(cell, rows) for cell, rows in enumerate(self.left_out) if rows.size],
            worth_it=self.rows.size * self.weights.size > _PAIRS,
        )
        log_density = np.concatenate(logs)  # (m, n_factors)
        return np.average(log_density, axis=0, weights=self.weights[self.rows])

    def _logs(self, cell, rows, widest, n_factors, every):
        """Return the log-densities of m left-out rows of a cell: (m, n_factors)."""
        squared = widest**2 / 2.0 ** (every * np.arange(n_factors))  # (n_factors,)
        near = self._near(cell, rows, widest)
        points = np.concatenate([self.cells[i] for i in near])
        log_sum = np.full((rows.size, n_factors), -np.inf)
        others = np.ones(rows.size)
        size = max(1, _PAIRS // rows.size)
        for start in range(0, points.size, size):
            some = points[start : start + size]
            of_some, copies = self._of_pairs(rows, some, squared, every)
            log_sum = np.logaddexp(log_sum, of_some)
            others -= copies
        log_norm = self.constant - 0.5 * self.points.shape[1] * np.log(squared)
        return log_sum - np.log(others)[:, None] + log_norm

    def _near(self, cell, rows, widest):
        """Return the indices of cells with kernels that reach left-out rows of one."""
        own, left_out = self.cells[cell], self.points[rows]
        D = cdist(left_out, self.points[own], "sqeuclidean")
        D[D == 0] = np.inf
        # Every left-out row has a neighbour within `nearest` of at least this weight.
        nearest = D.min(axis=1).max()
        least = max(self.weights[own].min(), np.finfo(np.float64).tiny)
        nats = _NEGLIGIBLE - math.log(least)
        far = self.boxes.squared_distances(left_out.min(axis=0), left_out.max(axis=0))
        return np.flatnonzero(~(far > nearest + 2 * widest**2 * nats))

    def _of_pairs(self, rows, points, squared, every):
        """Return unnormalised log-sums (m, n_factors) and the weights of copies (m,).

        They are sums at m rows over n points, for squared factors (n_factors,).
        """
        D = cdist(self.points[rows], self.points[points], "sqeuclidean")  # (m, n)
        weights = self.weights[points]
        copies = D == 0
        D[copies] = np.inf
        nearest = D.min(axis=1)  # (m,)
        some = np.isfinite(nearest)
        nearest = np.where(some, nearest, 0.0)
        D -= nearest[:, None]
        D *= -0.5 / squared[0]
        # Subnormal numbers would take a hundred times as long.
        e = np.exp(np.maximum(D, math.log(_TINY), out=D), out=D)
        log_sum = np.full((rows.size, squared.size), -np.inf)
        for k in range(squared.size):
            if k:
                for _ in range(every):
                    np.multiply(e, e, out=e)
                np.maximum(e, _TINY, out=e)
            np.log(e @ weights, out=log_sum[:, k], where=some)
        return log_sum - 0.5 * nearest[:, None] / squared, copies @ weights
