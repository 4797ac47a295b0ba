"""The choice between exact kernel sums and Fourier transforms within a tolerance."""

import numpy as np

from skgen._lazy import is_installed
from skgen.kde._fourier import (
    BYTES_PER_CELL,
    MOST_FEATURES,
    REACH,
    FourierSum,
    Grid,
    absolute_error,
)
from skgen.kde._kernel_sum import fill_in

# With fewer rows exact sums take milliseconds.
_LEAST_ROWS = 2**13

# Number of rows to estimate the fraction of queries that the transform resolves. The
# cost of exact sums is estimated from a few rows, and the fraction of many rows that
# are within this number of bandwidths.
_VISITED = 12.0
_SOME, _FEW, _MANY = 1024, 64, 2**14

# Minimum ratio of the tolerance to the error of the transform.
_FINEST = 2

# Fractions of the rows that the grid may leave out at each end of each feature.
_TRIMMED = 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 3e-2

# Costs, where the unit is one kernel of an exact sum (about a nanosecond): spreading a
# row and interpolating a query, by the number of features; a cell of the grid.
_COST_OF_ROW = {1: 50, 2: 250, 3: 900}
_COST_OF_CELL = 80

# The transform is chosen if it is estimated to be this many times cheaper.
_WORTH_IT = 2.0

# Maximum slope of the logarithm of a relevant sum, per bandwidth. It amplifies the
# rounding of coordinates.
_STEEPEST = 10.0


class ToleratedSum:
    """Sums by a Fourier transform within the tolerance `rtol`, else exact sums.

    `fourier` takes ``(query - origin) / scale``, with arrays of shape (d,).
    """

    # The method for a query depends on the query and the fit only, not on other
    # queries.

    def __init__(self, exact, fourier, origin, scale, rtol):
        self.exact, self.fourier = exact, fourier
        self.origin, self.scale = origin, scale
        # Smallest sum whose relative error is within half of `rtol`. The rounding of
        # coordinates may take the other half.
        self.least = _FINEST * absolute_error(origin.size) / rtol

    def __call__(self, queries, *, with_mean=False, floor=None, memory=2**27):
        """Return log-sums (m,) and means (m, d) or None, as `KernelSum` does."""
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
        """Return the fraction of (m, d) queries that need no exact sum."""
        units = (queries - self.origin) / self.scale
        inside = self.fourier.grid.contains(units)
        return float((self.fourier(units[inside]) > self.least).sum() / units.shape[0])


class NotResolved(Exception):  # noqa: N818
    """The reason why a transform is not possible within the tolerance."""


def within_tolerance(exact, points, weights, scale, *, rtol, memory, forced, margin):
    """Return `exact` or a `ToleratedSum`, whichever is cheaper within `rtol`.

    `points` (n, d) are in the coordinates of `exact`, `weights` (n,) sum to one, and
    `scale` (d,) is the bandwidth in these coordinates. `forced` asks for the transform
    at any cost, and `margin` is the margin of the grid around the rows in bandwidths.
    """
    # Raises NotResolved if the transform is forced but not possible, or if it is
    # cheaper but finufft is not installed.
    n = points.shape[0]
    if not forced and n < _LEAST_ROWS:
        return exact
    # Close to most rows, so that a few distant rows do not cost digits.
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
    if not is_installed("finufft"):
        raise NotResolved(
            'needs finufft (install it with: pip install "scikit-generative[fourier]")'
        )
    fourier = FourierSum(units, weights, grid)
    tolerated = ToleratedSum(exact, fourier, origin, scale, rtol)
    left = 1.0 - tolerated.resolves(points[:: -(-n // _SOME)])
    if not forced and cost + left * of_exact > at_most:
        return exact
    return tolerated


def _cheapest_grid(points, rtol, memory, margin):
    """Return the cheapest grid around (n, d) points, and its cost in kernels."""
    # Smaller and smaller boxes leave out more and more distant rows, whose exact sums
    # add to the cost: a few outliers do not determine the size of the grid.
    n, d = points.shape
    if d > MOST_FEATURES:
        raise NotResolved(f"takes at most {MOST_FEATURES} features, not {d}")
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
            f"{' and '.join(sorted(reasons))}, because the bandwidth is too small "
            "compared with the range of the rows"
        )
    return best, least


def _boxes(columns, margin):
    """Yield smaller and smaller boxes (lower, upper), (d,) each, of (d, n) columns."""
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
    """Return an estimate of the number of kernels in exact sums at (n, d) points."""
    # The fraction of points near a few rows; exact sums visit at least a few blocks.
    n = points.shape[0]
    near = np.ones((_FEW, len(points[:: -(-n // _MANY)])), dtype=bool)
    some = points[:: -(-n // _FEW)]
    for x, y in zip(some.T, points[:: -(-n // _MANY)].T, strict=True):
        near[: x.size] &= np.abs(x[:, None] - y) < _VISITED
    return n * max(n * near[: len(some)].mean(), _LEAST_ROWS)
