r"""Longer steps for EM, out of those it took: a quasi-Newton method in its own metric.

An EM step is a gradient step. With `f` the step and `I` the Fisher information of the
complete data (rows and their components), the gradient of the mean log-likelihood is
`I f`, to first order. L-BFGS [1]_ preconditioned by `I` learns from the last steps
what the rows leave open, as Jamshidian and Jennrich [2]_ do with BFGS; without a
history its step is that of EM.

Differences of parameters are of log-weights, means and covariances, and are measured
in the metric of the current ones, where `I` is the identity:

.. math:: |v|^2 = \sum_k \pi_k \left( (d \log \pi_k)^2 + |U_k^\top d\mu_k|^2
          + \tfrac{1}{2} |U_k^\top d\Sigma_k U_k|_F^2 \right).

All of it moves along with the rows under affine maps, and so do the steps. From a
covariance :math:`L L^\top = (U U^\top)^{-1}` a step by `T`, in its own units, leads to
:math:`L (1 + T / 2)^2 L^\top`, which is never indefinite.

.. [1] Nocedal, J. (1980). Updating quasi-Newton matrices with limited storage.
   Mathematics of Computation 35, 773-782.
.. [2] Jamshidian, M. and Jennrich, R. I. (1997). Acceleration of the EM algorithm by
   using quasi-Newton methods. Journal of the Royal Statistical Society B 59, 569-587.
"""

import numpy as np

from skgen.mixture._covariance import AbstractVariances, Spherical, floored
from skgen.mixture._joint import Parameters

# Steps to learn from: 16 gained nothing over 8.
_MOST_STEPS = 8

# The most that a step adds to that of EM in one component: in its standard deviations,
# nats of its weight, or multiples of its covariance. Below 2 none becomes singular.
_LONGEST = 1.0

# The most that a first step adds to that of EM, as a multiple of it. What is accepted
# doubles it, what is refused takes it to a quarter.
_FIRST_RADIUS, _WIDEN, _NARROW = 4.0, 2.0, 0.25

# Moves along which the gradient falls by less than this share of them, or rises, as
# near a saddle, are not learnt from.
_LEAST_CURVATURE = 1e-6

# The most that the step of EM is multiplied by.
_LARGEST_SCALE = 10.0


class Acceleration:
    """Proposals for the parameters after some, from the last steps.

    A proposal may lower the likelihood: its user looks, and tells by `accepted` or
    `refused`.

    Parameters
    ----------
    family : Family
        The shape of the covariances, their floor, and where rows do not vary.

    Attributes
    ----------
    em_rise : float
        What the last step of EM that was seen raises the likelihood by: to second
        order at most this, and at least half of it.
    """

    def __init__(self, family):
        self.family = family
        self.em_rise, self._radius = np.inf, _FIRST_RADIUS
        self.forget()

    def forget(self):
        """Start learning afresh."""
        self._moves, self._changes = [], []  # of the parameters, of EM's steps
        self._last = self._filled = None

    def accepted(self):
        self._radius = max(self._radius, _NARROW) * _WIDEN

    def refused(self):
        self._radius = _NARROW * min(self._radius, self._length)

    def propose(self, parameters, plain):
        """Return a proposal in the place of `plain`, where EM leads.

        Returns
        -------
        None, or a tuple
            Of the parameters and which components they hold at the floor, (K,).
            None where nothing is known that `plain` is not.
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
        shares = lbfgs(vectors[1 : 1 + m], -vectors[1 + m :], vectors[0])
        shares[0] -= 1.0  # `plain` has gone the step of EM
        self._length = np.linalg.norm(shares @ vectors) / np.sqrt(self.em_rise)
        shares *= self._radius / max(self._radius, self._length)
        return self._moved(plain, shares @ differences)

    def _moved(self, parameters, difference):
        """Return parameters moved by (N,), and which components hit the floor."""
        covariance = self.family.covariance
        units = in_own_units(difference[None], parameters, covariance)
        logs, means, widths = (part[0] for part in units)
        share = _LONGEST / max(_LONGEST, longest(logs, means, widths))
        weights = parameters.weights * np.exp(share * logs)
        K, d = parameters.means.shape
        means = parameters.means + share * difference[K : K + K * d].reshape(K, d)
        covariances, at_floor = stretched(parameters, share * widths, self.family)
        factors = covariance.factors(covariances)
        return Parameters(
            weights / weights.sum(), means, covariances, factors
        ), at_floor


def flat(parameters, filled):
    """Return log-weights, means and covariances as one vector: (N,).

    The logarithms are 0 for components that are not filled, which do not move.
    """
    logs = np.log(np.where(filled, parameters.weights, 1.0))  # (K,)
    rest = parameters.means.ravel(), parameters.covariances.ravel()
    return np.concatenate([logs, *rest])


def in_own_units(differences, parameters, covariance):
    """Return differences (m, N) of parameters in the units of each component.

    Returns
    -------
    logs : ndarray of shape (m, K)
    means : ndarray of shape (m, K, d)
    widths : ndarray of shape (m, J, d, d) or (m, J, d) or (m, J, 1)
        Of the J covariances: one if they are tied, else K.
    """
    (K, d), U, m = parameters.means.shape, parameters.factors, len(differences)
    logs, means, widths = np.split(differences, [K, K + K * d], axis=1)
    means = means.reshape(m, K, d)
    if isinstance(covariance, AbstractVariances):
        U = U.reshape(K, -1)
        return logs, means * U, widths.reshape(m, *U.shape) * U**2
    U = U.reshape(-1, d, d)
    widths = U.transpose(0, 2, 1) @ widths.reshape(m, *U.shape) @ U
    return logs, (means[:, :, None] @ U)[:, :, 0], widths


def in_metric(differences, parameters, covariance):
    """Return differences (m, N) as vectors whose metric is the identity: (m, N)."""
    logs, means, widths = in_own_units(differences, parameters, covariance)
    weights, (m, _, d) = parameters.weights, means.shape
    roots = np.sqrt(weights)  # (K,)
    # All components share a covariance that is tied; a spherical one counts d times.
    shares = 0.5 * (weights if widths.shape[1] == weights.size else np.ones(1))
    shares = shares * (d if isinstance(covariance, Spherical) else 1)
    widths = np.sqrt(shares)[:, None] * widths.reshape(m, shares.size, -1)
    parts = logs * roots, means * roots[:, None], widths
    return np.hstack([part.reshape(m, -1) for part in parts])


def longest(logs, means, widths):
    """Return the largest step of any component in its own units."""
    widths = widths.reshape(len(widths), -1)
    lengths = np.abs(logs), *(np.linalg.norm(a, axis=1) for a in (means, widths))
    return max(length.max() for length in lengths)


def stretched(parameters, widths, family):
    """Return covariances moved by `widths` in their own units, none below the floor.

    Returns which components, (K,), had to be raised to the floor as well.
    """
    covariances, (K, d) = parameters.covariances, parameters.means.shape
    if isinstance(family.covariance, AbstractVariances):
        moments = covariances * (1 + 0.5 * widths.reshape(covariances.shape)) ** 2
        # Those of a row of each weight would have a scatter of
        scatter = d // widths.shape[-1] * (parameters.weights * moments.T).T
        shift = np.zeros((K, d))
        rest = covariances, family.floor, family.degenerate
        return family.covariance.from_scatter(scatter, parameters.weights, shift, *rest)
    moments = covariances.reshape(-1, d, d)
    roots = np.linalg.cholesky(moments) @ (np.eye(d) + 0.5 * widths)  # (J, d, d)
    pairs = [floored(root @ root.T, family.floor, family.degenerate) for root in roots]
    covariances = np.stack([pair[0] for pair in pairs]).reshape(covariances.shape)
    return covariances, np.broadcast_to([pair[1] for pair in pairs], K).copy()


def lbfgs(moves, bends, gradient):
    """Return the step of L-BFGS as shares in gradient, moves, and minus the bends.

    Parameters
    ----------
    moves, bends : ndarrays of shape (m, N)
        Steps that were taken, the newest last, and how far the gradient fell on each.
    gradient : ndarray of shape (N,)
        Of what is maximised.

    Returns
    -------
    ndarray of shape (1 + 2 m,)
    """
    m = len(moves)
    curvatures = np.einsum("ij,ij->i", moves, bends)  # (m,)
    least = _LEAST_CURVATURE * np.einsum("ij,ij->i", moves, moves)
    known = np.flatnonzero(curvatures > least)
    shares = np.append(1.0, np.zeros(2 * m))
    along, against = shares[1 : 1 + m], shares[1 + m :]  # views
    step = gradient.copy()
    for i in known[::-1]:
        against[i] = moves[i] @ step / curvatures[i]
        step -= against[i] * bends[i]
    back = against.copy()
    if known.size:
        # The inverse along the newest move, where EM is too short.
        newest = known[-1]
        scale = curvatures[newest] / (bends[newest] @ bends[newest])
        scale = min(max(scale, 1.0), _LARGEST_SCALE)
        shares *= scale
        step *= scale
    for i in known:
        along[i] = back[i] - bends[i] @ step / curvatures[i]
        step += along[i] * moves[i]
    return shares
