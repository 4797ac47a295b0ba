"""Sums by the cheapest method that keeps a tolerance, chosen from the fit alone."""

import numpy as np

from skgen.kde._fourier import (
    BYTES_PER_CELL,
    MOST_FEATURES,
    REACH,
    FourierSum,
    Grid,
    absolute_error,
    is_installed,
)
from skgen.kde._kernel_sum import fill_in

# With fewer rows exact sums take milliseconds.
_LEAST_ROWS = 2**13

# So many rows tell what share of queries the transform resolves. What exact sums cost
# is told by some rows and how many of others are near them, so many kernels away.
_VISITED = 12.0
_SOME, _FEW, _MANY = 1024, 64, 2**14

# The tolerance is at least so many errors of the transform.
_FINEST = 2

# The shares of rows that may be left out of the grid on each side of each feature.
_TRIMMED = 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 3e-2

# Costs in kernels of an exact sum, a nanosecond or so each: of spreading a row and of
# interpolating a query together, by the number of features; of a cell of the grid.
_COST_OF_ROW = {1: 50, 2: 250, 3: 900}
_COST_OF_CELL = 80

# The transform is taken where it promises to be so many times cheaper.
_WORTH_IT = 2.0

# Coordinates are rounded, and the logarithm of a sum that matters changes by less than
# this in the unit of the kernel.
_STEEPEST = 10.0


class ToleratedSum:
    """Sums by Fourier transforms where these keep the tolerance, else exact ones.

    Which of the two answers a query depends on the query and on the fit alone.

    Parameters
    ----------
    exact : KernelSum
        Exact sums, which answer where the transform does not resolve.
    fourier : FourierSum
        Their approximation, in units of the kernel.
    origin, scale : ndarray of shape (d,)
        What takes queries to units of the kernel: ``(query - origin) / scale``.
    rtol : float
        The relative error that a sum may have.
    """

    def __init__(self, exact, fourier, origin, scale, rtol):
        self.exact, self.fourier = exact, fourier
        self.origin, self.scale = origin, scale
        # A sum with that error may be this small; coordinates take the other half.
        self.least = _FINEST * absolute_error(origin.size) / rtol

    def __call__(self, queries, *, with_mean=False, floor=None, memory=2**27):
        """Return the logarithm of the sum at each query, and the mean."""
        units = (queries - self.origin) / self.scale  # (m, d)
        log_sum = np.empty(queries.shape[0])
        mean = np.empty(queries.shape) if with_mean else None
        known = self.fourier.grid.contains(units)
        inside = units[known]
        total = self.fourier(inside)
        resolved = total > self.least
        if floor is not None:
            resolved |= self.least < np.exp(floor[known])
        total = np.maximum(total[resolved], np.finfo(float).tiny)
        known[known] = resolved
        log_sum[known] = np.log(total)
        if with_mean:
            slopes = self.fourier.gradient(inside[resolved])
            mean[known] = queries[known] + slopes / total[:, None] * self.scale
        fill_in(self.exact, ~known, queries, log_sum, mean, floor, memory)
        return log_sum, mean

    def resolves(self, queries):
        """Return the share of queries that need no exact sum."""
        units = (queries - self.origin) / self.scale
        inside = self.fourier.grid.contains(units)
        return float((self.fourier(units[inside]) > self.least).sum() / units.shape[0])


class NotResolved(Exception):  # noqa: N818
    """Says why a transform cannot answer within the tolerance."""


def within_tolerance(exact, points, weights, scale, *, rtol, memory, forced, margin):
    """Return sums of rows by the cheapest method that keeps a tolerance.

    Parameters
    ----------
    exact : KernelSum
        The exact sums.
    points : ndarray of shape (n, d)
        The centres of the kernels, in the coordinates of `exact`.
    weights : ndarray of shape (n,)
        Their weights, which sum to one.
    scale : ndarray of shape (d,)
        What takes points to units of the kernel.
    rtol : float
        The relative error that a sum may have.
    memory : int
        Bytes that the grid of a transform may take.
    forced : bool
        Whether to take the transform at whatever cost.
    margin : float
        Queries are answered by the transform so far outside of the rows, in kernels.
        Farther out sums are small, and left to exact ones in any case.

    Returns
    -------
    KernelSum or ToleratedSum

    Raises
    ------
    NotResolved
        Where `forced` and the transform cannot keep the tolerance, and without
        `forced` where it would be the cheapest but finufft is not installed.
    """
    n = points.shape[0]
    if not forced and n < _LEAST_ROWS:
        return exact
    # Where most rows are, so that no digits are lost to a few far out.
    origin = np.median(points[:: -(-n // _SOME)], axis=0)
    units = (points - origin) / scale
    try:
        grid, cost = _cheapest_grid(units, rtol, memory, margin)
    except NotResolved:
        if forced:
            raise
        return exact
    of_exact = _cost_of_exact(units)
    at_most = of_exact / _WORTH_IT
    if not forced and cost > at_most:
        return exact
    if not is_installed():
        raise NotResolved("needs finufft: pip install 'skgen[fourier]'")
    fourier = FourierSum(units, weights, grid)
    tolerated = ToleratedSum(exact, fourier, origin, scale, rtol)
    left = 1.0 - tolerated.resolves(points[:: -(-n // _SOME)])
    if not forced and cost + left * of_exact > at_most:
        return exact
    return tolerated


def _cheapest_grid(points, rtol, memory, margin):
    """Return the cheapest grid around (n, d) points, and its cost in kernels.

    A few rows far out never size the grid: of boxes that leave out more and more of
    them, the one is taken for which transform and exact sums together cost least.
    """
    n, d = points.shape
    if d > MOST_FEATURES:
        raise NotResolved(f"takes no more than {MOST_FEATURES} features, not {d}")
    if rtol <= _FINEST * absolute_error(d):
        finest = _FINEST * absolute_error(d)
        raise NotResolved(f"has errors of up to {finest:.0e}, more than rtol={rtol:g}")
    best, least = None, np.inf
    reasons = set()
    columns = points.T.copy()
    least_of, most_of = columns.min(axis=1), columns.max(axis=1)
    for lower, upper in _boxes(columns, margin):
        outside = np.maximum(lower - least_of, most_of - upper)  # (d,)
        grid = Grid(lower, upper, np.minimum(outside, REACH))
        if not grid.least_cells * BYTES_PER_CELL <= memory:
            reasons.add("needs a grid that fits scikit-learn's 'working_memory'")
            continue
        n_out = int((~grid.contains(points)).sum())
        n_near = int((~grid.contains(points, -REACH)).sum()) if n_out else 0
        if _STEEPEST * np.finfo(float).eps * grid.length.max() > rtol / 2:
            reasons.add(f"rounds coordinates by more than rtol={rtol:g} allows")
            continue
        cost = n * _COST_OF_ROW[d] + grid.n_cells * _COST_OF_CELL + n_out * n_near
        if cost < least:
            best, least = grid, cost
        if n_out == 0 and grid.n_cells * _COST_OF_CELL < n * _COST_OF_ROW[d]:
            break
    if best is None:
        raise NotResolved(
            f"{' and '.join(sorted(reasons))}, and the bandwidth is too small a part "
            "of the range of the rows for that"
        )
    return best, least


def _boxes(columns, margin):
    """Yield boxes around (d, n) coordinates, as (lower, upper), smaller and smaller."""
    n = columns.shape[1]
    yield columns.min(axis=1) - margin, columns.max(axis=1) + margin
    outside = sorted({int(share * n) for share in _TRIMMED} - {0})
    if not outside:
        return
    order = sorted({k for count in outside for k in (count, n - 1 - count)})
    columns = np.partition(columns, order, axis=1)
    for count in outside:
        yield columns[:, count], columns[:, n - 1 - count]


def _cost_of_exact(points):
    """Return about how many kernels are summed exactly to score (n, d) points.

    A sample is counted: for a few rows the points near enough, at least a few blocks.
    """
    n = points.shape[0]
    near = np.ones((_FEW, len(points[:: -(-n // _MANY)])), dtype=bool)
    some = points[:: -(-n // _FEW)]
    for x, y in zip(some.T, points[:: -(-n // _MANY)].T, strict=True):
        near[: x.size] &= np.abs(x[:, None] - y) < _VISITED
    return n * max(n * near[: len(some)].mean(), _LEAST_ROWS)
