r"""Rows with NaN, answered together by a kernel density, whatever their patterns.

In coordinates :math:`u` in which the kernel is the unit normal density, the observed
features of a row are :math:`Q^\top u = y`, with orthonormal columns of :math:`Q`. The
exponent of a kernel is linear in products of the coordinates of its centre,

.. math:: -\tfrac{1}{2} |Q^\top u_i - y|^2 =
          -\tfrac{1}{2} \langle Q Q^\top, u_i u_i^\top \rangle + (Q y)^\top u_i
          - \tfrac{1}{2} |y|^2,

so that one matrix product serves rows of all patterns. Given the observed features, the
kernel is normal around :math:`u_i + Q (y - Q^\top u_i)`, with the covariance
:math:`I - Q Q^\top`.
"""

import numpy as np

from skgen._parts import AbstractPart, incomplete_indices, patterns
from skgen._threads import in_parallel
from skgen.kde._incomplete import by_count
from skgen.kde._kernel_sum import PAIRS_FOR_THREADS, PRODUCT_ERROR

# Patterns with fewer rows are answered together, up to this number of features: to
# prepare the sums of one pattern takes as long as about this number of rows.
_FEW_ROWS, _MOST_FEATURES = 32, 48

# Queries and centres at a time.
_QUERIES, _CENTRES = 128, 1024


def divided(model, X):
    """Return a part, and the rows of X (n, d) with NaN that it answers, and others.

    Rows are indices (m,). Without rows to answer, None stands for the part.
    """
    incomplete = incomplete_indices(X)
    none = incomplete[:0]
    if model._bounds is not None or X.shape[1] > _MOST_FEATURES:
        return None, none, incomplete
    few = [
        rows
        for rows, observed in patterns(X[incomplete])
        if rows.size < _FEW_ROWS and observed.any()
    ]
    if not few:
        return None, none, incomplete
    part, few = KernelsTogether(model), np.sort(np.concatenate(few))
    few = few[part.is_accurate(X[incomplete[few]])]
    return part, incomplete[few], np.delete(incomplete, few)


class KernelsTogether(AbstractPart):
    """The observed features of rows (n, d) of any pattern, and the features with NaN.

    Answers for missing features are in the order of the rows: (m,) for m of them.
    """

    def __init__(self, model):
        whitening, X = model._kernel.whitening, model.X_train_.astype(np.float64)
        self.log_weights, self.mean = model._log_of_weights, model.weights_ @ X
        every = np.arange(X.shape[1])
        if model._kernel.is_correlated:
            self.root, self.pairs = whitening.factor, np.triu_indices(X.shape[1])
            self.centres = (X - self.mean) @ whitening.inverse.T  # (n, d)
        else:
            self.root, self.pairs = np.diag(whitening.scale), (every, every)
            self.centres = (X - self.mean) / whitening.scale
        self.error = min(model._options["rtol"] / 8, PRODUCT_ERROR)

    def is_accurate(self, X):
        """Return whether products lose few digits of rows (n, d) with NaN: (n,)."""
        squares = np.empty(len(X))
        for rows, _, y, _ in self._projections(X):
            squares[rows] = (y**2).sum(axis=1)
        squares += (self.centres**2).sum(axis=1).max()
        return squares * np.finfo(np.float64).eps < self.error

    def log_density(self, X):
        return self._sums(X)[0]

    def posterior_mean(self, X):
        return self.mean + self._sums(X, with_mean=True)[1] @ self.root.T

    def conditional_mean(self, X):
        u = self._sums(X, with_mean=True)[1]
        for rows, Q, y, _ in self._projections(X):
            u[rows] += _along(Q, y - _across(Q, u[rows]))
        return (self.mean + u @ self.root.T)[np.isnan(X)]

    def draw(self, X, n_samples, rng):
        u = np.empty((n_samples, *X.shape))
        for start in range(0, len(X), _QUERIES):
            coefficients, _ = self._coefficients(X[start : start + _QUERIES])
            p = self._exponents(coefficients, slice(None))
            p -= p.max(axis=1)[:, None]
            limits = np.cumsum(np.exp(p, out=p), axis=1)  # (r, n)
            chances = rng.random_sample((len(p), n_samples)) * limits[:, -1:]
            for r, (limit, chance) in enumerate(zip(limits, chances, strict=True)):
                kernels = np.searchsorted(limit, chance, "right")
                u[:, start + r] = self.centres[kernels.clip(max=limit.size - 1)]
        u += rng.standard_normal(u.shape)
        for rows, Q, y, _ in self._projections(X):
            u[:, rows] += _along(Q, y - _across(Q, u[:, rows]))
        return (self.mean + u @ self.root.T)[:, np.isnan(X)]

    def _projections(self, X):
        """Yield `Q` (r, d, o), `y` (r, o) and log-normalisers (r,) of rows (n, d).

        Each comes with the indices of its rows (r,), which have equally many NaN.
        """
        for rows, o, _ in by_count(X):
            Q, R = np.linalg.qr(self.root[o].swapaxes(1, 2))  # (r, d, o), (r, o, o)
            apart = X[rows[:, None], o] - self.mean[o]
            y = np.linalg.solve(R.swapaxes(1, 2), apart[:, :, None])[:, :, 0]
            logs = np.log(np.abs(np.diagonal(R, axis1=1, axis2=2))).sum(axis=1)
            yield rows, Q, y, -logs - 0.5 * o.shape[1] * np.log(2 * np.pi)

    def _coefficients(self, X):
        """Return coefficients (r, f) of exponents of rows (r, d), and rests (r,)."""
        (i, j), rest = self.pairs, np.empty(len(X))
        coefficients = np.empty((len(X), i.size + X.shape[1]))
        for rows, Q, y, normaliser in self._projections(X):
            square = (Q @ Q.swapaxes(1, 2))[:, i, j]  # (r, f - d)
            coefficients[rows, : i.size] = square * np.where(i == j, -0.5, -1.0)
            coefficients[rows, i.size :] = _along(Q, y)
            rest[rows] = normaliser - 0.5 * (y**2).sum(axis=1)
        return coefficients, rest

    def _exponents(self, coefficients, some):
        """Return exponents without rests of rows (r, f) and some centres: (r, n)."""
        u, (i, j) = self.centres[some], self.pairs
        features = np.hstack([u[:, i] * u[:, j], u])  # (n, f)
        return coefficients @ features.T + self.log_weights[some]

    def _sums(self, X, *, with_mean=False):
        """Return log-densities (n,) and means of the centres (n, d) of rows (n, d)."""
        log_density, means = np.empty(len(X)), np.zeros(X.shape)

        def answer(rows):
            coefficients, rest = self._coefficients(X[rows])
            top, total = np.full(len(rest), -np.inf), np.zeros(len(rest))
            for start in range(0, len(self.centres), _CENTRES):
                some = slice(start, start + _CENTRES)
                a = self._exponents(coefficients, some)
                new_top = np.maximum(top, a.max(axis=1))
                shrink = np.exp(top - new_top)
                a -= new_top[:, None]
                np.exp(a, out=a)
                total, top = total * shrink + a.sum(axis=1), new_top
                if with_mean:
                    means[rows] *= shrink[:, None]
                    means[rows] += a @ self.centres[some]
            log_density[rows] = rest + top + np.log(total)
            means[rows] /= total[:, None]

        groups = [slice(i, i + _QUERIES) for i in range(0, len(X), _QUERIES)]
        n_pairs = len(X) * len(self.centres)
        in_parallel(answer, groups, worth_it=n_pairs > PAIRS_FOR_THREADS)
        return log_density, means


def _along(Q, y):
    """Return Q y: (..., r, d)."""
    return np.einsum("rdo,...ro->...rd", Q, y)


def _across(Q, u):
    """Return Q^T u: (..., r, o)."""
    return np.einsum("rdo,...rd->...ro", Q, u)
