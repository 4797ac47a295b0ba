"""EM: iterations from one start that never lower the likelihood."""

from dataclasses import dataclass, field

import numpy as np

from skgen.mixture._acceleration import Acceleration
from skgen.mixture._joint import Parameters
from skgen.mixture._precision import LEAST_LOSS
from skgen.mixture._statistics import Statistics

# What matrix products may lose of log-densities, as a multiple of rounding: more
# than the least while the likelihood still rises by so much more.
_MOST_LOSS, _LOSS_OF_RISE = 1e7, 1e-4


def allowed_loss(rise):
    """Return what products may lose after an iteration of such a rise."""
    loss = _LOSS_OF_RISE * rise / np.finfo(np.float64).eps
    return min(max(loss, LEAST_LOSS), _MOST_LOSS)


@dataclass
class Run:
    """EM from one start: the parameters so far, and what happened to them."""

    parameters: Parameters
    statistics: Statistics
    accelerate_below: float = 0.0  # rises below which steps are made longer
    acceleration: Acceleration | None = None
    bounds: list = field(default_factory=list)
    rise: float = np.inf
    converged: bool = False
    stalled: bool = False
    at_floor: np.ndarray = field(default_factory=lambda: np.zeros(1, dtype=bool))
    reseeded: set = field(default_factory=set)
    abandoned: set = field(default_factory=set)
    refused: bool = False  # whether the last iteration found nothing better

    @property
    def bound(self):
        """Return the mean log-likelihood of the parameters, in whitened units."""
        return self.statistics.log_likelihood

    def step(self, problem, tol):
        """Do one iteration; parameters of a lower likelihood are not taken.

        The rise that the iteration before brought decides whether this one was the
        last: scikit-learn's rule, which ends at the same parameters. Where steps are
        made longer, it is no less than EM's own would have been.
        """
        plain, at_floor = problem.maximise(self.statistics, self.parameters)
        if not self._longer_step(problem, tol, plain, at_floor):
            self._plain_step(problem, tol, plain, at_floor)
        self.bounds.append(max([self.bound, *self.bounds[-1:]]))

    def _longer_step(self, problem, tol, plain, at_floor):
        """Try a step beyond that of EM; tell whether there was any to try.

        One that lowers the likelihood costs an iteration, and the next is EM's.
        """
        if self.refused or self.rise > self.accelerate_below:
            self.refused = False
            return False
        if self.acceleration is None:
            self.acceleration = Acceleration(problem.family)
        proposal = self.acceleration.propose(self.parameters, plain)
        empty = set(np.flatnonzero(plain.weights == 0).tolist())
        if proposal is None or empty - self.abandoned:
            return False
        loss = allowed_loss(self.rise)
        found = problem.statistics(proposal[0], loss)
        rise = found.log_likelihood - self.bound
        self.refused = not rise > 0
        if self.refused:
            self.acceleration.refused()
            return True
        self.acceleration.accepted()
        self.converged = self.rise < tol
        self.rise = max(rise, self.acceleration.em_rise)
        self.parameters, self.statistics = proposal[0], found
        self.at_floor = at_floor | proposal[1]
        return True

    def _plain_step(self, problem, tol, parameters, at_floor):
        """Take the step of EM, unless rounding makes the likelihood fall."""
        self.converged = self.rise < tol
        loss = allowed_loss(self.rise)
        found = parameters, problem.statistics(parameters, loss)
        found = self._reseeded(problem, *found) or found
        self.rise = found[1].log_likelihood - self.bound
        if self.rise <= 0 and loss > LEAST_LOSS:
            # Perhaps for what products lost: once more, with the digits that remain.
            self.statistics = problem.statistics(self.parameters)
            found = found[0], problem.statistics(found[0])
            self.rise = found[1].log_likelihood - self.bound
        if self.rise >= 0:
            self.parameters, self.statistics = found
            self.at_floor = at_floor
        if self.rise <= 0:
            rounding = problem.precision.rounding
            self.stalled = self.rise < -rounding * max(1.0, abs(self.bound))
            self.converged = not self.stalled

    def _reseeded(self, problem, parameters, collected):
        """Set one component without rows on the row of the least density.

        Returns the parameters and statistics if that raises the likelihood; else
        None, and the component stays without rows.
        """
        empty = set(np.flatnonzero(parameters.weights == 0).tolist()) - self.abandoned
        if not empty:
            return None
        k = min(empty)
        if k not in self.reseeded:
            row, share = collected.lowest_row, collected.lowest_share
            seeded = self._with_component(problem, parameters, k, row, share)
            found = problem.statistics(seeded)
            if found.log_likelihood > collected.log_likelihood:
                self.reseeded.add(k)
                return seeded, found
        self.abandoned.add(k)
        return None

    def _with_component(self, problem, parameters, k, row, share):
        """Return the parameters with component `k` on a row, of average covariance."""
        weights, means = parameters.weights * (1 - share), parameters.means.copy()
        weights[k], means[k] = share, row
        covariance = problem.family.covariance
        covariances = covariance.averaged(parameters.covariances, k, parameters.weights)
        factors = covariance.factors(covariances)
        return Parameters(weights, means, covariances, factors)
