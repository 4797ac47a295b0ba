r"""Densities and moments of all components at once, as products of two matrices.

The logarithm of a normal density is linear in features of a row: with
:math:`z = x - s` and :math:`m_k = \mu_k - s` about any point `s`,

.. math:: \log \mathcal{N}(x; \mu_k, \Lambda_k^{-1}) = c_k + (\Lambda_k m_k)^\top z
          - \tfrac{1}{2} z^\top \Lambda_k z,

so that log-densities are coefficients (K, p) times features (p, b), and moments about
`s` are responsibilities (K, b) times the transposed features. Rows are columns here,
because NumPy's loops over features then run along memory.

**Rounding error.** The products lose the rounding of
:math:`|z|^\top |\Lambda| |z|` from the quadratic form. With
:math:`v = \operatorname{diag} \Sigma` and

.. math:: q = t^\top |\Lambda| t, \qquad t_j = \sqrt{m_j^2 + v_j},

this is at most :math:`2 q \max(1, D)` for a row at squared distance `D`, because
:math:`(x_j - \mu_j)^2 \le D v_j`. A covariance from the moments has the error
:math:`\epsilon q` in its own metric. `q` does not depend on the scale of the features,
so that the parameters alone bound the loss of digits for all rows.
"""

from abc import ABC, abstractmethod

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from skgen.mixture._covariance import Diagonal, Full, Spherical, Tied


class AbstractProducts(ABC):
    """The features of one covariance type; the first 1 + d features are 1 and `z`."""

    @abstractmethod
    def n_features(self, d):
        """Return the number `p` of features."""

    @abstractmethod
    def fill(self, F, d, factors):
        """Compute the features (p, b) after the first 1 + d, in place."""

    @abstractmethod
    def quadratic(self, precisions, K):
        """Return the coefficients of the features of `fill`: (K, p - 1 - d)."""

    @abstractmethod
    def linear(self, precisions, m):
        """Return the coefficients of `z`, precisions times m (K, d): (K, d)."""

    @abstractmethod
    def variances(self, covariances, K, d):
        """Return the variances of each component along the coordinates: (K, d)."""

    @abstractmethod
    def magnitudes(self, precisions, t):
        """Return ``t' |precision| t`` of each component for t (K, d): (K,)."""

    @abstractmethod
    def scatter(self, sums, d):
        """Return the second moments from sums; their shape depends on the type."""

    def features(self, X, shift, factors, out):
        """Return the features (p, b) of rows (b, d) about `shift` (d,), in `out`."""
        b, d = X.shape
        F = out[:, :b]
        F[0] = 1.0
        np.subtract(X.T, shift[:, None], out=F[1 : 1 + d])
        self.fill(F, d, factors)
        return F

    def room(self, d, b):
        """Return an uninitialised array for the features of b rows: (p, b)."""
        return np.empty((self.n_features(d), b))

    def zeros(self, K, d):
        """Return zero sums: a list of arrays, the first (p, K) for the features."""
        return [np.zeros((self.n_features(d), K))]

    def add(self, sums, F, r, d):
        """Add features F (p, b) with weighted responsibilities r (K, b), in place."""
        # OpenBLAS takes 1.5 times as long with a transposed view.
        sums[0] += F @ np.ascontiguousarray(r.T)

    def moments(self, sums, d):
        """Return counts (K,), first moments (K, d) and second moments from sums."""
        counts, first = sums[0][0], sums[0][1 : 1 + d].T
        return counts, first, self.scatter(sums, d)

    def merged(self, scatter, components, part):
        """Return second moments after adding `part`, the moments of `components`."""
        scatter[components] += part
        return scatter

    def coefficients(self, means, factors, covariance):
        """Return the coefficients of the features: (K, p).

        `means` (K, d) are relative to the point that the features are about.
        """
        K, d = means.shape
        precisions = covariance.precisions(factors)
        linear = self.linear(precisions, means)  # (K, d)
        constant = covariance.log_det(factors, K, d) - 0.5 * d * np.log(2 * np.pi)
        constant -= 0.5 * np.einsum("kd,kd->k", means, linear)
        return np.hstack([constant[:, None], linear, self.quadratic(precisions, K)])


def pairs(d):
    """Return the two coordinates of each pairwise product: two arrays (d (d + 1) / 2,).

    The order follows from a vector times itself rotated by 0, 1, ..., half its length.
    """
    # All products are one array times overlapping windows of another.
    turn, i = np.divmod(np.arange(d * (d + 1) // 2), d)
    return i, (i + turn) % d


class FullProducts(AbstractProducts):
    """Features `z_i z_j`, one per pair, in the order of `pairs`."""

    def n_features(self, d):
        return 1 + d + d * (d + 1) // 2

    def fill(self, F, d, factors):
        # Two calls for any d: with more, threads would wait for the interpreter lock.
        z, rest = F[1 : 1 + d], F[1 + d :]
        turned = np.concatenate([z, z[: (d - 1) // 2]])  # rotated by s from row s on
        turns = sliding_window_view(turned, d, axis=0).swapaxes(1, 2)  # (turns, d, b)
        filled = turns.shape[0] * d
        np.multiply(z, turns, out=rest[:filled].reshape(turns.shape))
        if d % 2 == 0:  # the rotation by d / 2 contains each pair twice
            np.multiply(z[: d // 2], z[d // 2 :], out=rest[filled:])

    def quadratic(self, precisions, K):
        i, j = pairs(precisions.shape[1])
        return np.where(i == j, -0.5, -1.0) * precisions[:, i, j]

    def linear(self, precisions, m):
        return np.einsum("kij,kj->ki", precisions, m)

    def variances(self, covariances, K, d):
        return np.diagonal(covariances, axis1=1, axis2=2)

    def magnitudes(self, precisions, t):
        return np.einsum("ki,kij,kj->k", t, np.abs(precisions), t)

    def scatter(self, sums, d):
        i, j = pairs(d)
        scatter = np.empty((sums[0].shape[1], d, d))
        scatter[:, i, j] = scatter[:, j, i] = sums[0][1 + d :].T
        return scatter


class TiedProducts(AbstractProducts):
    """One feature, the quadratic form, which all components share."""

    def n_features(self, d):
        return 2 + d

    def fill(self, F, d, factors):
        y = factors.T @ F[1 : 1 + d]  # (d, b)
        np.einsum("ib,ib->b", y, y, out=F[1 + d])

    def quadratic(self, precisions, K):
        return np.full((K, 1), -0.5)

    def linear(self, precisions, m):
        return m @ precisions

    def variances(self, covariances, K, d):
        return np.tile(np.diagonal(covariances), (K, 1))

    def magnitudes(self, precisions, t):
        # All components share one matrix, which has the error of the worst of them.
        worst = np.einsum("ki,ij,kj->k", t, np.abs(precisions), t).max()
        return np.full(t.shape[0], worst)

    def zeros(self, K, d):
        return [*super().zeros(K, d), np.zeros((d, d))]

    def add(self, sums, F, r, d):
        super().add(sums, F, r, d)
        z = F[1 : 1 + d]
        sums[1] += (z * r.sum(axis=0)) @ z.T

    def scatter(self, sums, d):
        return sums[1]

    def merged(self, scatter, components, part):
        return scatter + part


class DiagonalProducts(AbstractProducts):
    """Features `z_j^2`."""

    def n_features(self, d):
        return 1 + 2 * d

    def room(self, d, b):
        # The memory layout of the rows, so that no transposition is needed.
        return np.empty((b, self.n_features(d))).T

    def add(self, sums, F, r, d):
        sums[0] += F @ r.T

    def fill(self, F, d, factors):
        np.square(F[1 : 1 + d], out=F[1 + d :])

    def quadratic(self, precisions, K):
        return -0.5 * precisions

    def linear(self, precisions, m):
        return precisions * m

    def variances(self, covariances, K, d):
        return covariances

    def magnitudes(self, precisions, t):
        return (precisions * t**2).sum(axis=1)

    def scatter(self, sums, d):
        return sums[0][1 + d :].T


class SphericalProducts(AbstractProducts):
    """One feature, the squared norm."""

    def n_features(self, d):
        return 2 + d

    def fill(self, F, d, factors):
        np.einsum("ib,ib->b", F[1 : 1 + d], F[1 : 1 + d], out=F[1 + d])

    def quadratic(self, precisions, K):
        return -0.5 * precisions[:, None]

    def linear(self, precisions, m):
        return precisions[:, None] * m

    def variances(self, covariances, K, d):
        return np.tile(covariances[:, None], d)

    def magnitudes(self, precisions, t):
        return precisions * (t**2).sum(axis=1)

    def scatter(self, sums, d):
        return sums[0][1 + d]


_PRODUCTS = {
    Full: FullProducts(),
    Tied: TiedProducts(),
    Diagonal: DiagonalProducts(),
    Spherical: SphericalProducts(),
}

# With more features than this, products are limited by memory bandwidth.
_MOST_FEATURES = 2**13


def products_of(covariance):
    """Return the `AbstractProducts` of a covariance type, or None."""
    return _PRODUCTS.get(type(covariance))


def pays(products, d):
    """Return whether products exist and their features are few enough to be cached."""
    return products is not None and products.n_features(d) <= _MOST_FEATURES
