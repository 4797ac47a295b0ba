"""Patterns of missing entries: sorted rows, and the small matrices of their patterns.

Rows are sorted by their pattern. Patterns with equally many missing entries form a
group, whose matrices are inverted together, on the side of the missing or of the
observed features, whichever is smaller. Patterns with equally many rows form a batch:
one product of stacked matrices without padding.
"""

from dataclasses import dataclass

import numpy as np

# Bytes of the completed rows of a chunk, to stay in the cache, and its minimum and
# maximum number of rows.
_CHUNK_BYTES, _LEAST_ROWS, _MOST_ROWS = 2**21, 64, 4096

# Maximum bytes of the matrices of all pieces of a chunk, of the size of a covariance.
_PIECES_BYTES = 2**28

# Maximum size of matrices for which elimination over all matrices at once is faster
# than LAPACK on one after another.
_MOST_ELIMINATED = 12


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

    def chunks(self, K, n_matrices=0):
        """Return the chunks of a pass: K components with covariance matrices."""
        d, n = self.columns.shape
        size = min(max(_CHUNK_BYTES // (8 * K * d), _LEAST_ROWS), _MOST_ROWS)
        most = size
        if n_matrices:
            most = min(max(_PIECES_BYTES // (8 * n_matrices * d * d), 1), size)
        if self._chunks[0] != (size, most):
            self._chunks = (size, most), list(self._divided(size, most, n))
        return self._chunks[1]

    def _divided(self, size, most, n):
        if not n:  # a block without any observed entry
            return
        starts = np.union1d(self.starts, np.arange(0, n, size))
        lengths = np.diff(np.append(starts, n))
        patterns = np.searchsorted(self.starts, starts, side="right") - 1
        n_missing = self.missing.sum(axis=1)[patterns]
        order = np.argsort(self.missing, axis=1, kind="stable")  # observed ones first
        bounds = np.searchsorted(starts, np.arange(0, n, size))
        bounds = np.union1d(bounds, np.arange(0, starts.size, most))
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
    differs = np.append(True, (bits[1:] != bits[:-1]).any(axis=1))[: len(bits)]
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
    else :math:`-\tfrac{1}{2} \log |\Sigma_{oo}|`, with None for `C`: see `summed`.
    """
    i, j = group.missing, group.observed
    m, o = i.shape[1], j.shape[1]

    def block(matrices, a, b):  # (P, J, a, b)
        return matrices[:, a[:, :, None], b[:, None]].swapaxes(0, 1)

    if m < o:
        C, logs = positive_inverses(block(precisions, i, i))
        return -C @ block(precisions, i, j), C, -0.5 * logs
    inverse, logs = positive_inverses(block(covariances, j, j))
    cross = block(covariances, i, j)
    return cross @ inverse, None, -0.5 * logs


def summed(group, B, C, covariances, counts):
    """Return sums of `C` over patterns with counts (J, P), of all features: (J, d, d).

    `B` and `C` are from `conditionals`, of one or J components, as the `covariances`.
    """
    i, j, d = group.missing, group.observed, covariances.shape[1]
    found, columns = np.empty((len(counts), d, d)), j if C is None else i
    entries = (d * i[:, :, None] + columns[:, None]).ravel()
    for k, count in enumerate(counts):
        values = (B if C is None else C)[:, min(k, B.shape[1] - 1)]
        values = (count[:, None, None] * values).ravel()
        found[k] = np.bincount(entries, values, d * d).reshape(d, d)
        if C is None:
            # C of all features is (D - B) S, with ones in D for missing features.
            missing = np.bincount(i.ravel(), np.repeat(count, i.shape[1]), d)
            of_k = covariances[min(k, len(covariances) - 1)]
            part = missing[:, None] * of_k - found[k] @ of_k
            found[k] = 0.5 * (part + part.T)
    return found


def positive_inverses(matrices):
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
