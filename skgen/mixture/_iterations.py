"""EM: iterations from one start that never lower the likelihood."""

from dataclasses import dataclass, field

import numpy as np
from sklearn.utils import gen_batches

from skgen.mixture._covariance import AbstractCovariance
from skgen.mixture._statistics import (
    Parameters,
    Statistics,
    maximise,
    moments,
    responsibilities,
    statistics,
)

# A mean that moves so many standard deviations (squared) of its new component
# leaves too few digits of moments about where it was.
_FAR_MOVE = 1e6

# A fall of the likelihood by this share of it is rounding.
_ROUNDING = 1e-10


@dataclass(frozen=True)
class Problem:
    """Rows in whitened coordinates, and the family to fit to them."""

    X: np.ndarray  # (n, d)
    sample_weight: np.ndarray  # (n,)
    covariance: AbstractCovariance
    floor: float  # the least variance
    degenerate: np.ndarray  # (d,) whether the rows vary along each coordinate

    def statistics(self, parameters):
        """Return what a pass over the rows yields under the parameters (E-step)."""
        return statistics(self.X, self.sample_weight, parameters, self.covariance)

    def maximise(self, collected, parameters):
        """Return the parameters after `parameters`, and which components collapsed."""
        now = collected.counts, collected.first, collected.scatter
        result = self._maximise(now, parameters.means, parameters.covariances)
        if self._moved_far(parameters.means, result[0]):

            def shares(rows):
                return responsibilities(self.X[rows], parameters, self.covariance)[1]

            # Once more, about the new means: no digits are lost there.
            origins = result[0].means
            now = moments(self.X, self.sample_weight, shares, origins, self.covariance)
            result = self._maximise(now, origins, parameters.covariances)
        return result

    def from_shares(self, shares, K):
        """Return the parameters of components that hold given shares of the rows."""
        d = self.X.shape[1]
        counts, sums = np.zeros(K), np.zeros((K, d))
        for rows in gen_batches(self.X.shape[0], 4096):
            r = shares(rows) * self.sample_weight[rows, None]  # (b, K)
            counts += r.sum(axis=0)
            sums += r.T @ self.X[rows]
        origins = sums / np.where(counts > 0, counts, 1.0)[:, None]  # (K, d)
        now = moments(self.X, self.sample_weight, shares, origins, self.covariance)
        return self._maximise(now, origins, self.covariance.unit(K, d))[0]

    def _maximise(self, now, origins, previous):
        return maximise(
            *now, origins, previous, self.covariance, self.floor, self.degenerate
        )

    def _moved_far(self, origins, parameters):
        """Tell whether a mean moved by very many of its standard deviations."""
        for k in np.flatnonzero(parameters.weights):
            move = parameters.means[k : k + 1] - origins[k]  # (1, d)
            y = self.covariance.standardise(move, parameters.factors, k)
            if (y**2).sum() > _FAR_MOVE:
                return True
        return False


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
        found = parameters, problem.statistics(parameters)
        found = self._reseeded(problem, *found) or found
        self.rise = found[1].log_likelihood - self.bound
        if self.rise >= 0:
            self.parameters, self.statistics = found
            self.at_floor = at_floor
        if self.rise <= 0:
            self.stalled = self.rise < -_ROUNDING * max(1.0, abs(self.bound))
            self.converged = not self.stalled
        self.bounds.append(self.bound)

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
