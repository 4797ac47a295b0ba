r"""Accelerated EM: L-BFGS in the metric of the complete-data Fisher information.

An EM step is a preconditioned gradient step. With `f` the step and `I` the Fisher
information of the complete data (rows and their components), the gradient of the mean
log-likelihood is `I f`, to first order. L-BFGS [1]_ preconditioned by `I` learns the
remaining curvature from the last steps, as Jamshidian and Jennrich [2]_ do with BFGS.
Without a history its step is the EM step.

Differences of parameters are differences of log-weights, means and covariances. Their
metric is `I` at the current parameters:

.. math:: |v|^2 = \sum_k \pi_k \left( (d \log \pi_k)^2 + |U_k^\top d\mu_k|^2
          + \tfrac{1}{2} |U_k^\top d\Sigma_k U_k|_F^2 \right).

The steps are equivariant under affine maps of the rows. From a covariance
:math:`L L^\top = (U U^\top)^{-1}`, a step by `T`, in its own units, leads to
:math:`L (1 + T / 2)^2 L^\top`, which is never indefinite.

.. [1] Nocedal, J. (1980). Updating quasi-Newton matrices with limited storage.
   Mathematics of Computation 35, 773-782.
.. [2] Jamshidian, M. and Jennrich, R. I. (1997). Acceleration of the EM algorithm by
   using quasi-Newton methods. Journal of the Royal Statistical Society B 59, 569-587.
"""

import numpy as np

from skgen.mixture._covariance import Parameters

# Maximum length of the history: 16 steps gained nothing over 8.
_MOST_STEPS = 8

# Maximum of what a step adds to the EM step in one component: in its standard
# deviations, nats of its weight, or multiples of its covariance. Below 2 no covariance
# becomes singular.
_LONGEST = 1.0

# Initial maximum of what a step adds to the EM step, as a multiple of the EM step, and
# the factors after an accepted and a rejected step.
_FIRST_RADIUS, _WIDEN, _NARROW = 4.0, 2.0, 0.25

# Ignore steps along which the gradient decreases by less than this fraction of the
# step, or increases, as near a saddle point.
_LEAST_CURVATURE = 1e-6

# Maximum factor of the EM step.
_LARGEST_SCALE = 10.0


class Acceleration:
    """L-BFGS proposals from the last steps; call `accepted` or `refused` after each.

    `em_rise` bounds the increase of the likelihood by the last EM step: to second
    order, the increase is between `em_rise / 2` and `em_rise`.
    """

    def __init__(self, family):
        self.family = family
        self.em_rise, self._radius = np.inf, _FIRST_RADIUS
        self.forget()

    def forget(self):
        """Clear the history."""
        self._moves, self._changes = [], []  # of the parameters, and of the EM steps
        self._last = self._filled = None

    def accepted(self):
        self._radius = max(self._radius, _NARROW) * _WIDEN

    def refused(self):
        self._radius = _NARROW * min(self._radius, self._length)

    def propose(self, parameters, plain):
        """Return accelerated parameters, and which are at the floor (K,), or None.

        `plain` are the parameters after an EM step. Without a history, return None.
        """
        filled = (parameters.weights > 0) & (plain.weights > 0)
        if self._filled is not None and (filled != self._filled).any():
            self.forget()
        self._filled = filled
        point = flat(parameters, filled)
        step = flat(plain, filled) - point
        if self._last is not None:
            self._moves = [*self._moves, point - self._last[0]][-_MOST_STEPS:]
            self._changes = [*self._changes, step - self._last[1]][-_MOST_STEPS:]
        self._last = point, step
        differences = np.stack([step, *self._moves, *self._changes])  # (1 + 2 m, N)
        vectors = in_metric(differences, parameters, self.family.covariance)
        self.em_rise = float(vectors[0] @ vectors[0])
        m = len(self._moves)
        if m == 0 or self.em_rise == 0:
            return None
        coefficients = lbfgs(vectors[1 : 1 + m], -vectors[1 + m :], vectors[0])
        coefficients[0] -= 1.0  # `plain` already includes the EM step
        self._length = np.linalg.norm(coefficients @ vectors) / np.sqrt(self.em_rise)
        coefficients *= self._radius / max(self._radius, self._length)
        return self._moved(plain, coefficients @ differences)

    def _moved(self, parameters, difference):
        """Return parameters moved by (N,), and which are at the floor (K,)."""
        covariance = self.family.covariance
        units = in_own_units(difference[None], parameters, covariance)
        logs, means, widths = (part[0] for part in units)
        length = longest(logs, means, widths, covariance)
        scale = _LONGEST / max(_LONGEST, length)
        weights = parameters.weights * np.exp(scale * logs)
        K, d = parameters.means.shape
        means = parameters.means + scale * difference[K : K + K * d].reshape(K, d)
        covariances, at_floor = stretched(parameters, scale * widths, self.family)
        factors = covariance.factors(covariances)
        return Parameters(
            weights / weights.sum(), means, covariances, factors
        ), at_floor


def flat(parameters, filled):
    """Return log-weights (0 if not filled), means and covariances as a vector (N,)."""
    logs = np.log(np.where(filled, parameters.weights, 1.0))  # (K,)
    rest = parameters.means.ravel(), parameters.covariances.ravel()
    return np.concatenate([logs, *rest])


def in_own_units(differences, parameters, covariance):
    """Return differences (m, N) of parameters in the units of each component.

    Log-weights (m, K), means (m, K, d) and covariances (m, J, d, d) or (m, J, d).
    """
    (K, d), U, m = parameters.means.shape, parameters.factors, len(differences)
    logs, means, widths = np.split(differences, [K, K + K * d], axis=1)
    means, widths = means.reshape(m, K, d), widths.reshape(m, *U.shape)
    if not covariance.dense:
        return logs, means * U, widths * U**2
    return logs, (means[:, :, None] @ U)[:, :, 0], U.swapaxes(1, 2) @ widths @ U


def in_metric(differences, parameters, covariance):
    """Return differences (m, N) as vectors whose metric is the identity: (m, N)."""
    logs, means, widths = in_own_units(differences, parameters, covariance)
    weights, m = parameters.weights, len(differences)
    roots = np.sqrt(weights)  # (K,)
    # A shared covariance has the weight of all components.
    of_each = np.ones(1) if covariance.shared else weights
    widths = np.sqrt(0.5 * of_each)[:, None] * widths.reshape(m, of_each.size, -1)
    parts = logs * roots, means * roots[:, None], widths
    return np.hstack([part.reshape(m, -1) for part in parts])


def longest(logs, means, widths, covariance):
    """Return the largest step of any component in its own units."""
    if covariance.pooled:  # the same step for every feature
        widths = widths[:, :1]
    widths = widths.reshape(len(widths), -1)
    lengths = np.abs(logs), *(np.linalg.norm(a, axis=1) for a in (means, widths))
    return max(length.max() for length in lengths)


def stretched(parameters, widths, family):
    """Return covariances moved by `widths` in their own units, raised to the floor.

    Also return which components (K,) are at the floor.
    """
    covariances, (K, d) = parameters.covariances, parameters.means.shape
    if family.covariance.dense:
        roots = np.linalg.cholesky(covariances) @ (np.eye(d) + 0.5 * widths)
        moments = roots @ roots.swapaxes(1, 2)  # (J, d, d)
    else:
        moments = covariances * (1 + 0.5 * widths) ** 2  # (J, d)
    floor, degenerate = family.floor, family.degenerate
    covariances, at_floor = family.covariance.floored(moments, floor, degenerate)
    return covariances, np.broadcast_to(at_floor, K).copy()


def lbfgs(moves, bends, gradient):
    """Return the L-BFGS step as coefficients of gradient, moves and -bends: (1 + 2 m,).

    `moves` (m, N) are the steps, the newest last; `bends` (m, N) the decrease of the
    gradient (N,) along each.
    """
    m = len(moves)
    curvatures = np.einsum("ij,ij->i", moves, bends)  # (m,)
    least = _LEAST_CURVATURE * np.einsum("ij,ij->i", moves, moves)
    known = np.flatnonzero(curvatures > least)
    coefficients = np.append(1.0, np.zeros(2 * m))
    along, against = coefficients[1 : 1 + m], coefficients[1 + m :]  # views
    step = gradient.copy()
    for i in known[::-1]:
        against[i] = moves[i] @ step / curvatures[i]
        step -= against[i] * bends[i]
    back = against.copy()
    if known.size:
        # The inverse curvature along the newest move, if EM steps are too short.
        newest = known[-1]
        scale = curvatures[newest] / (bends[newest] @ bends[newest])
        scale = min(max(scale, 1.0), _LARGEST_SCALE)
        coefficients *= scale
        step *= scale
    for i in known:
        along[i] = back[i] - bends[i] @ step / curvatures[i]
        step += along[i] * moves[i]
    return coefficients
