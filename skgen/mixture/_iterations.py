"""EM iterations that never decrease the likelihood."""

from dataclasses import dataclass, field

import numpy as np

from skgen.mixture._backend import LEAST_LOSS
from skgen.mixture._covariance import Parameters
from skgen.mixture._lbfgs import Acceleration
from skgen.mixture._pass import Statistics

# Maximum error of log-densities by matrix products, in units of rounding, and as a
# fraction of the last increase of the likelihood.
_MOST_LOSS, _LOSS_OF_RISE = 1e7, 1e-4


def allowed_loss(rise):
    """Return the error allowed to products after an increase of the likelihood."""
    loss = _LOSS_OF_RISE * rise / np.finfo(np.float64).eps
    return min(max(loss, LEAST_LOSS), _MOST_LOSS)


@dataclass
class Run:
    """State of EM from one initialisation."""

    parameters: Parameters
    statistics: Statistics
    accelerate_below: float = 0.0  # rise below which steps are accelerated
    acceleration: Acceleration | None = None
    bounds: list = field(default_factory=list)
    rise: float = np.inf
    converged: bool = False
    stalled: bool = False
    at_floor: np.ndarray = field(default_factory=lambda: np.zeros(1, dtype=bool))
    reseeded: set = field(default_factory=set)
    abandoned: set = field(default_factory=set)
    refused: bool = False  # whether the last accelerated step was rejected

    @property
    def bound(self):
        """Return the mean log-likelihood of the parameters, in whitened coordinates."""
        return self.statistics.log_likelihood

    def step(self, problem, tol):
        """Do one iteration; reject parameters with a lower likelihood."""
        # As in scikit-learn, the increase of the previous iteration decides whether
        # this is the last one.
        plain, at_floor = problem.maximise(self.statistics, self.parameters)
        if not self._longer_step(problem, tol, plain, at_floor):
            self._plain_step(problem, tol, plain, at_floor)
        self.bounds.append(max([self.bound, *self.bounds[-1:]]))

    def _longer_step(self, problem, tol, plain, at_floor):
        """Try an accelerated step; return whether there was one to try."""
        # After a rejected step the next one is a plain EM step.
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
        """Take the EM step, unless rounding decreases the likelihood."""
        self.converged = self.rise < tol
        loss = allowed_loss(self.rise)
        found = parameters, problem.statistics(parameters, loss)
        found = self._reseeded(problem, *found) or found
        self.rise = found[1].log_likelihood - self.bound
        if self.rise <= 0 and loss > LEAST_LOSS:
            # The error of the products may be the reason: repeat with less error.
            self.statistics = problem.statistics(self.parameters)
            found = found[0], problem.statistics(found[0])
            self.rise = found[1].log_likelihood - self.bound
        if self.rise >= 0:
            self.parameters, self.statistics = found
            self.at_floor = at_floor
        if self.rise <= 0:
            rounding = problem.backend.limits.rounding
            self.stalled = self.rise < -rounding * max(1.0, abs(self.bound))
            self.converged = not self.stalled

    def _reseeded(self, problem, parameters, collected):
        """Re-initialise one empty component at the row with the lowest density.

        Return the parameters and statistics, or None if the likelihood does not rise.
        """
        empty = set(np.flatnonzero(parameters.weights == 0).tolist()) - self.abandoned
        if not empty:
            return None
        k = min(empty)
        if k not in self.reseeded:
            row, weight = collected.lowest_row, collected.lowest_weight
            seeded = self._with_component(problem, parameters, k, row, weight)
            found = problem.statistics(seeded)
            if found.log_likelihood > collected.log_likelihood:
                self.reseeded.add(k)
                return seeded, found
        self.abandoned.add(k)
        return None

    def _with_component(self, problem, parameters, k, row, weight):
        """Return the parameters with component `k` moved to a row."""
        weights, means = parameters.weights * (1 - weight), parameters.means.copy()
        weights[k], means[k] = weight, row
        covariance = problem.family.covariance
        covariances = covariance.averaged(parameters.covariances, k, parameters.weights)
        factors = covariance.factors(covariances)
        return Parameters(weights, means, covariances, factors)
