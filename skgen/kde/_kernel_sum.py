"""Exact kernel sums, computed in blocks of pairs."""

from functools import cached_property

import numpy as np
from scipy.spatial.distance import cdist

from skgen._threads import in_parallel
from skgen.kde._blocks import FARTHEST, boxes, neighbours_in_blocks

# Training rows and maximum number of queries in a block. Such a block of pairs stays
# in the cache, which is 1.4 times as fast as blocks of 256 x 4096.
_TRAINING_BLOCK = 1024
_QUERY_BLOCK = 128

# Minimum number of pairs for more than one thread.
_PAIRS_FOR_THREADS = 2**22

# Blocks are skipped if each of their kernels is smaller than the sum by this number of
# nats: all of them together contribute less than rounding.
_NEGLIGIBLE = 40.0

# Up to this number of features, blocks are skipped for each query separately.
_FEATURES_FOR_EACH = 16

# Number of features whose squares are summed at a time.
_FEATURES = 32


class Blocks:
    """(n, d) points in b blocks of neighbours, each relative to its own centre."""

    def __init__(self, points, log_weights, scale):
        n, d = points.shape
        scaled = points / scale
        groups = neighbours_in_blocks(scaled, _TRAINING_BLOCK)
        # Indices of the points in the order of the blocks (n,), the slice of each
        # block in that order, and the bounding boxes in bandwidths.
        self.order = np.concatenate(groups)
        ends = np.cumsum([group.size for group in groups])
        starts = np.concatenate([[0], ends[:-1]])
        self.columns = [slice(*pair) for pair in zip(starts, ends, strict=True)]
        self.boxes = boxes(scaled[self.order], starts)
        # Logarithms of the weights in that order (n,), and of the sum of the weights
        # of each block (b,).
        self.log_weights = log_weights[self.order]
        top = np.maximum.reduceat(self.log_weights, starts)  # (b,)
        shares = np.exp(self.log_weights - np.repeat(top, ends - starts))
        self.log_masses = top + np.log(np.add.reduceat(shares, starts))
        # Queries are multiplied by `augmented`: the point p relative to the centre in
        # bandwidths, log w - |p|^2 / 2, and 1. `radii` is the largest |p|^2.
        self.centres = np.empty((starts.size, d))
        self.augmented = np.ones((n, d + 2))
        self.radii = np.empty(starts.size)
        for b, columns in enumerate(self.columns):
            rows = points[self.order[columns]].astype(np.float64, copy=False)
            self.centres[b] = _centre(rows)
            p, squares = _about(rows, self.centres[b], scale)
            self.augmented[columns, :d] = p
            self.augmented[columns, d] = self.log_weights[columns] - 0.5 * squares
            self.radii[b] = squares.max()


class KernelSum:
    r"""Sums of normal kernels on (n, d) points with (n,) weights.

    .. math:: s(q) = \log \sum_i e^{a_i(q)}, \quad
        v(q) = \sum_i e^{a_i(q) - s(q)} p_i, \quad
        a_i(q) = \log w_i - |(q - p_i) / h|^2 / 2
    """

    # `scale` (d,) holds the standard deviations h. Exponents come from matrix products,
    # which are several times as fast as differences, where their error in nats is at
    # most `error`.

    def __init__(self, points, log_weights, scale=None, *, error=1e-11):
        self.points, self.log_weights, self.error = points, log_weights, error
        self.scale = np.ones(points.shape[1]) if scale is None else scale

    @cached_property
    def blocks(self):
        """Return the points in blocks."""
        return Blocks(self.points, self.log_weights, self.scale)

    def __call__(self, queries, *, with_mean=False, floor=None, memory=2**27):
        """Return `s` (m,) and `v` (m, d), or None without means, at (m, d) queries.

        Values of `s` below `floor` (m,) may be wrong. A block of pairs and its copies
        take up to `memory` bytes.
        """
        m, n = queries.shape[0], self.log_weights.size
        log_sum = np.empty(m)
        mean = np.empty(queries.shape) if with_mean else None
        size = int(np.clip(memory // (3 * 8 * _TRAINING_BLOCK), 1, _QUERY_BLOCK))

        def answer(group):
            below = None if floor is None else floor[group]
            log_sum[group], of_group = self._stream(queries[group], with_mean, below)
            if with_mean:
                mean[group] = of_group

        groups = neighbours_in_blocks(queries / self.scale, size)
        in_parallel(answer, groups, worth_it=m * n > _PAIRS_FOR_THREADS)
        return log_sum, mean

    def _most_of_blocks(self, queries):
        """Return upper bounds of the log-sums of blocks at (m, d) queries: (m, b)."""
        scaled = queries / self.scale
        if queries.shape[1] > _FEATURES_FOR_EACH:
            # Blocks are wide in many dimensions: one bound serves all queries.
            squares = self.blocks.boxes.squared_distances(
                scaled.min(axis=0), scaled.max(axis=0)
            )[None]
        else:
            squares = self.blocks.boxes.squared_distances_of_rows(scaled)
        return np.broadcast_to(
            self.blocks.log_masses - 0.5 * squares,
            (queries.shape[0], self.blocks.log_masses.size),
        )

    def _stream(self, queries, with_mean, floor):
        """Return `s` (m,) and `v` (m, d) or None for one group of (m, d) queries."""
        # Sums are accumulated relative to a running maximum. The block with the highest
        # upper bound comes first, so that the other blocks are skipped early.
        m = queries.shape[0]
        top, total = np.full(m, -np.inf), np.zeros(m)
        average = np.zeros(queries.shape) if with_mean else None
        reached = top.copy() if floor is None else floor.copy()
        most = self._most_of_blocks(queries)  # (m, b)
        slack = _NEGLIGIBLE + np.log(self.blocks.log_masses.size)
        for block in np.argsort(-most.max(axis=0)):
            needed = most[:, block] > reached - slack
            if not needed.any():
                continue
            rows = slice(None) if needed.all() else np.flatnonzero(needed)
            q = queries[rows]
            a = self._exponents(q, block)  # (r, n)
            new_top = np.maximum(top[rows], a.max(axis=1))
            a -= new_top[:, None]
            np.exp(a, out=a)
            shrink = np.exp(top[rows] - new_top)  # (r,)
            total[rows] = total[rows] * shrink + a.sum(axis=1)
            if with_mean:
                average[rows] *= shrink[:, None]
                average[rows] += self._differences(a, q, block)
            top[rows] = new_top
            reached[rows] = np.maximum(reached[rows], new_top + np.log(total[rows]))
        log_sum = np.full(m, -np.inf)
        np.log(total, out=log_sum, where=total > 0)  # zero if all are below the floor
        if not with_mean:
            return top + log_sum, None
        average /= np.where(total > 0, total, 1.0)[:, None]
        return top + log_sum, queries + average * self.scale

    def _exponents(self, queries, block):
        """Return `a` for (m, d) queries and a block of n points: (m, n)."""
        m, d = queries.shape
        q, squares = _about(queries, self.blocks.centres[block], self.scale)
        columns = self.blocks.columns[block]
        if self._product_is_exact(squares, block):
            augmented = np.ones((m, d + 2))
            augmented[:, :d] = q
            augmented[:, d + 1] = -0.5 * squares
            return augmented @ self.blocks.augmented[columns].T
        a = _squared_distances(queries, self._points(block), 1 / self.scale**2)
        a *= -0.5
        a += self.blocks.log_weights[columns]
        return a

    def _differences(self, a, queries, block):
        """Return the sums over a block of `a` (m, n) times point minus query: (m, d).

        The differences are in bandwidths.
        """
        q, squares = _about(queries, self.blocks.centres[block], self.scale)
        if self._product_is_exact(squares, block):
            p = self.blocks.augmented[self.blocks.columns[block], :-2]
            return a @ p - a.sum(axis=1)[:, None] * q
        sums = np.empty(queries.shape)
        for j, p in enumerate(self._points(block).T):
            difference = (p - queries[:, j, None]) / self.scale[j]  # (m, n)
            np.clip(difference, -FARTHEST, FARTHEST, out=difference)
            sums[:, j] = np.einsum("ij,ij->i", a, difference)
        return sums

    def _product_is_exact(self, squares, block):
        """Return whether exponents from a matrix product are accurate enough."""
        magnitude = squares.max() + self.blocks.radii[block]
        return magnitude * np.finfo(np.float64).eps < self.error

    def _points(self, block):
        """Return the points of a block: (n, d)."""
        columns = self.blocks.columns[block]
        return self.points[self.blocks.order[columns]].astype(np.float64, copy=False)


def fill_in(exact, rest, queries, log_sum, mean, floor, memory):
    """Set `log_sum` (m,) and `mean` (m, d) or None to exact sums where `rest` (m,)."""
    if not rest.any():
        return
    with_mean, below = mean is not None, None if floor is None else floor[rest]
    log_sum[rest], of_rest = exact(
        queries[rest], with_mean=with_mean, floor=below, memory=memory
    )
    if with_mean:
        mean[rest] = of_rest


def _squared_distances(X, Y, w):
    """Return the squared distances of (m, d) and (n, d) rows, weighted by `w` (d,)."""
    # Rounding errors grow with the number of terms, so features are summed in parts.
    total = cdist(X[:, :_FEATURES], Y[:, :_FEATURES], "sqeuclidean", w=w[:_FEATURES])
    for start in range(_FEATURES, w.size, _FEATURES):
        some = slice(start, start + _FEATURES)
        total += cdist(X[:, some], Y[:, some], "sqeuclidean", w=w[some])
    return np.minimum(total, FARTHEST**2, out=total)


def _centre(points):
    """Return the centre (d,) of the bounding box of (n, d) points."""
    lower, upper = points.min(axis=0), points.max(axis=0)
    return lower + 0.5 * (upper - lower)


def _about(points, centre, scale):
    """Return (n, d) points relative to a centre in bandwidths, and squares (n,)."""
    p = points - centre
    p /= scale
    squares = np.einsum("ij,ij->i", p, p)  # (n,)
    if not np.isfinite(squares).all():
        np.clip(p, -FARTHEST, FARTHEST, out=p)
        squares = np.einsum("ij,ij->i", p, p)
    return p, squares
