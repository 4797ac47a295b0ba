r"""Marginals and conditionals of a Gaussian mixture.

For the observed features `o` and the missing features `m` of a component with mean
:math:`\mu` and covariance :math:`\Sigma`,

.. math:: x_m | x_o \sim \mathcal{N}(\mu_m + B (x_o - \mu_o),
          \Sigma_{mm} - B \Sigma_{om}), \qquad B = \Sigma_{mo} \Sigma_{oo}^{-1},

(Anderson, 2003, section 2.5). The conditional density of a mixture is the mixture of
these densities, with the responsibilities given :math:`x_o` as weights.
"""

from functools import partial

import numpy as np

from skgen._lazy import cached_property
from skgen._parts import AbstractPart
from skgen.mixture._answers import log_density, most_probable, posterior
from skgen.mixture._covariance import Parameters


class MixturePart(AbstractPart):
    """The observed features of a mixture, a mask (d,), and the other features."""

    def __init__(self, parameters, covariance, device, observed):
        o, m = np.flatnonzero(observed), np.flatnonzero(~observed)
        self._marginal = (*restricted(parameters, covariance, o), device)
        self._means = parameters.means[:, o], parameters.means[:, m]
        self._split = partial(
            covariance.conditional, parameters.covariances, parameters.factors, o, m
        )

    @cached_property
    def _conditional(self):
        """Return slopes, and the type, covariances and factors of the residuals."""
        return self._split()

    @property
    def weights(self):
        """Return the weights of the components: (K,)."""
        return self._marginal[0].weights

    def log_density(self, X):
        if not X.shape[1]:
            return np.zeros(len(X))
        return log_density(X, *self._marginal)

    def posterior_mean(self, X):
        if not X.shape[1]:
            return np.tile(self.weights, (len(X), 1))
        return posterior(X, *self._marginal)

    def most_probable(self, X):
        """Return the component of highest responsibility: (n,)."""
        if not X.shape[1]:
            return np.full(len(X), self.weights.argmax())
        return most_probable(X, *self._marginal)

    def conditional_mean(self, X):
        r = self.posterior_mean(X)  # (n, K)
        slopes = self._conditional[0]  # (J, m, o)
        of_observed, of_missing = self._means
        if slopes is None or not X.shape[1]:
            return r @ of_missing
        centre = self.weights @ of_observed  # so that no digits of offsets are lost
        levels = of_missing - (slopes @ (of_observed - centre)[:, :, None])[:, :, 0]
        X = X - centre
        if len(slopes) == 1:
            return r @ levels + X @ slopes[0].T
        each = (r[:, :, None] * X[:, None]).reshape(len(X), -1)  # (n, K o)
        return r @ levels + each @ slopes.mT.reshape(each.shape[1], -1)

    def mean(self, k, X):
        """Return E[x_m | x_o, component k] of (n, o) rows: (n, m)."""
        of_observed, of_missing = (means[k] for means in self._means)
        slopes = self._conditional[0]  # (J, m, o), or None
        if slopes is None:
            return np.broadcast_to(of_missing, (len(X), of_missing.size))
        slope = slopes[k if len(slopes) > 1 else 0]
        return of_missing + (X - of_observed) @ slope.T

    def conditioned(self, row):
        """Return the parameters and the covariance type given one row (o,)."""
        X, K = row[None], self.weights.size
        _, covariance, *arrays = self._conditional
        weights = self.posterior_mean(X)[0]
        means = np.vstack([self.mean(k, X) for k in range(K)])
        return Parameters(weights, means, *arrays), covariance

    def draw(self, X, n_samples, rng):
        r = self.posterior_mean(X)
        n, K = r.shape
        _, covariance, _, factors = self._conditional
        component = component_draws(r, n_samples, rng)  # (n_samples, n)
        draws = rng.standard_normal((n_samples, n, self._means[1].shape[1]))
        for k in range(K):
            sample, row = np.nonzero(component == k)
            if row.size:
                noise = covariance.colour(draws[sample, row], factors, k)
                draws[sample, row] = self.mean(k, X[row]) + noise
        return draws


def restricted(parameters, covariance, features):
    """Return the parameters and the covariance type of a marginal mixture."""
    arrays = parameters.covariances, parameters.factors
    of_marginal, *arrays = covariance.restricted(*arrays, features)
    means = parameters.means[:, features]
    return Parameters(parameters.weights, means, *arrays), of_marginal


def component_draws(r, n_samples, rng):
    """Return components drawn with probabilities r (n, K): (n_samples, n)."""
    limits = np.cumsum(r, axis=1)  # (n, K)
    u = rng.random_sample((n_samples, len(r))) * limits[:, -1]
    component = np.zeros(u.shape, dtype=np.intp)
    for k in range(r.shape[1] - 1):
        component += u >= limits[:, k]
    return component
