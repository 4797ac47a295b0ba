"""Tables: sources of rows, in the units of the data.

A table applies a function to all blocks of its rows and adds the results. Moments, a
sample of the rows, the sums of an EM iteration and means follow from this method.
"""

from abc import ABC, abstractmethod
from functools import partial

import numpy as np

from skgen._checks import check_finite, check_magnitude, column_names, float_type
from skgen._dequantize import warn_about_ties
from skgen.rows._moments import spread_of
from skgen.rows._sketch import sample_of

# A sample is drawn from this multiple of its expected fraction of the rows. That is
# enough unless rows are repeated, and limits the rows that each block returns.
_LIMIT = 1.5


class AbstractTable(ABC):
    """A source of rows and weights; subclasses define `total`."""

    def __init__(self, model, n_features, dtype):
        self.name, self.names = type(model).__name__, column_names(model)
        self.n_features, self.device = n_features, model.device
        self.dtype = float_type(dtype)

    @abstractmethod
    def total(self, function):
        """Return the sum of ``function(rows, weights)`` over all blocks of rows.

        Rows (b, d) are float64 and weights (b,) positive; `function` is picklable.
        """

    def spread(self, *, full):
        """Return the moments of the rows; raise for invalid rows."""
        checked = partial(_checked_spread, name=self.name, names=self.names)
        return self.total(partial(checked, full=full))

    def counted(self, spread):
        """Return the number of rows and the sum of their weights."""
        return spread.n_rows, spread.weight

    def sample(self, size, spread):
        """Return at most `size` distinct rows and their weights; warn of ties.

        A smaller sample consists of the first rows of a larger one.
        """
        X, sample_weight = self._sample(size, spread)
        warn_about_ties(X, self.names)
        return X, sample_weight

    def _sample(self, size, spread):
        draw = partial(sample_of, size=size, spread=spread)
        sample = self.total(partial(draw, limit=_LIMIT * size / spread.n_rows))
        if sample.numbers.size < size < spread.n_rows:
            sample = self.total(draw)  # repeated rows
        return sample.X, sample.sample_weight

    def mean(self, function):
        """Return the weighted mean of ``function(rows)``, of shape (b,)."""
        sums = self.total(partial(_weighted_sum, function=function))
        return float(sums[0] / sums[1])


class ArrayTable(AbstractTable):
    """Distinct rows in memory, in canonical order."""

    def __init__(self, model, X, sample_weight):
        super().__init__(model, X.shape[1], model._fit_dtype)
        self._counted = X.shape[0], sample_weight.sum()
        self.X, self.sample_weight = canonical_rows(X, scaled_weights(sample_weight))

    def counted(self, spread):
        return self._counted

    def total(self, function):
        return function(self.X, self.sample_weight)

    def sample(self, size, spread):
        return self._sample(size, spread)  # the model has already warned of ties


def scaled_weights(sample_weight):
    """Return the weights divided by a power of two, so that no sum overflows."""
    _, exponent = np.frexp(sample_weight.max())
    return np.ldexp(sample_weight, -exponent)


def _checked_spread(X, sample_weight, *, name, names, full):
    check_finite(X, name, names)
    check_magnitude(f"The 'X' argument of {name}", X)
    return spread_of(X, sample_weight, full=full)


def _weighted_sum(X, sample_weight, *, function):
    return np.array([sample_weight @ function(X), sample_weight.sum()])


def canonical_rows(X, sample_weight):
    """Return the distinct rows (m, d) in canonical order, and their weights (m,)."""
    # Shuffled rows, and a row given twice or once with a weight of 2, then lead to the
    # same fit to the last bit. The projection is scaled and oriented by its skewness:
    # shifted and rescaled data keep their order.
    key = _generic_projection(X)  # (n,)
    order = np.argsort(key, kind="stable")
    differs = key[order[1:]] != key[order[:-1]]  # (n - 1,)
    alike = np.flatnonzero(~differs)  # few rows are left to compare
    differs[alike] = (X[order[alike + 1]] != X[order[alike]]).any(axis=1)
    if differs[alike].any():
        # With a far outlier, rounding may remove small columns from the key.
        order = np.lexsort((*X.T[::-1], key))
        differs = (X[order[1:]] != X[order[:-1]]).any(axis=1)
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
    low, high = X.min(axis=0), X.max(axis=0)
    span = np.where(high > low, high - low, 1.0)
    # Any fixed direction without structure will do.
    direction = np.random.RandomState(0).uniform(1.0, 2.0, size=X.shape[1])
    key = np.zeros(X.shape[0])
    # A loop, not a matrix product: equal rows must have equal keys.
    for j in range(X.shape[1]):
        key += (X[:, j] - low[j]) / span[j] * direction[j]
    return key
