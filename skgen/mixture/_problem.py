"""Rows to fit a mixture to, and the two steps of EM on them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from skgen.mixture._covariance import AbstractCovariance
from skgen.mixture._joint import MOST_SPREAD, Parameters
from skgen.mixture._precision import DOUBLE, LEAST_LOSS
from skgen.mixture._products import pays, products_of
from skgen.mixture._statistics import (
    Expectation,
    Family,
    far,
    maximise,
    statistics_of_shares,
)


class AbstractProblem(ABC):
    """Rows in whitened coordinates, wherever they lie, and the family to fit to them.

    Abstract: `family` and `sums` are filled in. Where the sums are not NumPy's, so are
    `expectation` and `precision`.
    """

    family: Family

    # Of the arithmetic of sums.
    precision = DOUBLE

    @abstractmethod
    def sums(self, expectation):
        """Return the `Sums` of an `Expectation` over all rows."""

    def expectation(self, parameters, loss, moved):
        """Return what to sum of every row under the parameters."""
        return Expectation(parameters, self.family, loss, moved)

    def statistics(self, parameters, loss=LEAST_LOSS, moved=None):
        """Return what a pass over the rows yields under the parameters (E-step)."""
        expectation = self.expectation(parameters, loss, moved)
        return expectation.statistics(self.sums(expectation))

    def maximise(self, collected, parameters):
        """Return the parameters after `parameters`, and which components collapsed."""
        return self._maximise(
            collected,
            parameters,
            lambda moved: self.statistics(parameters, moved=moved),
        )

    def _maximise(self, collected, previous, again):
        """Return the parameters after `previous`, and which components collapsed.

        `again` collects the moments once more, about other points.
        """
        covariance = self.family.covariance
        found = maximise(collected, previous, self.family)
        products, most = products_of(covariance), self.precision.far
        moved = far(found[0], covariance, products, collected.origins, most)
        moved &= found[0].weights > 0
        if moved.any():
            # About the new means no digits are lost.
            found = maximise(again((moved, found[0].means)), previous, self.family)
        return found


@dataclass(frozen=True)
class Problem(AbstractProblem):
    """Rows in memory."""

    X: np.ndarray  # (n, d)
    sample_weight: np.ndarray  # (n,)
    covariance: AbstractCovariance
    floor: float  # the least variance
    degenerate: np.ndarray  # (d,) whether the rows lack variance along a coordinate

    @cached_property
    def family(self):
        products = products_of(self.covariance)
        in_range = max(self.X.max(), -self.X.min()) < MOST_SPREAD
        if not (in_range and pays(products, self.X.shape[1])):
            products = None
        return Family(self.covariance, products, self.floor, self.degenerate)

    def sums(self, expectation):
        return expectation.sums(self.X, self.sample_weight)

    def from_shares(self, shares, K):
        """Return the parameters of components that hold given shares of the rows."""
        d, covariance = self.X.shape[1], self.covariance
        unit = covariance.unit(K, d)
        standard = Parameters(
            np.full(K, 1 / K), np.zeros((K, d)), unit, covariance.factors(unit)
        )

        def collect(moved=None):
            rows = self.X, self.sample_weight
            return statistics_of_shares(*rows, shares, K, self.family, moved)

        return self._maximise(collect(), standard, collect)[0]
