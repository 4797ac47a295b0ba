r"""Exact sums of normal kernels on weighted points.

.. math:: s(q) = \log \sum_i e^{a_i(q)}, \quad
    v(q) = \sum_i e^{a_i(q) - s(q)} p_i, \quad
    a_i(q) = \log w_i - |(q - p_i) / h|^2 / 2

A CPU sums over cells of neighbours, and skips the cells that are too distant to matter.
A GPU sums over all points. Exponents :math:`a_i` come from matrix products, which are
several times as fast as differences, where rounding allows. Sums are accumulated
relative to a running maximum.
"""

from copy import copy
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from skgen._lazy import cached_property, lazy_module
from skgen._threads import in_parallel, working_memory
from skgen._torch import resolved_device

torch = lazy_module("torch", "The 'device' parameter")

# Training rows in a cell and maximum number of queries at a time. These pairs stay in
# the cache, which is 1.4 times as fast as 256 queries and 4096 rows.
CELL, _QUERIES = 1024, 128

# Points and queries at a time on a GPU, which is idle between products.
_DEVICE_POINTS, _DEVICE_QUERIES = 2**14, 2**12

# Minimum number of pairs for more than one thread.
PAIRS_FOR_THREADS = 2**22

# Maximum rounding error of an exponent from a matrix product, in nats.
PRODUCT_ERROR = 1e-11

# Cells are skipped if each of their kernels is smaller than the sum by this number of
# nats: all of them together contribute less than rounding.
NEGLIGIBLE = 40.0

# Up to this number of features, cells are skipped for each query separately.
_FEATURES_FOR_EACH = 16

# Number of features whose squares are summed at a time.
_FEATURES = 32

# Distances are capped at this many bandwidths, so that their squares are finite, and
# exponents are above the lowest.
_FARTHEST, _LOWEST = 1e150, -1e300

# Number of rows that determine the widest feature of a larger set.
_ROWS_FOR_WIDTH = 1024


@dataclass(frozen=True)
class Boxes:
    """Bounding boxes of groups of rows: ``lower <= row <= upper``."""

    lower: np.ndarray  # (b, d)
    upper: np.ndarray  # (b, d)

    def squared_distances(self, lower, upper):
        """Return the squared distances (b,) to the box with corners (d,)."""
        gap = np.maximum(self.lower - upper, lower - self.upper)  # (b, d)
        np.clip(gap, 0.0, _FARTHEST, out=gap)
        return np.einsum("ij,ij->i", gap, gap)

    def squared_distances_of_rows(self, X):
        """Return the squared distances of (m, d) rows to the boxes: (m, b)."""
        squares = np.zeros((X.shape[0], self.lower.shape[0]))
        for x, lower, upper in zip(X.T, self.lower.T, self.upper.T, strict=True):
            gap = np.maximum(lower - x[:, None], x[:, None] - upper)  # (m, b)
            np.clip(gap, 0.0, _FARTHEST, out=gap)
            gap *= gap
            squares += gap
        return squares


def boxes_around(X, groups):
    """Return the bounding boxes of groups of (n, d) rows, given by their indices."""
    lower = [X[rows].min(axis=0) for rows in groups]
    upper = [X[rows].max(axis=0) for rows in groups]
    return Boxes(np.array(lower, dtype=np.float64), np.array(upper, dtype=np.float64))


def neighbours(X, size):
    """Return groups of neighbours among (n, d) rows, as indices.

    Rows are split at medians. Every group has `size` rows, except for the last.
    """
    if X.shape[1] == 1:
        order = np.argsort(X[:, 0])
        return [order[i : i + size] for i in range(0, order.size, size)]
    groups, stack = [], [np.arange(X.shape[0])] if X.shape[0] else []
    while stack:
        index = stack.pop()
        if index.size <= size:
            groups.append(index)
            continue
        some = X[index[:: max(1, index.size // _ROWS_FOR_WIDTH)]]
        j = (some.max(axis=0) - some.min(axis=0)).argmax()
        # A multiple of the size, so that only the last group has fewer rows.
        half = size * (-(-index.size // size) // 2)
        parts = np.argpartition(X[index, j], half)
        stack += [index[parts[half:]], index[parts[:half]]]
    return groups


class Cells:
    """(n, d) points in c cells of neighbours, each relative to its own centre."""

    def __init__(self, points, log_weights, scale):
        groups = neighbours(points / scale, CELL)
        around = boxes_around(points, groups)
        self.boxes = Boxes(around.lower / scale, around.upper / scale)  # in bandwidths
        self.centres = _middle(around.lower, around.upper)  # (c, d)
        # Indices of the points in the order of the cells (n,), the slice of each cell
        # in that order, and the logarithms of the weights (n,) and of their sums (c,).
        self.order = np.concatenate(groups)
        sizes = [rows.size for rows in groups]
        starts = np.cumsum([0, *sizes[:-1]])
        self.slices = [slice(a, a + n) for a, n in zip(starts, sizes, strict=True)]
        self.log_weights = log_weights[self.order]
        self.log_masses = np.logaddexp.reduceat(self.log_weights, starts)
        # Largest squared distance from the centre (c,), and the factors of products.
        centres = np.repeat(self.centres, sizes, axis=0)
        p, squares = _relative(points[self.order], centres, scale)
        self.radii = np.maximum.reduceat(squares, starts)
        self.factors = _factors_of_points(p, squares, self.log_weights)  # (n, d + 2)

    @cached_property
    def ranks(self):
        """Return the positions of the points in the order of the cells: (n,)."""
        return np.argsort(self.order)

    def rescaled(self, factor):
        """Return the cells in larger bandwidths."""
        cells = copy(self)
        cells.boxes = Boxes(self.boxes.lower / factor, self.boxes.upper / factor)
        cells.radii = self.radii / factor**2
        p = self.factors[:, :-2] / factor
        squares = np.einsum("ij,ij->i", p, p)
        cells.factors = _factors_of_points(p, squares, self.log_weights)
        return cells


class KernelSum:
    """Kernel sums on (n, d) points on the CPU, with errors of at most `error` nats.

    `log_weights` (n,) are finite and `scale` (d,) holds the standard deviations h.
    Exponents are in single precision where its errors are below `single` nats.
    """

    def __init__(self, points, log_weights, scale, *, error=np.inf, single=0.0):
        self.points, self.log_weights, self.scale = points, log_weights, scale
        self.error, self.single = min(error, PRODUCT_ERROR), single

    @cached_property
    def cells(self):
        """Return the points in cells."""
        return Cells(self.points, self.log_weights, self.scale)

    def rescaled(self, factor, single):
        """Return the sums with standard deviations `factor` times as large."""
        kernels = copy(self)
        kernels.scale, kernels.single = self.scale * factor, single
        kernels.cells = self.cells.rescaled(factor)
        return kernels

    def __call__(
        self, queries, *, with_mean=False, floor=None, without=None, values=None
    ):
        """Return `s` (m,) and `v` (m, d), or None without means, at (m, d) queries.

        Values of `s` below `floor` (m,) may be wrong. `without` (m,) is the index of
        the point that each query leaves out. With `values` (n, v) of the points, the
        means are means of these values: (m, v).
        """
        log_sum = np.empty(queries.shape[0])
        mean = empty_means(queries, values) if with_mean else None
        # Products have up to two copies.
        size = int(np.clip(working_memory() // (3 * 8 * CELL), 1, _QUERIES))
        n_pairs = log_sum.size * self.cells.order.size
        ranks = None if without is None else self.cells.ranks[without]

        def answer(group):
            below = None if floor is None else floor[group]
            out = None if ranks is None else ranks[group]
            log_sum[group], of_group = self._stream(
                queries[group], with_mean, below, out, values
            )
            if with_mean:
                mean[group] = of_group

        groups = neighbours(queries / self.scale, size)
        in_parallel(answer, groups, worth_it=n_pairs > PAIRS_FOR_THREADS)
        return log_sum, mean

    def _bounds_of_cells(self, queries):
        """Return upper bounds of the log-sums of cells at (m, d) queries: (m, c)."""
        scaled = queries / self.scale
        if queries.shape[1] <= _FEATURES_FOR_EACH:
            squares = self.cells.boxes.squared_distances_of_rows(scaled)
        else:  # cells are wide in many dimensions: one bound serves all queries
            corners = scaled.min(axis=0), scaled.max(axis=0)
            squares = self.cells.boxes.squared_distances(*corners)
        shape = queries.shape[0], self.cells.log_masses.size
        return np.broadcast_to(self.cells.log_masses - 0.5 * squares, shape)

    def exponents(self, queries):
        """Return the exponents of (m, d) queries and all points: (m, n)."""
        a = np.empty((queries.shape[0], self.cells.order.size))
        for cell, columns in enumerate(self.cells.slices):
            a[:, self.cells.order[columns]] = self._pairs(queries, cell)[0]
        return a

    def _stream(self, queries, with_mean, floor, without, values):
        """Return `s` (m,) and `v` (m, d) or None for one group of (m, d) queries.

        `without` (m,) or None holds ranks of points. With `values` (n, v) or None, `v`
        has their means: (m, v).
        """
        # The cell with the highest upper bound comes first, so that the other cells are
        # skipped early.
        m = queries.shape[0]
        top, total = np.full(m, _LOWEST), np.zeros(m)
        average = np.zeros_like(empty_means(queries, values)) if with_mean else None
        reached = np.full(m, -np.inf) if floor is None else floor.copy()
        bounds = self._bounds_of_cells(queries)  # (m, c)
        slack = NEGLIGIBLE + np.log(self.cells.log_masses.size)
        for cell in np.argsort(-bounds.max(axis=0)):
            needed = bounds[:, cell] > reached - slack
            if not needed.any():
                continue
            rows = slice(None) if needed.all() else np.flatnonzero(needed)
            a, displacements = self._pairs(queries[rows], cell)  # (r, n)
            if without is not None:
                columns = without[rows] - self.cells.slices[cell].start
                out = np.flatnonzero((columns >= 0) & (columns < a.shape[1]))
                a[out, columns[out]] = -np.inf
            new_top = np.maximum(top[rows], a.max(axis=1))
            a -= new_top[:, None]
            np.exp(a, out=a)
            shrink = np.exp(top[rows] - new_top)  # (r,)
            total[rows] = total[rows] * shrink + a.sum(axis=1)
            if with_mean:
                average[rows] *= shrink[:, None]
                if values is None:
                    average[rows] += displacements(a)
                else:
                    points = self.cells.order[self.cells.slices[cell]]
                    average[rows] += a @ values[points]
            top[rows] = new_top
            with np.errstate(divide="ignore"):  # no point but the one left out
                reached[rows] = np.maximum(reached[rows], new_top + np.log(total[rows]))
        log_sum = np.full(m, -np.inf)
        np.log(total, out=log_sum, where=total > 0)  # zero if all are below the floor
        if not with_mean:
            return top + log_sum, None
        average /= np.where(total > 0, total, 1.0)[:, None]
        if values is None:
            average = queries + average * self.scale
        return top + log_sum, average

    def _pairs(self, queries, cell):
        """Return the exponents of (m, d) queries and the n points of a cell: (m, n).

        Also return a function of factors (m, n) that sums over the cell the factors
        times point minus query in bandwidths: (m, d).
        """
        cells, columns = self.cells, self.cells.slices[cell]
        q, squares = _relative(queries, cells.centres[cell], self.scale)
        magnitude = squares.max() + cells.radii[cell]
        single = magnitude * np.finfo(np.float32).eps < self.single
        if single or magnitude * np.finfo(np.float64).eps < self.error:
            dtype = np.float32 if single else np.float64
            factors = cells.factors[columns].astype(dtype, copy=False)  # (n, d + 2)
            a = _factors_of_queries(q, squares).astype(dtype, copy=False) @ factors.T
            return a, lambda a: a @ factors[:, :-2] - a.sum(axis=1)[:, None] * q
        points = self.points[cells.order[columns]].astype(np.float64, copy=False)
        a = squared_distances(queries, points, 1 / self.scale**2)
        a *= -0.5
        a += cells.log_weights[columns]
        return a, lambda a: _displacements(a, queries, points, self.scale)


class DeviceSum:
    """The sums of a `KernelSum` on a GPU, with errors of up to `error` nats.

    Queries with a larger rounding error are left to `exact`, as are all queries if the
    device is missing or has no float64.
    """

    def __init__(self, exact, device, error):
        self.exact, self.device, self.error = exact, device, error
        around = boxes_around(exact.points, [slice(None)])
        self.centre = _middle(around.lower[0], around.upper[0])  # (d,)
        self.radius = self._relative(exact.points)[1].max()  # squared

    def __call__(self, queries, *, with_mean=False, floor=None, values=None):
        """Return log-sums (m,) and means (m, d) or None, as `KernelSum` does."""
        log_sum = np.empty(queries.shape[0])
        mean = empty_means(queries, values) if with_mean else None
        q, squares = self._relative(queries)
        left = np.ones(log_sum.size, dtype=bool)
        device = self._usable_device()
        for dtype in self._dtypes() if device is not None else ():
            magnitude = squares + self.radius
            keeps = left & (magnitude * np.finfo(dtype).eps < self.error)
            left[keeps] = False
            rows = np.flatnonzero(keeps)
            for start in range(0, rows.size, _DEVICE_QUERIES):
                some = rows[start : start + _DEVICE_QUERIES]
                factors = _factors_of_queries(q[some], squares[some])
                log_sum[some], of_some = self._stream(factors, device, dtype, values)
                if with_mean and values is None:
                    mean[some] = self.centre + of_some * self.exact.scale
                elif with_mean:
                    mean[some] = of_some
        fill_in(self.exact, left, queries, log_sum, mean, values=values, floor=floor)
        return log_sum, mean

    def exponents(self, queries):
        """Return the exponents of (m, d) queries and all points: (m, n)."""
        return self.exact.exponents(queries)

    def _relative(self, rows):
        """Return (n, d) rows relative to the centre, in bandwidths, and squares."""
        return _relative(rows, self.centre, self.exact.scale)

    def _usable_device(self):
        """Return the device; None if it is missing or has no float64."""
        device = resolved_device(self.device)
        usable = device.type == "cuda" and torch.cuda.is_available()
        return device if usable else None

    def _dtypes(self):
        """Return the dtypes to compute in, the fastest first."""
        full = torch.get_float32_matmul_precision() == "highest"
        single = self.exact.points.dtype == np.float32 and full
        return (np.float32, np.float64) if single else (np.float64,)

    def _stream(self, factors, device, dtype, values):
        """Return log-sums (m,) and means (m, d) from the factors of queries.

        Means are of `values` (n, v), or of the points in bandwidths from the centre.
        """
        # Totals are in float64.
        dtype = torch.float32 if dtype == np.float32 else torch.float64
        queries = torch.as_tensor(factors, device=device)  # (m, d + 2)
        top = torch.full_like(queries[:, 0], -torch.inf)
        width = queries.shape[1] - 2 if values is None else values.shape[1]
        total, average = torch.zeros_like(top), top.new_zeros(top.shape[0], width)
        queries = queries.to(dtype)
        for start in range(0, self.exact.points.shape[0], _DEVICE_POINTS):
            some = slice(start, start + _DEVICE_POINTS)
            p, squares = self._relative(self.exact.points[some])
            points = _factors_of_points(p, squares, self.exact.log_weights[some])
            points = torch.as_tensor(points, device=device).to(dtype)  # (n, d + 2)
            a = queries @ points.T  # (m, n)
            new_top = torch.maximum(top, a.amax(dim=1).to(top.dtype))
            a = (a - new_top[:, None].to(dtype)).exp_()
            shrink = (top - new_top).exp()  # (m,)
            total = total * shrink + a.sum(dim=1, dtype=torch.float64)
            averaged = points[:, :-2]
            if values is not None:
                averaged = torch.as_tensor(values[some], device=device).to(dtype)
            average = average * shrink[:, None] + a @ averaged
            top = new_top
        log_sum = top + total.log()
        return log_sum.cpu().numpy(), (average / total[:, None]).cpu().numpy()


def empty_means(queries, values):
    """Return an empty array for the means of values (n, v), or of points (n, d)."""
    width = queries.shape[1] if values is None else values.shape[1]
    return np.empty((queries.shape[0], width))


def fill_in(exact, rest, queries, log_sum, mean, values=None, **of_queries):
    """Set `log_sum` (m,) and `mean` (m, d) or None to exact sums where `rest` (m,).

    `values` and `of_queries`, (m,) or None, are arguments of `exact`.
    """
    if not rest.any():
        return
    with_mean = mean is not None
    some = {k: None if v is None else v[rest] for k, v in of_queries.items()}
    if values is not None:
        some["values"] = values
    log_sum[rest], of_rest = exact(queries[rest], with_mean=with_mean, **some)
    if with_mean:
        mean[rest] = of_rest


def _middle(lower, upper):
    """Return the centres of boxes, given by their corners of any shape."""
    return lower + 0.5 * (upper - lower)


def _relative(points, centre, scale):
    """Return (n, d) points relative to a centre in bandwidths, and squares (n,)."""
    p = points - centre
    p /= scale
    squares = np.einsum("ij,ij->i", p, p)  # (n,)
    if not np.isfinite(squares).all():
        np.clip(p, -_FARTHEST, _FARTHEST, out=p)
        squares = np.einsum("ij,ij->i", p, p)
    return p, squares


# The product of the factors of a query and a point is the exponent of the pair.
def _factors_of_queries(q, squares):
    """Return q, 1 and -|q|^2 / 2 for (m, d) relative queries: (m, d + 2)."""
    factors = np.ones((q.shape[0], q.shape[1] + 2))
    factors[:, :-2], factors[:, -1] = q, -0.5 * squares
    return factors


def _factors_of_points(p, squares, log_weights):
    """Return p, log w - |p|^2 / 2 and 1 for (n, d) relative points: (n, d + 2)."""
    factors = np.ones((p.shape[0], p.shape[1] + 2))
    factors[:, :-2], factors[:, -2] = p, log_weights - 0.5 * squares
    return factors


def squared_distances(X, Y, w):
    """Return the squared distances of (m, d) and (n, d) rows, weighted by `w` (d,)."""
    # Rounding errors grow with the number of terms, so features are summed in parts.
    total = cdist(X[:, :_FEATURES], Y[:, :_FEATURES], "sqeuclidean", w=w[:_FEATURES])
    for start in range(_FEATURES, w.size, _FEATURES):
        some = slice(start, start + _FEATURES)
        total += cdist(X[:, some], Y[:, some], "sqeuclidean", w=w[some])
    return np.minimum(total, _FARTHEST**2, out=total)


def _displacements(a, queries, points, scale):
    """Return sums of `a` (m, n) times point minus query in bandwidths: (m, d)."""
    sums = np.empty(queries.shape)
    for j, p in enumerate(points.T):
        difference = (p - queries[:, j, None]) / scale[j]  # (m, n)
        np.clip(difference, -_FARTHEST, _FARTHEST, out=difference)
        sums[:, j] = np.einsum("ij,ij->i", a, difference)
    return sums
