r"""One pass over rows with missing entries under a mixture.

With :math:`o` the observed features of a row and :math:`m` the missing ones, component
`k` completes the row by its conditional mean,

.. math:: \hat x_m = \mu_m + B (x_o - \mu_o), \qquad
          B = -\Lambda_{mm}^{-1} \Lambda_{mo} = \Sigma_{mo} \Sigma_{oo}^{-1},
          \qquad C = \Lambda_{mm}^{-1} = \Sigma_{mm} - B \Sigma_{om}.

**E-step.** The quadratic form of the completed row is the quadratic form of its
observed entries,

.. math:: \log p_k(x_o) = -\tfrac{1}{2} |U_k^\top (\hat x - \mu)|^2 + \log |U_k|
          - \tfrac{1}{2} \log |\Lambda_{mm}| - \tfrac{|o|}{2} \log 2 \pi,

so that one product over all rows of a chunk serves every pattern. The completed row
minimises the quadratic form: errors of `B` enter squared.

**M-step** (Ghahramani and Jordan, 1994, Supervised learning from incomplete data via an
EM approach). The expected moments of a row are the moments of its completed row plus
`C`, which depends on the pattern and the component alone.

All moments are about the means, so that nothing cancels. If all components share one
covariance, they also share `B`. Where products are accurate, one completion of the rows
then serves all components (`Shared`).
"""

from abc import ABC, abstractmethod
from functools import reduce
from operator import add

import numpy as np

from skgen._threads import in_parallel
from skgen._whitening import DiagonalWhitening
from skgen.mixture._backend import DOUBLE, LEAST_LOSS
from skgen.mixture._covariance import Parameters
from skgen.mixture._pass import Statistics, Sums, losses, normalise
from skgen.mixture._patterns import IncompleteRows, conditionals, summed

# Minimum work, rows times components times squared features, for which threads start.
_WORK_FOR_THREADS = 2e7

# Mean negative log-density of a standard normal feature, by which rows with different
# numbers of observed entries are compared.
_ENTROPY = 0.5 * np.log(2 * np.pi * np.e)


# -- coordinates -----------------------------------------------------------------------


def features_of(whitening):
    """Return coordinates that keep features apart, and the map to whitened ones.

    A row in whitened coordinates is `matrix` (d, d) times the row in the coordinates;
    None if they are the same.
    """
    if isinstance(whitening, DiagonalWhitening):
        return whitening, None
    scale = np.sqrt((whitening.factor**2).sum(axis=1))
    never = np.zeros(scale.size, dtype=bool)
    features = DiagonalWhitening(whitening.mean, scale, never)
    return features, whitening.inverse * scale


# -- the pass --------------------------------------------------------------------------


class IncompletePass:
    """One pass, in coordinates that keep features apart; pickled and sent to workers.

    `matrix` is from `features_of`; the other arguments are of `Pass`.
    """

    def __init__(self, parameters, family, matrix, loss=LEAST_LOSS, moved=None):
        self.covariance, self.matrix = covariance, matrix = family.covariance, matrix
        self.given = parameters
        self.parameters = p = _in_features(parameters, matrix, covariance.dense)
        self.precisions = covariance.precisions(p.factors)
        with np.errstate(divide="ignore"):  # log(0) = -inf
            self.constants = np.log(parameters.weights)
        self.whitened_origins, self.origins = parameters.means, p.means
        # By products about 0, or by differences to the means.
        with np.errstate(all="ignore"):
            lost = losses(p, covariance, self.precisions, np.zeros(p.means.shape[1]))
        self.by_products = lost <= min(loss, DOUBLE.far)
        if not covariance.dense:
            self.origins = np.where(self.by_products[:, None], 0.0, p.means)
        self.moved = np.zeros(len(p.means), dtype=bool)
        if moved is not None:
            self.moved, origins = moved
            if matrix is not None:
                origins = np.linalg.solve(matrix, origins.T).T
            self.origins = np.where(self.moved[:, None], origins, self.origins)
            self.whitened_origins = np.where(
                self.moved[:, None], moved[1], self.whitened_origins
            )
        if not covariance.dense:
            self.whitened_origins = self.origins

    # The second moment of all rows depends on the mixture.
    near = np.empty(0, dtype=np.intp)

    def sums(self, X, sample_weight):
        """Return the `Sums` of rows (n, d) with weights (n,)."""
        return self.sums_of(IncompleteRows(X, sample_weight))

    def sums_of(self, rows, given=None):
        """Return the `Sums` of `IncompleteRows`; `given` is of `Pass.sums_of`."""
        K, d = self.origins.shape

        def collect(chunk):
            part = self._completion(self, rows, chunk)
            return self._collected(part, rows, chunk, given)

        worth_it = rows.sample_weight.size * K * d * d > _WORK_FOR_THREADS
        chunks = rows.chunks(K, self._n_matrices)
        found = in_parallel(collect, chunks, worth_it=worth_it)
        second = np.zeros_like(self.precisions)
        moments = [np.zeros(K), np.zeros((K, d)), second, second]
        none = Sums(moments, 0.0, rows.empty_weight, np.inf, np.zeros(d), 0.0)
        return reduce(add, found, none)

    @property
    def _n_matrices(self):
        """Return the number of covariance matrices."""
        return len(self.precisions) if self.covariance.dense else 0

    @property
    def _completion(self):
        """Return the class of a chunk."""
        if not self.covariance.dense:
            return Separate
        one = self.covariance.shared and self.by_products.all()
        return Shared if one and not self.moved.any() else Dense

    def _collected(self, chunk_rows, rows, chunk, given):
        """Return the `Sums` of a chunk."""
        w, d = rows.sample_weight[chunk.rows], self.origins.shape[1]
        n_observed = np.repeat(d - chunk.n_missing, chunk.lengths)  # (c,)
        if given is None:
            r = chunk_rows.log_densities()  # (K, c)
            r += self.constants[:, None] - 0.5 * np.log(2 * np.pi) * n_observed
            ((log_density,),), (norm,) = normalise(np, r[None])
            r *= w / norm
        else:
            r = given(chunk.rows).T * w
            log_density = np.zeros_like(w)
        score = log_density + _ENTROPY * n_observed
        worst = score.argmin()
        row = chunk_rows.completed(int(r[:, worst].argmax()), worst)
        return Sums(
            chunk_rows.moments(r),
            w @ log_density,
            w.sum(),
            float(score[worst]),
            row if self.matrix is None else self.matrix @ row,
            w[worst],
        )

    def filled(self, rows):
        """Return whitened rows (n, d) completed by the first component."""
        filled = np.empty(rows.columns.shape[::-1])
        for chunk in rows.chunks(1, self._n_matrices):
            part = self._completion(self, rows, chunk)
            filled[chunk.rows] = part.completed(0, slice(None)).T
        return filled if self.matrix is None else filled @ self.matrix.T

    def statistics(self, sums):
        """Return the `Statistics` of the total `Sums`."""
        counts, first, scatter, conditional = sums.moments
        scatter = scatter + conditional
        if self.matrix is not None:
            first = first @ self.matrix.T
            scatter = self.matrix @ scatter @ self.matrix.T
            conditional = self.matrix @ conditional @ self.matrix.T
        return Statistics(
            counts,
            first,
            scatter,
            self.whitened_origins,
            sums.log_likelihood / sums.weight,
            sums.lowest_row,
            sums.lowest_weight / sums.weight,
            conditional,
        )


def determined(statistics, parameters, family):
    """Return whether rows determine the variances of each component: (J,).

    A component of fewer complete rows than features has a singular covariance.
    `statistics` are statistics of an `IncompletePass` under the `parameters`.
    """
    covariance, counts = family.covariance, statistics.counts
    conditional = np.where(family.degenerate, 0.0, statistics.conditional)
    conditional = np.where(family.degenerate[:, None], 0.0, conditional)
    counts = counts.sum(keepdims=True) if covariance.shared else counts
    enough = np.ones(counts.size, dtype=bool)
    for block in covariance.blocks or [range(family.degenerate.size)]:
        inside = np.ix_(range(counts.size), block, block)
        rows = least_rows(counts, conditional[inside], parameters.factors[inside])
        enough &= (rows >= len(block)) | (counts == 0)
    return enough


def least_rows(counts, conditional, factors):
    """Return the numbers of rows that determine a variance, in the worst direction.

    `counts` (J,) are the rows, `conditional` (J, d, d) the sums of their conditional
    covariances `C`, and `factors` (J, d, d) of the precisions: (J,).
    """
    # In a direction v, a row counts as its fraction of information about the variance,
    # 1 - v^T C v / v^T S v, with the covariance S of the component.
    missing = np.linalg.eigvalsh(factors.mT @ conditional @ factors)
    return counts - missing[:, -1]


def _in_features(parameters, matrix, dense):
    """Return whitened parameters in coordinates that keep features apart."""
    if matrix is None:
        return parameters
    root = np.linalg.inv(matrix)
    return Parameters(
        parameters.weights,
        parameters.means @ root.T,
        root @ parameters.covariances @ root.T,
        matrix.T @ parameters.factors,
    )


class AbstractDense(ABC):
    """A chunk of rows under components with covariance matrices; abstract.

    Subclasses define `complete`, `log_densities`, `completed` and `moments`.
    """

    def __init__(self, pass_, rows, chunk):
        self.of, self.chunk, self.z = pass_, chunk, rows.columns[:, chunk.rows]
        self.conditional, p = [], pass_.parameters
        half = np.zeros((chunk.lengths.size, len(p.factors)))
        log_det = np.linalg.slogdet(p.factors)[1]  # (J,)
        for group in chunk.groups:
            m, o = group.missing.shape[1], group.observed.shape[1]
            half[group.pieces] = log_det if m < o else 0.0
            if m > 0:
                B, C, logs = conditionals(group, pass_.precisions, p.covariances)
                half[group.pieces] += logs
                self.conditional.append((group, B, C))
        self.half = half.T  # (J, pieces) log-determinants of the observed features
        self.complete()

    @abstractmethod
    def complete(self):
        """Complete the rows."""

    @abstractmethod
    def log_densities(self):
        """Return log-densities (K, c) without weights and normalisers."""

    @abstractmethod
    def completed(self, k, rows):
        """Return rows completed by a component: (d, ...)."""

    @abstractmethod
    def moments(self, r):
        """Return counts (K,), first moments (K, d), scatter and C, both (J, d, d)."""

    def by_pieces(self, r):
        """Return the sums of responsibilities (K, c) of each piece: (K, pieces)."""
        return np.add.reduceat(r, self.chunk.starts, axis=1)

    def conditional_moments(self, counts):
        """Return the sums of `C` of rows with counts (K, pieces): (J, d, d)."""
        sums = np.zeros_like(self.of.precisions)
        if len(sums) == 1:
            counts = counts.sum(axis=0, keepdims=True)
        for group, B, C in self.conditional:
            S, of_group = self.of.parameters.covariances, counts[:, group.pieces]
            sums += summed(group, B, C, S, of_group)
        return sums


class Dense(AbstractDense):
    """A chunk of rows, completed by each component, about its mean."""

    def complete(self):
        means = self.of.parameters.means
        self.D = self.z - means[:, :, None]  # (K, d, c)
        for group, B, _ in self.conditional:
            fill(self.D, self.z, group, B, offsets_of(group, B, means))

    def log_densities(self):
        y = self.of.parameters.factors.swapaxes(1, 2) @ self.D  # (K, d, c)
        squares = np.einsum("kdc,kdc->kc", y, y)
        squares *= -0.5
        squares += np.repeat(self.half, self.chunk.lengths, axis=1)
        return squares

    def completed(self, k, rows):
        return (self.D[k, :, rows].T + self.of.parameters.means[k]).T

    def moments(self, r):
        D, means, origins = self.D, self.of.parameters.means, self.of.origins
        for k in np.flatnonzero(self.of.moved):
            D[k] += (means - origins)[k, :, None]
        first = (D @ r[:, :, None])[:, :, 0]
        D *= np.sqrt(r)[:, None]
        scatter = np.stack([part @ part.T for part in D])  # BLAS computes one triangle
        if self.of.covariance.shared:
            scatter = scatter.sum(axis=0, keepdims=True)
        conditional = self.conditional_moments(self.by_pieces(r))
        return [r.sum(axis=1), first, scatter, conditional]


class Shared(AbstractDense):
    """A chunk of rows under components with one covariance, by products."""

    # With e the rows and a_k the means, both completed linearly, a completed row minus
    # the mean of its component is e - a_k. The missing entries of the precision times e
    # are 0, so that its product with a_k is its product with the mean.

    def complete(self):
        means = self.of.parameters.means
        self.e = self.z[None].copy()  # (1, d, c)
        self.a = np.tile(means, (self.chunk.lengths.size, 1, 1))  # (pieces, K, d)
        for group, B, _ in self.conditional:
            fill(self.e, self.z, group, B, 0.0)
            offsets = offsets_of(group, B, means)[..., 0]  # (P, K, m)
            missing = group.missing[:, None]
            np.put_along_axis(self.a[group.pieces], missing, offsets, axis=2)

    def log_densities(self):
        (e,), p = self.e, self.of.parameters
        linear = self.of.precisions[0] @ e  # (d, c)
        values = p.means @ linear
        values -= 0.5 * np.einsum("dc,dc->c", e, linear)
        squares = np.einsum("pkd,pkd->kp", self.a @ self.of.precisions[0], self.a)
        values += np.repeat(self.half - 0.5 * squares, self.chunk.lengths, axis=1)
        return values

    def completed(self, k, rows):
        piece = np.repeat(np.arange(self.chunk.lengths.size), self.chunk.lengths)[rows]
        return (self.e[0, :, rows].T + self.of.parameters.means[k] - self.a[piece, k]).T

    def moments(self, r):
        (e,), a, counts = self.e, self.a, self.by_pieces(r)
        first = r @ e.T - np.einsum("kp,pkd->kd", counts, a)
        # Means of the row's components, completed linearly, times the row's weight.
        mean = self.of.parameters.means.T @ r  # (d, c)
        completed = mean[None].copy()
        for group, B, _ in self.conditional:
            fill(completed, mean, group, B, 0.0)
        half = (0.5 * r.sum(axis=0) * e - completed[0]) @ e.T
        scatter = half + half.T
        rows = (np.sqrt(counts.T)[:, :, None] * a).reshape(-1, len(e))  # (pieces K, d)
        scatter = (scatter + rows.T @ rows)[None]
        conditional = self.conditional_moments(counts)
        return [r.sum(axis=1), first, scatter, conditional]


def offsets_of(group, B, means):
    """Return `B` (P, J, m, o) times the observed features of means: (P, K, m, 1)."""
    return B @ means[:, group.observed.T].transpose(2, 0, 1)[..., None]


def fill(rows, z, group, B, offsets):
    """Complete a group in rows (K, d, c): `B` times the observed entries of `z` (d, c).

    `B` is (P, J, m, o), with J = 1 or K; `offsets` (P, K, m, 1) are subtracted.
    """
    K, d, _ = rows.shape
    for batch in group.batches:
        i, j = group.missing[batch.pieces].T, group.observed[batch.pieces].T
        few, piece = B[batch.pieces], np.arange(i.shape[1])
        P, J, m, o = few.shape
        values = z[:, batch.rows].reshape(d, P, batch.length)[j, piece]  # (o, P, L)
        found = few.reshape(P, J * m, o) @ values.swapaxes(0, 1)  # (P, J m, L)
        found = found.reshape(P, J, m, -1)
        found = found - (offsets[batch.pieces] if np.ndim(offsets) else offsets)
        part = rows[:, :, batch.rows].reshape(K, d, P, batch.length)
        part[:, i, piece] = found.transpose(1, 2, 0, 3)


class Separate:
    """A chunk of rows under components whose features are independent."""

    def __init__(self, pass_, rows, chunk):
        self.of, self.z = pass_, rows.columns[:, chunk.rows]  # (d, c)
        observed = ~rows.missing[chunk.patterns].T  # (d, pieces)
        self.observed = np.repeat(observed, chunk.lengths, axis=1).astype(np.float64)
        self.features = np.concatenate([self.observed, self.z, self.z**2])  # (3 d, c)

    def log_densities(self):
        """Return log-densities (K, c) without weights and normalisers."""
        p, precisions, near = (
            self.of.parameters,
            self.of.precisions,
            self.of.by_products,
        )
        values = np.empty((len(p.means), self.z.shape[1]))
        linear, logs = precisions * p.means, np.log(p.factors)
        parts = logs - 0.5 * linear * p.means, linear, -0.5 * precisions
        values[near] = np.hstack(parts)[near] @ self.features
        for k in np.flatnonzero(~near):
            y = self._difference(p.means[k]) * p.factors[k][:, None]
            values[k] = logs[k] @ self.observed - 0.5 * (y**2).sum(axis=0)
        return values

    def _difference(self, point):
        """Return rows minus a point (d,), and 0 where they are missing: (d, c)."""
        return self.z - self.observed * point[:, None]

    def completed(self, k, rows):
        """Return rows completed by a component: (d, ...)."""
        missing = 1.0 - self.observed[:, rows].T  # (..., d)
        return (self.z[:, rows].T + missing * self.of.parameters.means[k]).T

    def moments(self, r):
        """Return counts (K,), first moments, scatter and C, all (K, d)."""
        p, origins = self.of.parameters, self.of.origins
        counts = r.sum(axis=1)
        observed, first, scatter = np.split(r @ self.features.T, 3, axis=1)
        for k in np.flatnonzero(~self.of.by_products | self.of.moved):
            D = self._difference(origins[k])
            first[k], scatter[k] = D @ r[k], D**2 @ r[k]
        missing = np.maximum(counts[:, None] - observed, 0.0)  # (K, d)
        shift = p.means - origins
        first += missing * shift
        scatter += missing * shift**2
        return [counts, first, scatter, missing * p.covariances]
