"""Exact sums over kernels, streamed in blocks that never hold all pairs."""

from functools import cached_property

import numpy as np
from scipy.spatial.distance import cdist

from skgen._threads import in_parallel
from skgen.kde._blocks import FARTHEST, boxes, neighbours_in_blocks

# Training rows in a block, and query rows at most: a block of pairs then stays in
# the cache, which is worth 1.4 times the speed of blocks of 256 x 4096.
_TRAINING_BLOCK = 1024
_QUERY_BLOCK = 128

# From so many pairs, groups of queries are shared among the cores.
_PAIRS_FOR_THREADS = 2**22

# Blocks whose every kernel is smaller than the sum by this many nats are skipped: all
# together they weigh less than rounding.
_NEGLIGIBLE = 40.0

# With so many features, each query is asked which blocks it can leave out.
_FEATURES_FOR_EACH = 16

# Squares of so many features are summed at a time.
_FEATURES = 32


class Blocks:
    """Points in blocks of neighbours, each about its own centre.

    Attributes
    ----------
    order : ndarray of shape (n,)
        The points of all blocks, one block after the other.
    columns : list of slice
        Where the points of each block are in that order.
    boxes : Boxes
        Around each block, in units of the kernel.
    log_weights : ndarray of shape (n,)
        The logarithms of the weights, in that order.
    log_masses : ndarray of shape (b,)
        The logarithm of what each block weighs.
    centres : ndarray of shape (b, d)
        The middle of each block.
    augmented : ndarray of shape (n, d + 2)
        What queries are multiplied by: the point `p` about the centre in units of the
        kernel, ``log w - |p|^2 / 2``, and 1.
    radii : ndarray of shape (b,)
        The largest ``|p|^2`` of each block.
    """

    def __init__(self, points, log_weights, scale):
        n, d = points.shape
        scaled = points / scale
        groups = neighbours_in_blocks(scaled, _TRAINING_BLOCK)
        self.order = np.concatenate(groups)
        ends = np.cumsum([group.size for group in groups])
        starts = np.concatenate([[0], ends[:-1]])
        self.columns = [slice(*pair) for pair in zip(starts, ends, strict=True)]
        self.boxes = boxes(scaled[self.order], starts)
        self.log_weights = log_weights[self.order]
        top = np.maximum.reduceat(self.log_weights, starts)  # (b,)
        shares = np.exp(self.log_weights - np.repeat(top, ends - starts))
        self.log_masses = top + np.log(np.add.reduceat(shares, starts))
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
    r"""Sums of normal kernels over weighted points, exact to rounding.

    With :math:`a_i(q) = \log w_i - |(q - p_i) / h|^2 / 2` it returns

    .. math:: s(q) = \log \sum_i e^{a_i(q)}, \qquad
              v(q) = \sum_i e^{a_i(q) - s(q)} p_i.

    Points are kept in blocks of neighbours. Queries take them in the order of what
    they can weigh at most, and leave out the blocks that together weigh less than
    rounding.

    Parameters
    ----------
    points : ndarray of shape (n, d)
        The centres :math:`p_i`.
    log_weights : ndarray of shape (n,)
        The logarithms of the weights.
    scale : ndarray of shape (d,), default=None
        The standard deviations :math:`h` of the kernel; None for ones.
    error : float, default=1e-11
        The error of an exponent that is a fair price for a multiple of the speed:
        squared distances are those of matrix products where these cost no more, and
        else those of differences.
    """

    def __init__(self, points, log_weights, scale=None, *, error=1e-11):
        self.points, self.log_weights, self.error = points, log_weights, error
        self.scale = np.ones(points.shape[1]) if scale is None else scale

    @cached_property
    def blocks(self):
        """Return the points in blocks, which are made when they are first needed."""
        return Blocks(self.points, self.log_weights, self.scale)

    def __call__(self, queries, *, with_mean=False, floor=None, memory=2**27):
        """Return the logarithm of the sum at each query, and the mean.

        Parameters
        ----------
        queries : ndarray of shape (m, d)
            Where to evaluate.
        with_mean : bool, default=False
            Whether to return the mean of the points as well.
        floor : ndarray of shape (m,), default=None
            Sums smaller than this, in logarithms, need not be right.
        memory : int, default=2**27
            Bytes that a block of pairs and its copies may take.

        Returns
        -------
        log_sum : ndarray of shape (m,)
            :math:`s` at each query.
        mean : ndarray of shape (m, d) or None
            :math:`v` at each query.
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
        """Return the logarithm of the most that each block weighs at queries, (m, b).

        In many dimensions where blocks are too wide to be left out one by one, the
        most at any of the queries.
        """
        scaled = queries / self.scale
        if queries.shape[1] > _FEATURES_FOR_EACH:
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
        """Accumulate the sums of one group about a running maximum."""
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
        np.log(total, out=log_sum, where=total > 0)  # zero: all below the floor
        if not with_mean:
            return top + log_sum, None
        average /= np.where(total > 0, total, 1.0)[:, None]
        return top + log_sum, queries + average * self.scale

    def _exponents(self, queries, block):
        """Return `a` for the queries and a block of points, (m, n).

        By one matrix product about the centre of the block, which is fast, where
        that keeps enough digits; else by differences.
        """
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
        """Return the sums of points less the query, weighted by (m, n) kernels: (m, d).

        In units of the kernel.
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
        """Tell whether no exponent loses more than the error to a product."""
        magnitude = squares.max() + self.blocks.radii[block]
        return magnitude * np.finfo(np.float64).eps < self.error

    def _points(self, block):
        """Return the points of a block, (n, d)."""
        columns = self.blocks.columns[block]
        return self.points[self.blocks.order[columns]].astype(np.float64, copy=False)


def fill_in(exact, rest, queries, log_sum, mean, floor, memory):
    """Put exact sums, and means if there are any, where `rest` (m,) says so."""
    if not rest.any():
        return
    with_mean, below = mean is not None, None if floor is None else floor[rest]
    log_sum[rest], of_rest = exact(
        queries[rest], with_mean=with_mean, floor=below, memory=memory
    )
    if with_mean:
        mean[rest] = of_rest


def _squared_distances(X, Y, w):
    """Return the weighted squared distances of (m, d) and (n, d) rows by differences.

    Summed over a few features at a time, for rounding grows with the terms of a sum.
    """
    total = cdist(X[:, :_FEATURES], Y[:, :_FEATURES], "sqeuclidean", w=w[:_FEATURES])
    for start in range(_FEATURES, w.size, _FEATURES):
        some = slice(start, start + _FEATURES)
        total += cdist(X[:, some], Y[:, some], "sqeuclidean", w=w[some])
    return np.minimum(total, FARTHEST**2, out=total)


def _centre(points):
    """Return the middle of the box around (n, d) points."""
    lower, upper = points.min(axis=0), points.max(axis=0)
    return lower + 0.5 * (upper - lower)


def _about(points, centre, scale):
    """Return (n, d) points about a centre in units of the kernel, and their squares."""
    p = points - centre
    p /= scale
    squares = np.einsum("ij,ij->i", p, p)  # (n,)
    if not np.isfinite(squares).all():
        np.clip(p, -FARTHEST, FARTHEST, out=p)
        squares = np.einsum("ij,ij->i", p, p)
    return p, squares
