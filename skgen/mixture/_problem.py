"""Rows to fit a mixture to, with the E-step and the M-step of EM."""

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
    """Whitened rows of any storage, and the family of mixtures to fit; abstract.

    Subclasses define `family` and `sums`; other backends than NumPy also override
    `expectation` and `precision`.
    """

    family: Family

    # Limits of the floating-point type of the sums.
    precision = DOUBLE

    @abstractmethod
    def sums(self, expectation):
        """Return the `Sums` of all rows under an `Expectation`."""

    def expectation(self, parameters, loss, moved):
        """Return the `Expectation` of an E-step under the parameters."""
        return Expectation(parameters, self.family, loss, moved)

    def statistics(self, parameters, loss=LEAST_LOSS, moved=None):
        """Return the `Statistics` of all rows under the parameters (E-step)."""
        expectation = self.expectation(parameters, loss, moved)
        return expectation.statistics(self.sums(expectation))

    def maximise(self, collected, parameters):
        """Return the parameters of an M-step, and which components collapsed (K,)."""
        return self._maximise(
            collected,
            parameters,
            lambda moved: self.statistics(parameters, moved=moved),
        )

    def _maximise(self, collected, previous, again):
        """Return the parameters of an M-step, and which components collapsed (K,).

        `again` computes the statistics about other origins.
        """
        covariance = self.family.covariance
        found = maximise(collected, previous, self.family)
        products, most = products_of(covariance), self.precision.far
        moved = far(found[0], covariance, products, collected.origins, most)
        moved &= found[0].weights > 0
        if moved.any():
            # Moments about the new means do not cancel.
            found = maximise(again((moved, found[0].means)), previous, self.family)
        return found


@dataclass(frozen=True)
class Problem(AbstractProblem):
    """Whitened rows in memory."""

    X: np.ndarray  # (n, d)
    sample_weight: np.ndarray  # (n,)
    covariance: AbstractCovariance
    floor: float  # minimum variance
    degenerate: np.ndarray  # (d,) whether all rows have the same coordinate

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
        """Return the parameters for given responsibilities, a function of slices."""
        d, covariance = self.X.shape[1], self.covariance
        unit = covariance.unit(K, d)
        standard = Parameters(
            np.full(K, 1 / K), np.zeros((K, d)), unit, covariance.factors(unit)
        )

        def collect(moved=None):
            rows = self.X, self.sample_weight
            return statistics_of_shares(*rows, shares, K, self.family, moved)

        return self._maximise(collect(), standard, collect)[0]
