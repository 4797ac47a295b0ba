r"""The bandwidth and the shape of a kernel by leave-one-out likelihood.

Each row is given its density by the kernels on all other rows,

.. math:: \ell(f, S) = \frac{1}{\sum_i w_i} \sum_i w_i \log \frac
          {\sum_{j : x_j \ne x_i} w_j \, \mathcal{N}(x_i; x_j, f^2 S)}
          {\sum_{j : x_j \ne x_i} w_j},

and the factor `f` and the shape `S` that make the mean largest are taken (Habbema,
Hermans and van den Broek, 1974; Duin, 1976). A copy of a row is left out with it, or
ever narrower kernels on the copies would win.

One pass over squared distances serves all factors. With :math:`e_j` the kernel on row
`j` relative to the nearest one, :math:`e^{-(D_{ij} - \min_j D_{ij}) / 2 f^2}`, halving
:math:`f^2` squares every :math:`e_j`: one multiplication in place of an exponential.
"""

import math
import warnings
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.exceptions import UndefinedMetricWarning

from skgen._threads import in_parallel
from skgen._whitening import estimate_whitening
from skgen.kde._blocks import boxes, neighbours_in_blocks

SHAPES = ("full", "diag", "spherical")

# Factors are looked for from the widest down to it over this power of two.
_WIDEST, _HALVINGS = 4.0, 20

# Rows that are left out in the search, and to settle on a factor: a mean over so many
# is as good as one over all.
_FEW_ROWS, _ROWS = 512, 4096

# So many points give them their densities in the search.
_POINTS = 2**15

# Shapes that score so much less than the best in the search are not looked at again:
# by all points, or by some of them.
_FAR_BEHIND = 0.2, 0.5

# Points in a block of neighbours. Blocks are left out whose kernels are smaller than
# that on some other row by so many nats.
_BLOCK, _NEGLIGIBLE = 1024, 40.0

# Pairs of rows that are looked at together, a megabyte, and factors: for narrower
# ones more blocks are left out.
_PAIRS, _AT_ONCE = 2**17, 5

# Kernels are no smaller, relative to the nearest one. Its fourth power is a number.
_TINY = 1e-75

# With this share of rows that have copies, it is said that copies were left out.
_MANY_COPIES = 0.01


@dataclass(frozen=True)
class Choice:
    """A kernel: the shape, the whitening that it scales, the factor, and its score."""

    shape: str
    whitening: object
    factor: float
    score: float  # the mean leave-one-out log-density, in nats


def choose_by_likelihood(X, sample_weight, shapes, **options):
    """Return the kernel with the highest leave-one-out log-likelihood.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        The rows, two of which differ.
    sample_weight : ndarray of shape (n_samples,)
        How many times each row counts.
    shapes : sequence of {"full", "diag", "spherical"}
        The shapes to choose from.
    **options : dict
        `dtype` and `names`, for `estimate_whitening`.

    Returns
    -------
    Choice
    """
    found = {}
    # Distinct rows in an order of their own: a row that counts twice is the row twice.
    n = X.shape[0]
    rows, weights = _distinct(X, sample_weight)
    some = _sample(rows.shape[0], _POINTS)
    for shape in shapes:
        with warnings.catch_warnings():
            if shape != shapes[0]:  # said already
                warnings.simplefilter("ignore")
            whitening = estimate_whitening(X, sample_weight, shape, ddof=1, **options)
        left_out = LeftOut(rows[some], weights[some], whitening, _FEW_ROWS)
        scores = left_out.scores(_WIDEST, _HALVINGS + 1, every=2, all_of_them=False)
        found[shape] = whitening, scores
    best = max(scores.max() for _, scores in found.values())
    choices = [
        _settled(rows, weights, shape, whitening, scores)
        for shape, (whitening, scores) in found.items()
        if scores.max() > best - _FAR_BEHIND[rows.shape[0] > _POINTS]
    ]
    choice = max(choices, key=lambda choice: choice.score)
    _warn(n, n - rows.shape[0], choice)
    return choice


def _distinct(X, sample_weight):
    """Return the distinct rows, sorted, and the sums of their weights."""
    rows, index = np.unique(X, axis=0, return_inverse=True)
    return rows, np.bincount(index.ravel(), weights=sample_weight)


def _settled(X, sample_weight, shape, whitening, scores):
    """Return the best factor about the best of a search by halves, and its score."""
    rows = LeftOut(X, sample_weight, whitening, _ROWS)
    # Five factors about it, each the root of a half of the one before; on from there
    # while the best of them is the first or the last.
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
    # The vertex of the parabola through three, in steps of half an octave.
    bend = low - 2 * middle + high
    vertex = 0.5 * (low - high) / bend if bend < 0 else 0.0
    step = i + float(np.clip(vertex, -1.0, 1.0))
    factor = widest * 2.0 ** (-step / 2)
    score = float(rows.scores(factor, 1)[0])
    if score < fine.max():  # no parabola
        factor, score = widest * 2.0 ** (-fine.argmax() / 2), float(fine.max())
    return Choice(shape, whitening, factor, score)


def _warn(n, n_copies, choice):
    """Say where the likelihood rises without end, and where copies were left out."""
    if choice.factor < 2 * _WIDEST / 2.0**_HALVINGS:
        warnings.warn(
            "The leave-one-out likelihood rises up to the narrowest kernel that was "
            "tried: rows are copies of each other but for rounding. Add noise with "
            "skgen.dequantize, or give the bandwidth as a number.",
            UndefinedMetricWarning,
            stacklevel=2,
        )
    elif n_copies > _MANY_COPIES * n:
        warnings.warn(
            f"Of {n} rows {n_copies} are copies of others, which would drive the "
            "bandwidth to zero: with each row its copies were left out.",
            UndefinedMetricWarning,
            stacklevel=2,
        )


def _sample(n, most):
    """Return the numbers of all of `n` rows, or of `most` spread over the table."""
    if n <= most:
        return np.arange(n)
    return np.random.RandomState(0).permutation(n)[:most]


class LeftOut:
    """Rows left out one by one, in whitened coordinates.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        The rows.
    sample_weight : ndarray of shape (n_samples,)
        How many times each row counts.
    whitening : DiagonalWhitening or FullWhitening
        The shape of the kernel.
    most : int
        How many rows to leave out at most; they are spread over the table.
    """

    def __init__(self, X, sample_weight, whitening, most):
        n, d = X.shape
        varies = ~whitening.degenerate
        self.points = whitening.whiten(X)[:, varies]  # (n, e)
        self.weights = sample_weight / sample_weight.sum()
        chosen = np.zeros(n, dtype=bool)
        chosen[_sample(n, most)] = True
        self.blocks = neighbours_in_blocks(self.points, _BLOCK)
        ends = np.cumsum([index.size for index in self.blocks])
        in_order = self.points[np.concatenate(self.blocks)]
        self.boxes = boxes(in_order, np.concatenate([[0], ends[:-1]]))
        # The rows to leave out in each block.
        self.left_out = [index[chosen[index]] for index in self.blocks]
        self.rows = np.concatenate(self.left_out)
        self.constant = whitening.log_det - 0.5 * d * math.log(2 * math.pi)

    def scores(self, widest, n_factors, every=1, *, all_of_them=True):
        """Return the mean log-density of rows left out, for falling factors.

        Parameters
        ----------
        widest : float
            The first factor.
        n_factors : int
            How many: each is the one before over the root of two.
        every : int, default=1
            How many such steps lie between two factors.
        all_of_them : bool, default=True
            Whether to go on where no narrower kernel can be the best. The others then
            score minus infinity.

        Returns
        -------
        ndarray of shape (n_factors,)
        """
        columns = []
        for first in range(0, n_factors, _AT_ONCE):
            some = min(_AT_ONCE, n_factors - first)
            factor = widest / 2.0 ** (0.5 * every * first)
            columns.append(self._mean_logs(factor, some, every))
            left = n_factors - first - some
            if all_of_them:
                continue
            # Narrower kernels gain no more than what normalises them.
            gain = 0.5 * every * left * self.points.shape[1] * math.log(2)
            if columns[-1][-1] + gain < max(map(np.max, columns)):
                columns.append(np.full(left, -np.inf))
                break
        return np.concatenate(columns)

    def _mean_logs(self, widest, n_factors, every):
        """Return what `scores` does, for a few factors."""
        logs = in_parallel(
            lambda task: self._logs(*task, widest, n_factors, every),
            [(b, rows) for b, rows in enumerate(self.left_out) if rows.size],
            worth_it=self.rows.size * self.weights.size > _PAIRS,
        )
        log_density = np.concatenate(logs)  # (m, n_factors)
        return np.average(log_density, axis=0, weights=self.weights[self.rows])

    def _logs(self, b, rows, widest, n_factors, every):
        """Return log-densities of left out rows of a block: (m, n_factors)."""
        blocks = self._near(b, rows, widest)
        size = max(1, _PAIRS // rows.size)
        log_sum = np.full((rows.size, n_factors), -np.inf)
        others = np.ones(rows.size)
        points = np.concatenate([self.blocks[i] for i in blocks])
        for start in range(0, points.size, size):
            some = points[start : start + size]
            of_some, copies = self._of_pairs(rows, some, widest, n_factors, every)
            log_sum = np.logaddexp(log_sum, of_some)
            others -= copies
        squared = widest**2 / 2.0 ** (every * np.arange(n_factors))  # (n_factors,)
        log_norm = self.constant - 0.5 * self.points.shape[1] * np.log(squared)
        return log_sum - np.log(others)[:, None] + log_norm

    def _near(self, b, rows, widest):
        """Return the blocks whose kernels are not nothing at left out rows of one."""
        own, left_out = self.blocks[b], self.points[rows]
        D = cdist(left_out, self.points[own], "sqeuclidean")
        D[D == 0] = np.inf
        # Some other row is as near as that, and has at least the least weight.
        nearest = D.min(axis=1).max()
        least = max(self.weights[own].min(), np.finfo(np.float64).tiny)
        nats = _NEGLIGIBLE - math.log(least)
        far = self.boxes.squared_distances(left_out.min(axis=0), left_out.max(axis=0))
        return np.flatnonzero(~(far > nearest + 2 * widest**2 * nats))

    def _of_pairs(self, rows, points, widest, n_factors, every):
        """Return logarithms of sums over some points, and what copies weigh.

        The first, (b, n_factors), lack what normalises kernels; the second is (b,).
        """
        D = cdist(self.points[rows], self.points[points], "sqeuclidean")  # (b, n)
        weights = self.weights[points]
        copies = D == 0
        D[copies] = np.inf
        nearest = D.min(axis=1)  # (b,)
        answer = np.full((rows.size, n_factors), -np.inf)
        some = np.isfinite(nearest)
        D -= np.where(some, nearest, 0.0)[:, None]
        D *= -0.5 / widest**2
        # Numbers too small to be normal would take a hundred times as long.
        e = np.exp(np.maximum(D, math.log(_TINY), out=D), out=D)
        squared = widest**2
        for k in range(n_factors):
            if k:
                for _ in range(every):
                    np.multiply(e, e, out=e)
                    squared /= 2
                np.maximum(e, _TINY, out=e)
            total = np.log(e @ weights, out=answer[:, k].copy(), where=some)
            answer[:, k] = total - np.where(some, 0.5 * nearest / squared, 0.0)
        return answer, copies @ weights
