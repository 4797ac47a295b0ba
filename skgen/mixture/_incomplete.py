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

Rows are sorted by their pattern of missing entries. Patterns with equally many missing
entries form a group, whose small matrices are inverted together: on the side of the
missing or of the observed features, whichever is smaller. All moments are about the
means, so that nothing cancels.
"""

from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np

from skgen._threads import in_parallel
from skgen._whitening import DiagonalWhitening
from skgen.mixture._backend import DOUBLE, LEAST_LOSS
from skgen.mixture._covariance import Parameters
from skgen.mixture._pass import Statistics, Sums, losses, normalise

# Bytes of the completed rows of a chunk, to stay in the cache, and its minimum and
# maximum number of rows.
_CHUNK_BYTES, _LEAST_ROWS, _MOST_ROWS = 2**20, 64, 4096

# Minimum work, rows times components times squared features, for which threads start.
_WORK_FOR_THREADS = 2e7

# Maximum size of matrices for which elimination over all matrices at once is faster
# than LAPACK on one after another.
_MOST_ELIMINATED = 12

# Mean negative log-density of a standard normal feature, by which rows with different
# numbers of observed entries are compared.
_ENTROPY = 0.5 * np.log(2 * np.pi * np.e)


# -- rows ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batch:
    """Consecutive rows of a chunk: `P` pieces of patterns with `length` rows each."""

    pieces: slice  # of the group
    rows: slice  # of the chunk
    length: int


@dataclass(frozen=True)
class Group:
    """Pieces of patterns of a chunk with equally many missing entries."""

    pieces: slice  # of the chunk
    missing: np.ndarray  # (P, m)
    observed: np.ndarray  # (P, o)
    batches: list


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows, in pieces of equal patterns."""

    rows: slice
    starts: np.ndarray  # (pieces,) first rows, from 0
    lengths: np.ndarray  # (pieces,)
    n_missing: np.ndarray  # (pieces,)
    patterns: np.ndarray  # (pieces,)
    groups: list


class IncompleteRows:
    """Rows (n, d), NaN where they are not observed, sorted by pattern.

    Rows without any observed entry are left out, except for their weight.
    """

    def __init__(self, X, sample_weight):
        missing = np.isnan(X)
        empty = missing.all(axis=1)
        self.empty_weight = sample_weight[empty].sum()
        if empty.any():
            X, missing = X[~empty], missing[~empty]
            sample_weight = sample_weight[~empty]
        order, self.starts, self.missing = sorted_by_pattern(missing)  # (P,), (P, d)
        X, missing = X[order], missing[order]
        X[missing] = 0.0
        self.columns = np.ascontiguousarray(X.T)  # (d, n)
        self.sample_weight = sample_weight[order]
        self._chunks = None, []

    def chunks(self, K):
        """Return the chunks of a pass with K components."""
        d, n = self.columns.shape
        size = min(max(_CHUNK_BYTES // (8 * K * d), _LEAST_ROWS), _MOST_ROWS)
        if self._chunks[0] != size:
            self._chunks = size, list(self._divided(size, n))
        return self._chunks[1]

    def _divided(self, size, n):
        starts = np.union1d(self.starts, np.arange(0, n, size))
        lengths = np.diff(np.append(starts, n))
        patterns = np.searchsorted(self.starts, starts, side="right") - 1
        n_missing = self.missing.sum(axis=1)[patterns]
        order = np.argsort(self.missing, axis=1, kind="stable")  # observed ones first
        bounds = np.searchsorted(starts, np.arange(0, n, size))
        for first, last in zip(bounds, [*bounds[1:], starts.size], strict=True):
            pieces, start = slice(first, last), starts[first]
            m, length = n_missing[pieces], lengths[pieces]
            own, rows = patterns[pieces], starts[pieces] - start
            groups = [
                _group(part, m[part.start], order[own[part]], rows, length)
                for part in parts(m)
            ]
            end = start + length.sum()
            yield Chunk(slice(start, end), rows, length, m, own, groups)


def sorted_by_pattern(missing):
    """Return an order of rows, and the first row and the features of each pattern.

    `missing` (n, d) marks the missing entries. Patterns are sorted by the number of
    missing entries, then of rows; rows of one pattern keep their order.
    """
    bits = np.packbits(missing, axis=1)
    bits = np.pad(bits, [(0, 0), (0, -bits.shape[1] % 8)]).view(">u8")  # (n, words)
    order = np.lexsort(bits.T[::-1].astype(np.uint64))
    bits = bits[order]
    differs = np.append(True, (bits[1:] != bits[:-1]).any(axis=1))
    starts = np.flatnonzero(differs)
    patterns, lengths = missing[order[starts]], np.diff(np.append(starts, len(bits)))
    rank = np.lexsort((lengths, patterns.sum(axis=1)))
    ends = np.cumsum(lengths[rank])
    within = np.arange(len(bits)) - np.repeat(ends - lengths[rank], lengths[rank])
    order = order[np.repeat(starts[rank], lengths[rank]) + within]
    return order, ends - lengths[rank], patterns[rank]


def parts(values):
    """Return the slices of equal consecutive values (n,)."""
    ends = np.append(np.flatnonzero(values[1:] != values[:-1]) + 1, values.size)
    return [slice(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True)]


def _group(pieces, m, order, rows, lengths):
    o = order.shape[1] - m
    batches, first = [], pieces.start
    for part in parts(lengths[pieces]):
        length, start = lengths[first + part.start], rows[first + part.start]
        stop = start + length * (part.stop - part.start)
        batches.append(Batch(part, slice(start, stop), length))
    return Group(pieces, order[:, o:], order[:, :o], batches)


# -- conditionals ----------------------------------------------------------------------


def conditionals(group, precisions, covariances):
    r"""Return `B` (P, J, m, o), `C` (P, J, m, m), and half log-determinants (P, J).

    The last are :math:`-\tfrac{1}{2} \log |\Lambda_{mm}|` if `m` is smaller than `o`,
    else :math:`-\tfrac{1}{2} \log |\Sigma_{oo}|`.
    """
    i, j = group.missing, group.observed
    m, o = i.shape[1], j.shape[1]

    def block(matrices, a, b):  # (P, J, a, b)
        return matrices[:, a[:, :, None], b[:, None]].swapaxes(0, 1)

    if m < o:
        C, logs = inverses(block(precisions, i, i))
        return -C @ block(precisions, i, j), C, -0.5 * logs
    inverse, logs = inverses(block(covariances, j, j))
    cross = block(covariances, i, j)
    B = cross @ inverse
    return B, block(covariances, i, i) - B @ cross.swapaxes(2, 3), -0.5 * logs


def inverses(matrices):
    """Return the inverses and log-determinants of positive definite (..., m, m)."""
    m = matrices.shape[-1]
    if m > _MOST_ELIMINATED:
        logs = np.log(np.diagonal(np.linalg.cholesky(matrices), axis1=-2, axis2=-1))
        return np.linalg.inv(matrices), 2 * logs.sum(axis=-1)
    # Gauss-Jordan elimination (the sweep operator: Goodnight, 1979).
    rest = np.moveaxis(matrices, (-2, -1), (0, 1)).copy()  # (m, m, ...)
    logs = np.zeros(matrices.shape[:-2])
    for j in range(m):
        pivot = rest[j, j].copy()
        logs += np.log(pivot)
        row = rest[j] / pivot  # (m, ...)
        rest -= rest[:, j, None] * row
        rest[j] = rest[:, j] = row
        rest[j, j] = -1 / pivot
    return -np.moveaxis(rest, (0, 1), (-2, -1)), logs


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
        if not covariance.dense:
            # By products about 0, or by differences to the means.
            with np.errstate(all="ignore"):
                lost = losses(
                    p, covariance, self.precisions, np.zeros(p.means.shape[1])
                )
            self.by_products = lost <= min(loss, DOUBLE.far)
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
        completion = Dense if self.covariance.dense else Separate

        def collect(chunk):
            return self._collected(completion(self, rows, chunk), rows, chunk, given)

        worth_it = rows.sample_weight.size * K * d * d > _WORK_FOR_THREADS
        found = in_parallel(collect, rows.chunks(K), worth_it=worth_it)
        moments = np.zeros(K), np.zeros((K, d)), np.zeros_like(self.precisions)
        none = Sums(list(moments), 0.0, rows.empty_weight, np.inf, np.zeros(d), 0.0)
        return reduce(add, found, none)

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
        for chunk in rows.chunks(1):
            part = (Dense if self.covariance.dense else Separate)(self, rows, chunk)
            filled[chunk.rows] = part.completed(0, slice(None)).T
        return filled if self.matrix is None else filled @ self.matrix.T

    def statistics(self, sums):
        """Return the `Statistics` of the total `Sums`."""
        counts, first, scatter = sums.moments
        if self.matrix is not None:
            first = first @ self.matrix.T
            scatter = self.matrix @ scatter @ self.matrix.T
        return Statistics(
            counts,
            first,
            scatter,
            self.whitened_origins,
            sums.log_likelihood / sums.weight,
            sums.lowest_row,
            sums.lowest_weight / sums.weight,
        )


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


class Dense:
    """A chunk of rows under components with covariance matrices."""

    def __init__(self, pass_, rows, chunk):
        self.of, self.chunk = pass_, chunk
        z, p = rows.columns[:, chunk.rows], pass_.parameters  # (d, c)
        # Differences of the completed rows from the means.
        self.D = z - p.means[:, :, None]  # (K, d, c)
        half = np.zeros((chunk.lengths.size, len(p.factors)))
        self.conditional = []
        log_det = np.linalg.slogdet(p.factors)[1]  # (J,)
        for group in chunk.groups:
            m, o = group.missing.shape[1], group.observed.shape[1]
            half[group.pieces] = log_det if m < o else 0.0
            if m == 0:
                continue
            B, C, logs = conditionals(group, pass_.precisions, p.covariances)
            half[group.pieces] += logs
            self.conditional.append((group, C))
            for batch in group.batches:
                self._complete(group, batch, B[batch.pieces], z)
        self.half = half.T

    def _complete(self, group, batch, B, z):
        """Fill in the missing entries of a batch in `D`."""
        means, (P, J, m, o) = self.of.parameters.means, B.shape
        K, d = means.shape
        i, j = group.missing[batch.pieces].T, group.observed[batch.pieces].T
        piece = np.arange(P)
        values = z[:, batch.rows].reshape(d, P, batch.length)[j, piece]  # (o, P, L)
        offsets = B @ means[:, j].transpose(2, 0, 1)[..., None]  # (P, K, m, 1)
        found = B.reshape(P, J * m, o) @ values.swapaxes(0, 1)  # (P, J m, L)
        found = found.reshape(P, J, m, -1) - offsets
        D = self.D[:, :, batch.rows].reshape(K, d, P, batch.length)
        D[:, i, piece] = found.transpose(1, 2, 0, 3)

    def log_densities(self):
        """Return log-densities (K, c) without weights and normalisers."""
        y = self.of.parameters.factors.swapaxes(1, 2) @ self.D  # (K, d, c)
        squares = np.einsum("kdc,kdc->kc", y, y)
        squares *= -0.5
        squares += np.repeat(self.half, self.chunk.lengths, axis=1)
        return squares

    def completed(self, k, rows):
        """Return rows completed by a component: (d, ...)."""
        return (self.D[k, :, rows].T + self.of.parameters.means[k]).T

    def moments(self, r):
        """Return counts (K,), first moments (K, d) and scatter (J, d, d)."""
        D, means, origins = self.D, self.of.parameters.means, self.of.origins
        for k in np.flatnonzero(self.of.moved):
            D[k] += (means - origins)[k, :, None]
        first = (D @ r[:, :, None])[:, :, 0]
        D *= np.sqrt(r)[:, None]
        scatter = np.stack([part @ part.T for part in D])  # BLAS computes one triangle
        pieces = np.add.reduceat(r, self.chunk.starts, axis=1)  # (K, pieces)
        for group, C in self.conditional:
            self._add_conditional(scatter, group, C, pieces[:, group.pieces])
        if self.of.covariance.shared:
            scatter = scatter.sum(axis=0, keepdims=True)
        return [r.sum(axis=1), first, scatter]

    def _add_conditional(self, scatter, group, C, counts):
        """Add the conditional covariances of a group with counts (K, P)."""
        i, d = group.missing, scatter.shape[1]
        entries = (d * i[:, :, None] + i[:, None]).ravel()
        if C.shape[1] == 1:
            scatter, counts = scatter[:1], counts.sum(axis=0, keepdims=True)
        for k, count in enumerate(counts):
            values = (count[:, None, None] * C[:, k]).ravel()
            scatter[k] += np.bincount(entries, values, d * d).reshape(d, d)


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
        """Return counts (K,), first moments (K, d) and scatter (K, d)."""
        p, origins = self.of.parameters, self.of.origins
        counts = r.sum(axis=1)
        observed, first, scatter = np.split(r @ self.features.T, 3, axis=1)
        for k in np.flatnonzero(~self.of.by_products | self.of.moved):
            D = self._difference(origins[k])
            first[k], scatter[k] = D @ r[k], D**2 @ r[k]
        missing = np.maximum(counts[:, None] - observed, 0.0)  # (K, d)
        shift = p.means - origins
        first += missing * shift
        scatter += missing * (p.covariances + shift**2)
        return [counts, first, scatter]
