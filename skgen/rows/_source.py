"""Sources of rows, in the units of the data.

A source applies a function to all blocks of its rows and adds the results. Moments, a
sample of the rows, the sums of an EM iteration and means follow from this method.
"""

from abc import ABC, abstractmethod
from functools import partial

import numpy as np

from skgen._checks import (
    check_values,
    column_names,
    float_type,
    present,
    row_weight,
    wrong_argument,
)
from skgen._dequantize import warn_about_ties
from skgen._threads import in_parallel, working_memory
from skgen.rows._moments import moments_of, observed_moments_of, projected_moments
from skgen.rows._sketch import sample_of, unequal

# Number of values in a block: a few megabytes per thread.
_BLOCK = 2**19

# Number of tasks in a pass over a memory map, which sum their blocks sequentially.
_TASKS = 64

# Number of float64 copies of the rows that a fit in memory needs.
_COPIES = 3

# Number of the values of a single feature in which ties are searched for.
_REPEATED = 1000

# What a missing entry adds to the projection of a row, in units of the range.
_MISSING = -0.381966

# A sample is drawn from this multiple of its expected fraction of the rows. That is
# enough unless rows are repeated, and limits the rows that each block returns.
_LIMIT = 1.5


class Rows(ABC):
    """A source of rows (n, d) and weights (n,); subclasses define passes over it."""

    def __init__(self, model, n_features, dtype):
        self.name, self.names = type(model).__name__, column_names(model)
        self.n_features, self.dtype = n_features, float_type(dtype)
        self.incomplete = getattr(model, "_fits_incomplete", False)

    # Whether all rows are in memory; the model has then checked them.
    in_memory = False

    # The last sample, a `BottomK`.
    _sample = None

    # Number of blocks that can be read in any order; None if there is only one order.
    n_blocks: int | None = None

    @abstractmethod
    def total(self, function):
        """Return the sum of ``function(rows, weights)`` over all blocks of rows.

        Rows (b, d) are float64 and weights (b,) positive; `function` is picklable.
        """

    @abstractmethod
    def blocks(self, order=None):
        """Yield the position of each block and its rows (b, d) of positive weight.

        Rows are float64; `order` lists the numbers of the blocks.
        """

    def moments(self, *, full):
        """Return the moments of the rows: `ObservedMoments` if they are incomplete."""
        moments = self.total(partial(moments_of, full=full))
        if self.incomplete and np.isnan(moments.mean).any():
            moments = self.total(observed_moments_of)
        if not np.isfinite(moments.weight):
            rule, got = "of a finite sum", float(moments.weight)
            raise wrong_argument(self.name, "sample_weight", rule, got)
        return moments

    def projected(self, **projection):
        """Return the `projected_moments` of the rows."""
        return self.total(partial(projected_moments, **projection))

    def counted(self, moments):
        """Return the number of rows and the weight that is worth one row."""
        return moments.n_rows, row_weight(*moments.weight_sums)

    def sample(self, size, moments):
        """Return at most `size` distinct rows and their weights; warn of ties.

        A smaller sample consists of the first rows of a larger one.
        """
        if self._sample is None or self._sample.size < size:
            self._sample = self._drawn(size, moments)
        sample = self._sample.smallest(size)
        return sample.X, sample.sample_weight

    def _drawn(self, size, moments):
        """Return a `BottomK` of the rows; warn of ties."""
        draw = partial(sample_of, size=size, moments=moments)
        sample = self.total(partial(draw, limit=_LIMIT * size / moments.n_rows))
        if sample.keys.size < size < moments.n_rows:
            sample = self.total(draw)  # repeated rows
        if not self.in_memory:
            X = sample.X
            if self.n_features == 1 and sample.n_distinct < moments.n_rows / 2:
                # The sample holds each of the tied values once.
                X = np.repeat(X[:_REPEATED], 3, axis=0)
            warn_about_ties(X, self.names)
        return sample

    def mean(self, function):
        """Return the weighted mean of ``function(rows)``, of shape (b,)."""
        sums = self.total(partial(weighted_sum, function=function))
        return float(sums[0] / sums[1])


class ArrayRows(Rows):
    """Rows of an array: all of them as one block, or blocks of a memory map.

    Weights are in rows; `n_rows` is the number of rows before equal ones were merged.
    """

    def __init__(self, model, X, sample_weight, *, in_memory, n_rows=None):
        (n, d), self.in_memory, self._n_rows = X.shape, in_memory, n_rows
        dtype = model._fit_dtype if in_memory else X.dtype
        super().__init__(model, d, dtype)
        self.X, self.sample_weight = np.asarray(X), sample_weight
        self._slices = [slice(0, n)] if in_memory else slices(n, d)
        self.n_blocks = len(self._slices)

    def counted(self, moments):
        return self._n_rows or moments.n_rows, 1.0

    def sample(self, size, moments):
        if self.in_memory and size >= self.X.shape[0]:
            return self.X, self.sample_weight
        return super().sample(size, moments)

    def total(self, function):
        def run(task):
            blocks = map(self._block, task)
            return added(function(*block) for block in blocks if block[1].size)

        size = -(-self.n_blocks // _TASKS)
        starts = range(0, self.n_blocks, size)
        return added(in_parallel(run, [self._slices[i : i + size] for i in starts]))

    def blocks(self, order=None):
        for i in range(self.n_blocks) if order is None else order:
            yield self._slices[i].start, self._block(self._slices[i])[0]

    def _block(self, rows):
        """Return the float64 rows of positive weight in a slice, and their weights."""
        X = self.X[rows]
        if not self.in_memory:
            X = X.astype(np.float64, order="C")
            check_values(self.name, X, self.names, nan=self.incomplete)
        if self.sample_weight is None:
            return X, np.ones(X.shape[0])
        return present(X, self.sample_weight[rows])


def distinct_rows(model, X, sample_weight):
    """Return the distinct rows of an array (n, d), in canonical order, as `Rows`."""
    n_rows = X.shape[0]
    X, sample_weight = canonical_rows(X, sample_weight)
    return ArrayRows(model, X, sample_weight, in_memory=True, n_rows=n_rows)


def is_dask(X):
    """Return whether X is a Dask collection, without importing Dask."""
    return any(cls.__module__.split(".")[0] == "dask" for cls in type(X).__mro__)


def is_iterated(X):
    """Return whether X is a function that returns blocks, or an iterator."""
    return callable(X) or hasattr(X, "__next__")


def is_mapped(X):
    """Return whether X is a numeric memory map too large to copy into memory."""
    if not isinstance(X, np.ndarray) or X.ndim != 2 or X.dtype.kind not in "fiu":
        return False
    if np.ma.is_masked(X):
        return False  # the check of arrays refuses it
    if _COPIES * 8 * X.size <= working_memory():
        return False
    while isinstance(X, np.ndarray):
        if isinstance(X, np.memmap):
            return True
        X = X.base
    return False


def slices(n, d):
    """Return the slices of n rows of d values that are blocks."""
    size = max(1, _BLOCK // d)
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def added(parts):
    """Return the sum of an iterable, in order; skip None, return None if empty."""
    total = None
    for part in parts:
        if part is not None:
            total = part if total is None else total + part
    return total


def weighted_sum(X, sample_weight, *, function):
    """Return the weighted sum of ``function(X)`` and the sum of the weights."""
    return np.array([sample_weight @ function(X), sample_weight.sum()])


def counted_sum(X, sample_weight, *, function):
    """Return the `weighted_sum`, sum of squares and number of fractional weights."""
    fractional = np.count_nonzero(sample_weight != np.rint(sample_weight))
    # Where there is no wider type, squares of weights above 1e154 overflow.
    sample_weight = sample_weight.astype(np.longdouble)
    squares = np.square(sample_weight).sum()
    sums = weighted_sum(X, sample_weight, function=function)
    return np.array([*sums, squares, fractional])


def canonical_rows(X, sample_weight):
    """Return the distinct rows (m, d) in canonical order, and their weights (m,)."""
    # Shuffled rows, and a row given twice or once with a weight of 2, then lead to the
    # same fit to the last bit. The projection is scaled and oriented by its skewness:
    # shifted and rescaled data keep their order.
    key = _generic_projection(X)  # (n,)
    order = np.argsort(key, kind="stable")
    differs = key[order[1:]] != key[order[:-1]]  # (n - 1,)
    alike = np.flatnonzero(~differs)  # few rows are left to compare
    differs[alike] = unequal(X[order[alike + 1]], X[order[alike]])
    if differs[alike].any():
        # With a far outlier, rounding may remove small columns from the key.
        order = np.lexsort((*X.T[::-1], key))
        differs = unequal(X[order[1:]], X[order[:-1]])
    X, key = X[order], key[order]
    first = np.append(True, differs)
    starts = np.flatnonzero(first)
    if starts.size == X.shape[0]:
        weights = sample_weight[order]
    else:
        # Sort the weights as well, so that their sums are rounded equally.
        group = np.cumsum(first)
        weights = sample_weight[order]
        weights = np.add.reduceat(weights[np.lexsort((weights, group))], starts)
        X, key = X[starts], key[starts]
    centred = key - np.average(key, weights=weights)
    if weights @ centred**3 < 0:
        return X[::-1].copy(), weights[::-1].copy()
    return X, weights


def _generic_projection(X):
    """Return a projection (n,) of rows that rarely maps distinct rows to one value."""
    low, high = np.fmin.reduce(X), np.fmax.reduce(X)
    span = np.where(high > low, high - low, 1.0)
    # Any fixed direction without structure will do.
    direction = np.random.RandomState(0).uniform(1.0, 2.0, size=X.shape[1])
    key = np.zeros(X.shape[0])
    # A loop, not a matrix product: equal rows must have equal keys.
    for j in range(X.shape[1]):
        part = (X[:, j] - low[j]) / span[j] * direction[j]
        key += np.where(np.isnan(part), _MISSING * direction[j], part)
    return key
