"""EM: iterations from one start that never lower the likelihood."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from skgen.mixture._covariance import AbstractCovariance
from skgen.mixture._joint import MOST_SPREAD, Parameters
from skgen.mixture._products import pays, products_of
from skgen.mixture._statistics import (
    Statistics,
    far,
    maximise,
    statistics,
    statistics_of_shares,
)

# What matrix products may lose of log-densities, as a multiple of rounding. They may
# lose more while the likelihood still rises by so much more.
_LEAST_LOSS, _MOST_LOSS, _LOSS_OF_RISE = 1e4, 1e7, 1e-4

# A fall of the likelihood by this share of it is rounding.
_ROUNDING = 1e-10


def allowed_loss(rise):
    """Return what products may lose after an iteration of such a rise."""
    loss = _LOSS_OF_RISE * rise / np.finfo(np.float64).eps
    return min(max(loss, _LEAST_LOSS), _MOST_LOSS)


@dataclass(frozen=True)
class Problem:
    """Rows in whitened coordinates, and the family to fit to them."""

    X: np.ndarray  # (n, d)
    sample_weight: np.ndarray  # (n,)
    covariance: AbstractCovariance
    floor: float  # the least variance
    degenerate: np.ndarray  # (d,) whether the rows vary along each coordinate

    @cached_property
    def products(self):
        """Return the products that serve the rows; None where they do not."""
        products = products_of(self.covariance)
        in_range = max(self.X.max(), -self.X.min()) < MOST_SPREAD
        return products if in_range and pays(products, self.X.shape[1]) else None

    def statistics(self, parameters, loss=_LEAST_LOSS, moved=None):
        """Return what a pass over the rows yields under the parameters (E-step)."""
        rows, family = (self.X, self.sample_weight), (self.covariance, self.products)
        return statistics(*rows, parameters, *family, loss, moved)

    def maximise(self, collected, parameters):
        """Return the parameters after `parameters`, and which components collapsed."""
        return self._maximise(
            collected,
            parameters,
            lambda moved: self.statistics(parameters, moved=moved),
        )

    def from_shares(self, shares, K):
        """Return the parameters of components that hold given shares of the rows."""
        d, covariance = self.X.shape[1], self.covariance
        unit = covariance.unit(K, d)
        standard = Parameters(
            np.full(K, 1 / K), np.zeros((K, d)), unit, covariance.factors(unit)
        )

        def collect(moved=None):
            rows = self.X, self.sample_weight
            return statistics_of_shares(
                *rows, shares, K, covariance, self.products, moved
            )

        return self._maximise(collect(), standard, collect)[0]

    def _maximise(self, collected, previous, again):
        """Return the parameters after `previous`, and which components collapsed.

        `again` collects the moments once more, about other points.
        """
        rest = previous, self.covariance, self.floor, self.degenerate
        found = maximise(collected, *rest)
        products = products_of(self.covariance)
        moved = far(found[0], self.covariance, products, collected.origins)
        moved &= found[0].weights > 0
        if moved.any():
            # About the new means no digits are lost.
            found = maximise(again((moved, found[0].means)), *rest)
        return found


@dataclass
class Run:
    """EM from one start: the parameters so far, and what happened to them."""

    parameters: Parameters
    statistics: Statistics
    bounds: list = field(default_factory=list)
    rise: float = np.inf
    converged: bool = False
    stalled: bool = False
    at_floor: np.ndarray = field(default_factory=lambda: np.zeros(1, dtype=bool))
    reseeded: set = field(default_factory=set)
    abandoned: set = field(default_factory=set)

    @property
    def bound(self):
        """Return the mean log-likelihood of the parameters, in whitened units."""
        return self.statistics.log_likelihood

    def step(self, problem, tol):
        """Do one iteration; parameters of a lower likelihood are not taken.

        The rise that the iteration before brought decides whether this one was the
        last: scikit-learn's rule, which ends at the same parameters.
        """
        self.converged = self.rise < tol
        parameters, at_floor = problem.maximise(self.statistics, self.parameters)
        loss = allowed_loss(self.rise)
        found = parameters, problem.statistics(parameters, loss)
        found = self._reseeded(problem, *found) or found
        self.rise = found[1].log_likelihood - self.bound
        if self.rise <= 0 and loss > _LEAST_LOSS:
            # Perhaps for what products lost: once more, with the digits that remain.
            self.statistics = problem.statistics(self.parameters)
            found = found[0], problem.statistics(found[0])
            self.rise = found[1].log_likelihood - self.bound
        if self.rise >= 0:
            self.parameters, self.statistics = found
            self.at_floor = at_floor
        if self.rise <= 0:
            self.stalled = self.rise < -_ROUNDING * max(1.0, abs(self.bound))
            self.converged = not self.stalled
        self.bounds.append(max([self.bound, *self.bounds[-1:]]))

    def _reseeded(self, problem, parameters, collected):
        """Set one component without rows on the row of the least density.

        Returns the parameters and statistics if that raises the likelihood; else
        None, and the component stays without rows.
        """
        empty = set(np.flatnonzero(parameters.weights == 0).tolist()) - self.abandoned
        if not empty:
            return None
        k, row = min(empty), collected.lowest_row
        if k not in self.reseeded:
            weight = problem.sample_weight[row] / problem.sample_weight.sum()
            seeded = self._with_component(problem, parameters, k, row, weight)
            found = problem.statistics(seeded)
            if found.log_likelihood > collected.log_likelihood:
                self.reseeded.add(k)
                return seeded, found
        self.abandoned.add(k)
        return None

    def _with_component(self, problem, parameters, k, row, weight):
        """Return the parameters with component `k` on a row, of average covariance."""
        weights, means = parameters.weights * (1 - weight), parameters.means.copy()
        weights[k], means[k] = weight, problem.X[row]
        covariances = problem.covariance.averaged(
            parameters.covariances, k, parameters.weights
        )
        factors = problem.covariance.factors(covariances)
        return Parameters(weights, means, covariances, factors)
