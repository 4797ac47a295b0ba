r"""Marginals and conditionals of a kernel density.

For the observed features `o` and the missing features `m`, a kernel with the
covariance :math:`H` on the training row :math:`x_i` is

.. math:: \mathcal{N}(x_o; x_{i,o}, H_{oo}) \,
          \mathcal{N}(x_m; x_{i,m} + B (x_o - x_{i,o}), H_{mm} - B H_{om}), \qquad
          B = H_{mo} H_{oo}^{-1}.

The marginal density is the kernel density of the observed features. The conditional
density has the weights :math:`p(i | x_o)`, and training rows moved by the regression.
Coordinates `u` of the marginal kernel are whitened, so that :math:`B (x_o - x_{i,o})`
is the product of slopes and :math:`u - u_i`.

Folded kernels (see `_bounds`) are sums over the images of the observed features, each
with its own regression, and the missing features are folded after the regression.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from skgen._lazy import cached_property
from skgen._parts import AbstractPart
from skgen._threads import working_memory
from skgen.kde._bounds import fold, folded_means, image_maps, moved_between


@dataclass(frozen=True)
class RowValues:
    """Values of training rows that are linear in the coordinates `u` of the query.

    They are ``centred + centre + slopes @ u``.
    """

    centred: np.ndarray  # (n, v)
    centre: np.ndarray  # (v,)
    slopes: np.ndarray | None = None  # (v, o)

    def at(self, points, mean):
        """Return means at points (r, o) from the means of `centred` (r, v)."""
        mean = mean + self.centre
        return mean if self.slopes is None else mean + points @ self.slopes.T


class KernelPart(AbstractPart):
    """The observed features of a kernel density, a mask (d,), and the others."""

    def __init__(self, model, observed):
        self.model = model
        self.observed = np.flatnonzero(observed)
        self.missing = np.flatnonzero(~observed)

    @cached_property
    def marginal(self):
        """Return the marginal density of the observed features."""
        return self.model._marginal(self.observed)

    @cached_property
    def _regression(self):
        """Return slopes (m, o) or None, and the kernel of the residuals."""
        return self.model._kernel.conditional(self.observed, self.missing)

    @cached_property
    def _centred(self):
        """Return the missing features of the training rows at u = 0: (n, m)."""
        values = self.model.X_train_[:, self.missing].astype(np.float64)
        slopes, _ = self._regression
        if slopes is None:
            return values
        rows = self.marginal.X_train_.astype(np.float64)
        return values - self.marginal._kernel.coordinates(rows) @ slopes.T

    @property
    def _bounds(self):
        """Return the bounds (m,) of the missing features, or None."""
        bounds = self.model._bounds
        return bounds and tuple(bound[self.missing] for bound in bounds)

    @property
    def _is_folded(self):
        """Return whether kernels of missing features are folded."""
        return self._bounds is not None and np.isfinite(self._bounds).any()

    def log_density(self, X):
        if not X.shape[1]:
            return np.zeros(len(X))
        return self.marginal._log_density(X)

    def posterior_mean(self, X):
        return self._mean(X, self.model.X_train_.astype(np.float64))

    def conditional_mean(self, X):
        slopes, _ = self._regression
        if X.shape[1] and slopes is not None:
            if self._is_folded:
                return self._mean_of_folded(self._within(X))
            return self._mean(X, self._centred, slopes)
        rows = self.model.X_train_.astype(np.float64)
        return self._mean(X, self.model._conditional_mean(rows)[:, self.missing])

    def _mean(self, X, values, slopes=None):
        """Return means (r, v) of values (n, v) of the training rows given (r, o)."""
        centre = self.model.weights_ @ values
        if not X.shape[1]:
            return np.tile(centre, (len(X), 1))
        values = RowValues(values - centre, centre, slopes)
        return self.marginal._folded_sum(self._within(X), True, values)[1]

    def _within(self, X):
        """Return (r, o) rows moved into the bounds, as `transform` answers them."""
        bounds = self.marginal._bounds
        return X if bounds is None else np.clip(X, *bounds)

    def _posterior(self, image):
        """Yield slices of (r, o) images, points u (r, o), and p(i | x_o): (r, n)."""
        points = self.marginal._kernel.coordinates(image)
        # Exponents and their sums, and the centres of the missing features.
        size = 8 * self.model.weights_.size * (3 + 4 * self.missing.size)
        step = max(1, working_memory() // size)
        for start in range(0, len(points), step):
            rows = slice(start, start + step)
            a = self.marginal._sum.exponents(points[rows])
            a -= a.max(axis=1)[:, None]
            np.exp(a, out=a)
            a /= a.sum(axis=1)[:, None]
            yield rows, points[rows], a

    def _mean_of_folded(self, X):
        """Return E[x_m | x_o] (r, m) of kernels that are moved, then folded."""
        slopes, residual = self._regression
        maps = image_maps(*self._bounds, residual.deviations, correlated=True)
        total = np.full(len(X), -np.inf)
        mean = np.zeros((len(X), self.missing.size))
        for near, image, log_sum, _ in self.marginal._near_images(X):
            total[near] = np.logaddexp(total[near], log_sum)
            weight = np.exp(log_sum - total[near])[:, None]
            for rows, points, p in self._posterior(image):
                centres = self._centred + (points @ slopes.T)[:, None]  # (r, n, m)
                flat = moved_between(
                    centres.reshape(-1, self.missing.size), *self._bounds
                )
                flat = folded_means(flat, maps, *self._bounds, residual.deviations)
                of_image = np.einsum("ij,ijk->ik", p, flat.reshape(centres.shape))
                mean[near[rows]] += weight[rows] * (of_image - mean[near[rows]])
        return mean

    def draw(self, X, n_samples, rng):
        n = len(X)
        if not X.shape[1]:
            drawn = self.model._draw(n_samples * n, rng)[:, self.missing]
            return drawn.reshape(n_samples, n, -1)
        slopes, residual = self._regression
        draws = np.empty((n_samples, n, self.missing.size))
        total = np.full(n, -np.inf)
        for near, image, log_sum, _ in self.marginal._near_images(self._within(X)):
            # Each image replaces the draws of the previous ones with its probability.
            total[near] = np.logaddexp(total[near], log_sum)
            chance = np.exp(log_sum - total[near])
            taken = rng.random_sample((n_samples, near.size)) < chance
            for rows, points, p in self._posterior(image):
                sample, row = np.nonzero(taken[:, rows])
                kernel = _chosen(np.cumsum(p, axis=1), row, rng)
                centre = self._centred[kernel]
                if slopes is not None:
                    centre = centre + points[row] @ slopes.T
                noise = rng.standard_normal(centre.shape)
                drawn = centre + residual.whitening.displacements(noise)
                draws[sample, near[rows][row]] = drawn
        if self._bounds is not None:
            draws = fold(draws.reshape(-1, self.missing.size), *self._bounds)
        return draws.reshape(n_samples, n, -1)

    def conditioned(self, given):
        """Return the kernel and the weighted rows given one row (1, o).

        Rows are centres (n, m), weights (n,) and their logarithms.
        """
        slopes, residual = self._regression
        centres, log_weights = [], []
        for near, image, _, _ in self.marginal._near_images(given):
            if near.size:
                points = self.marginal._kernel.coordinates(image)
                log_weights.append(self.marginal._sum.exponents(points)[0])
                if slopes is not None:
                    centres.append(self._centred + points @ slopes.T)
        if slopes is None:
            rows = self.model.X_train_[:, self.missing]
            log_weights = logsumexp(log_weights, axis=0)
        else:
            rows, log_weights = np.vstack(centres), np.concatenate(log_weights)
            if self._is_folded:
                rows = moved_between(rows, *self._bounds)
        log_weights = log_weights - logsumexp(log_weights)
        return residual, (rows, np.exp(log_weights), log_weights)


def _chosen(limits, row, rng):
    """Return kernels drawn with cumulative probabilities (r, n) for rows (s,): (s,)."""
    u = rng.random_sample(row.size) * limits[row, -1]
    chosen = np.empty(row.size, dtype=np.intp)
    order = np.argsort(row, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(row[order])) + 1):
        if group.size:
            chosen[group] = np.searchsorted(limits[row[group[0]]], u[group], "right")
    return np.minimum(chosen, limits.shape[1] - 1)
