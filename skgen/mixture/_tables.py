"""Tables, wherever their rows lie: what EM asks of them, in the units of the data.

A table says how to apply a function to all its blocks of rows, and to add the answers
up. All else follows: how far the rows spread, a sample of them to start from, the sums
of an iteration, and means of what is computed for each row.
"""

from abc import ABC, abstractmethod
from functools import partial

import numpy as np
from sklearn.utils import assert_all_finite

from skgen._spread import spread_of
from skgen._ties import warn_about_ties
from skgen._validation import check_magnitude, column_names, float_type
from skgen.mixture._device import DeviceExpectation, device_problem, place_of
from skgen.mixture._problem import AbstractProblem, Problem
from skgen.mixture._products import pays, products_of
from skgen.mixture._rows import canonical_rows
from skgen.mixture._sample import sample_of
from skgen.mixture._statistics import Family

# Of the rows, the share of a sample is looked for among so many times as many: enough,
# unless rows repeat each other, and no block keeps more for the sum.
_LIMIT = 1.5


class AbstractTable(ABC):
    """Rows and their weights, wherever they lie.

    Abstract: `total` is filled in, and the attributes are set.

    Attributes
    ----------
    name : str
        What errors call the model.
    names : list of str or None
        Those of the features.
    n_features : int
    dtype : numpy dtype
        What the rows are stored in: float32 or float64.
    device : str
        What sums are computed on.
    """

    def __init__(self, model, n_features, dtype):
        self.name, self.names = type(model).__name__, column_names(model)
        self.n_features, self.device = n_features, model.device
        self.dtype = float_type(dtype)

    @abstractmethod
    def total(self, function):
        """Return the sum of what a function returns for all blocks of rows.

        `function` takes rows (b, d) in float64 and positive weights (b,), and returns
        what adds up with ``+``. It travels to where the rows are.
        """

    def spread(self, *, full):
        """Return the moments of the rows; raise for rows that are no numbers."""
        return self.total(partial(_checked_spread, name=self.name, full=full))

    def counted(self, spread):
        """Return the number of rows, and the sum of their weights."""
        return spread.n_rows, spread.weight

    def sample(self, size, spread):
        """Return at most `size` distinct rows, and their weights; warn about ties.

        A smaller sample is the first rows of a larger one.
        """
        X, sample_weight = self._sample(size, spread)
        warn_about_ties(X, self.names)
        return X, sample_weight

    def _sample(self, size, spread):
        draw = partial(sample_of, size=size, spread=spread)
        sample = self.total(partial(draw, limit=_LIMIT * size / spread.n_rows))
        if sample.numbers.size < size < spread.n_rows:
            sample = self.total(draw)  # rows repeat each other
        return sample.X, sample.sample_weight

    def mean(self, function):
        """Return the weighted mean of what a function returns for rows: (b,)."""
        sums = self.total(partial(_weighted_sum, function=function))
        return float(sums[0] / sums[1])

    def problem(self, whitening, covariance, floor):
        """Return the rows in whitened coordinates as a problem for EM."""
        return TableProblem(self, whitening, covariance, floor)


class ArrayTable(AbstractTable):
    """Rows in memory: every one once, in an order of their own."""

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
        return self._sample(size, spread)  # ties have been told of


def problem_in_memory(X, sample_weight, whitening, covariance, floor):
    """Return rows in memory, in the units of the data, as a problem for EM."""
    rows = whitening.whiten(X), sample_weight
    return Problem(*rows, covariance, floor, whitening.degenerate)


def scaled_weights(sample_weight):
    """Return the weights over a power of two, so that no sum of them overflows."""
    _, exponent = np.frexp(sample_weight.max())
    return np.ldexp(sample_weight, -exponent)


class TableProblem(AbstractProblem):
    """The rows of a table in whitened coordinates, whitened when they are needed.

    Parameters
    ----------
    table : AbstractTable
        The rows.
    whitening : DiagonalWhitening or FullWhitening
        The coordinates.
    covariance : AbstractEstimatedCovariance
        The shape of the covariances.
    floor : float
        The least variance.
    """

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
        # Blocks go to the device, one at a time.
        rest = self.family, loss, moved
        return DeviceExpectation(parameters, *rest, place=self.place)

    def sums(self, expectation):
        return self.table.total(
            partial(_whitened_sums, whitening=self.whitening, expectation=expectation)
        )


def _checked_spread(X, sample_weight, *, name, full):
    assert_all_finite(X, estimator_name=name, input_name="X")
    check_magnitude(f"The 'X' argument of {name}", X)
    return spread_of(X, sample_weight, full=full)


def _whitened_sums(X, sample_weight, *, whitening, expectation):
    return expectation.sums(whitening.whiten(X), sample_weight)


def _weighted_sum(X, sample_weight, *, function):
    return np.array([sample_weight @ function(X), sample_weight.sum()])
