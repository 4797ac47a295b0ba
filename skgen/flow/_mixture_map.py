r"""Rosenblatt's map (1952) of a normal mixture to the standard normal density.

The conditional density of a feature given the features before it is a mixture of normal
densities in one dimension. Its distribution function, followed by the standard normal
quantile function, maps the feature to a standard normal number:

.. math:: z_j = \Phi^{-1}\Big(\sum_k w_k(x_1, ..., x_{j-1}) \, \Phi(e_{kj})\Big),
          \qquad e_k = L_k^{-1} (x - \mu_k),

where :math:`L_k` is the Cholesky factor of the covariance of component k, and
:math:`w_k` its responsibility given the features before j.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr, ndtri_exp

# Fraction of the mass of a wide component, and its covariance in units of the
# covariance of the whole mixture.
_BACKGROUND, _WIDTH = 1e-3, 16.0

# Maximum number of values in a block of residuals.
_BLOCK = 2**19

# Maximum number of steps to a quantile, of which every third is a bisection, and the
# error of a standard normal number at which they end.
_STEPS, _ERROR = 200, 8 * np.finfo(np.float64).eps

_HALF_LOG = 0.5 * np.log(2 * np.pi)


def log_normal(z):
    """Return the standard normal log-density, elementwise."""
    return -0.5 * np.square(z) - _HALF_LOG


def log_sums(x):
    """Return the logarithms (...) of the sums of exponentials of x (K, ...)."""
    # SciPy's function handles signs and complex numbers, and takes several times as
    # long.
    largest = x.max(axis=0)
    return largest + np.log(np.exp(x - largest).sum(axis=0))


def normal_scores(log_weights, e):
    """Return the standard normal quantiles (...) of mixtures at standardised residuals.

    log_weights, e: (K, ...). The smaller of the two tails is accurate.
    """
    below = log_sums(log_weights + log_ndtr(e))
    above = log_sums(log_weights + log_ndtr(-e))
    z = ndtri_exp(np.minimum(below, above))
    return np.where(below < above, z, -z)


def quantiles(z, log_weights, means, scales):
    """Return the numbers x (b,) whose `normal_scores` are z (b,).

    log_weights, means: (K, b); scales: (K, 1).
    """
    ends = means + scales * z
    low, high = ends.min(axis=0), ends.max(axis=0)
    x = np.clip((np.exp(log_weights) * ends).sum(axis=0), low, high)
    todo = np.arange(z.size)
    for i in range(_STEPS):
        at, weights = x[todo], log_weights[:, todo]
        e = (at - means[:, todo]) / scales
        reached = normal_scores(weights, e)
        gap = reached - z[todo]
        high[todo] = np.where(gap > 0, at, high[todo])
        low[todo] = np.where(gap > 0, low[todo], at)
        width = high[todo] - low[todo]
        done = np.abs(gap) <= _ERROR * np.maximum(1, np.abs(reached))
        done |= width <= 2 * np.spacing(np.abs(at))
        if done.all():
            break
        log_density = log_sums(weights + log_normal(e) - np.log(scales))
        with np.errstate(all="ignore"):  # the slope can be 0 far from all components
            new = at - gap * np.exp(log_normal(reached) - log_density)
        inside = (new > low[todo]) & (new < high[todo])
        middle = low[todo] + 0.5 * width
        x[todo] = np.where(done, at, np.where(inside & (i % 3 < 2), new, middle))
        todo = todo[~done]
    return x


@dataclass(frozen=True)
class MixtureMap:
    """Map of a mixture with weights (K,), means (K, d) and covariances L_k L_k'."""

    log_weights: np.ndarray  # (K,)
    means: np.ndarray  # (K, d)
    factors: np.ndarray  # (K, d, d), L_k
    inverses: np.ndarray  # (K, d, d), of the factors

    def to_normal(self, X):
        """Return the standard normal rows (n, d) and log-densities (n,) of rows."""
        blocks = [self._block_to_normal(block) for block in self._blocks(X)]
        Z, log_density = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
        return Z, log_density

    def from_normal(self, Z):
        """Return the rows (n, d) that are mapped to Z (n, d)."""
        return np.concatenate([self._block_from_normal(z) for z in self._blocks(Z)])

    def _blocks(self, X):
        size = max(1, _BLOCK // self.means.size)
        return [X[i : i + size] for i in range(0, max(1, len(X)), size)]

    def _block_to_normal(self, X):
        centred = X - self.means[:, None]  # (K, b, d)
        e = centred @ self.inverses.transpose(0, 2, 1)
        diagonal = self.factors.diagonal(axis1=1, axis2=2)[:, None]  # (K, 1, d)
        joint = np.cumsum(log_normal(e) - np.log(diagonal), axis=2)
        joint = np.concatenate([np.zeros_like(e[..., :1]), joint], axis=2)
        joint += self.log_weights[:, None, None]  # log p(k, x_1, ..., x_j)
        totals = log_sums(joint)  # (b, d + 1)
        weights = joint[..., :-1] - totals[:, :-1]
        return normal_scores(weights, e), totals[:, -1]

    def _block_from_normal(self, Z):
        K, d = self.means.shape
        X, e = np.empty(Z.shape), np.zeros((K, *Z.shape))
        joint = np.repeat(self.log_weights[:, None], len(Z), axis=1)  # (K, b)
        for j in range(d):
            row, scale = self.factors[:, j, :j, None], self.factors[:, j, j, None]
            means = self.means[:, j, None] + (e[..., :j] @ row)[..., 0]  # (K, b)
            weights = joint - log_sums(joint)
            X[:, j] = quantiles(Z[:, j], weights, means, scale)
            e[..., j] = (X[:, j] - means) / scale
            joint += log_normal(e[..., j]) - np.log(scale)
        return X


def mixture_map(weights, means, covariances):
    """Return the map of a mixture; covariances: (K, d, d), or (1, d, d) for all.

    A small fraction of the mass becomes a normal density four times as wide as the
    whole mixture. Without it, the distribution function would be constant between
    components, and the map could not be inverted there. Outliers score higher as well.
    """
    kept = weights > 0  # scikit-learn's mixtures can have weights of 0
    d = means.shape[1]
    covariances = np.broadcast_to(covariances, (kept.size, d, d))[kept]
    weights, means = weights[kept] / weights[kept].sum(), means[kept]
    if weights.size > 1:
        mean = weights @ means
        between = (means - mean).T * weights @ (means - mean)
        whole = between + np.tensordot(weights, covariances, 1)
        weights = np.append((1 - _BACKGROUND) * weights, _BACKGROUND)
        means = np.vstack([means, mean])
        covariances = np.concatenate([covariances, _WIDTH * whole[None]])
    factors = np.linalg.cholesky(covariances)
    inverses = np.tril(np.linalg.inv(factors))
    return MixtureMap(np.log(weights), means, factors, inverses)
