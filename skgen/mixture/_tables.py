"""Tables: sources of rows, in the units of the data.

A table applies a function to all blocks of its rows and adds the results. Moments, a
sample of the rows, the sums of an EM iteration and means follow from this method.
"""

from abc import ABC, abstractmethod
from functools import partial

import numpy as np

from skgen._parameters import check_finite
from skgen._spread import spread_of
from skgen._ties import warn_about_ties
from skgen._validation import check_magnitude, column_names, float_type
from skgen.mixture._device import DeviceExpectation, device_problem, place_of
from skgen.mixture._problem import AbstractProblem, Problem
from skgen.mixture._products import pays, products_of
from skgen.mixture._rows import canonical_rows
from skgen.mixture._sample import sample_of
from skgen.mixture._statistics import Family

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

    def problem(self, whitening, covariance, floor):
        """Return the EM problem of the rows in whitened coordinates."""
        return TableProblem(self, whitening, covariance, floor)


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

    def problem(self, whitening, covariance, floor):
        rows, rest = (self.X, self.sample_weight), (whitening, covariance, floor)
        place = place_of(self.device, self.dtype)
        if place is not None:
            return device_problem(*rows, *rest, place)
        return problem_in_memory(*rows, *rest)

    def sample(self, size, spread):
        return self._sample(size, spread)  # the model has already warned of ties


def problem_in_memory(X, sample_weight, whitening, covariance, floor):
    """Return the EM problem of rows in memory, given in the units of the data."""
    rows = whitening.whiten(X), sample_weight
    return Problem(*rows, covariance, floor, whitening.degenerate)


def scaled_weights(sample_weight):
    """Return the weights divided by a power of two, so that no sum overflows."""
    _, exponent = np.frexp(sample_weight.max())
    return np.ldexp(sample_weight, -exponent)


class TableProblem(AbstractProblem):
    """EM problem of the rows of a table, which are whitened block by block."""

    def __init__(self, table, whitening, covariance, floor):
        products = products_of(covariance)
        products = products if pays(products, table.n_features) else None
        self.table, self.whitening = table, whitening
        self.family = Family(covariance, products, floor, whitening.degenerate)
        self.place = place_of(table.device, table.dtype)
        if self.place is not None:
            self.precision = self.place.precision

    def expectation(self, parameters, loss, moved):
        if self.place is None:
            return super().expectation(parameters, loss, moved)
        # Blocks are copied to the device one by one.
        rest = self.family, loss, moved
        return DeviceExpectation(parameters, *rest, place=self.place)

    def sums(self, expectation):
        return self.table.total(
            partial(_whitened_sums, whitening=self.whitening, expectation=expectation)
        )


def _checked_spread(X, sample_weight, *, name, names, full):
    check_finite(X, name, names)
    check_magnitude(f"The 'X' argument of {name}", X)
    return spread_of(X, sample_weight, full=full)


def _whitened_sums(X, sample_weight, *, whitening, expectation):
    return expectation.sums(whitening.whiten(X), sample_weight)


def _weighted_sum(X, sample_weight, *, function):
    return np.array([sample_weight @ function(X), sample_weight.sum()])
