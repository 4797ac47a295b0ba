r"""Kernel sums in one to three dimensions by fast Fourier transforms.

A sum of unit normal kernels is a convolution, hence a product in frequency: spread the
weights over a grid, transform, multiply by :math:`e^{-\omega^2 / 2}`, transform back,
and interpolate at the queries. Spreading and interpolation use a narrow smooth kernel
:math:`\varphi`, and dividing by its squared transform makes the sums exact to rounding
(Dutt and Rokhlin, 1993; Barnett, Magland and af Klinteberg, 2019, whose library
``finufft`` does the spreading). The cost grows with the number of rows, queries and
grid nodes, not with the number of pairs.

The error is *absolute*, relative to the largest possible sum, 1. Sums that are smaller
than the error divided by the tolerance, in tails and gaps, are computed exactly.
"""

import logging
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.polynomial import Chebyshev
from scipy import fft

from skgen._lazy import cached_property, is_installed, lazy_module
from skgen._threads import lock_across_forks, most_threads, working_memory
from skgen.kde._kernel_sum import fill_in

finufft = lazy_module("finufft", "algorithm='fourier'")

_logger = logging.getLogger(__name__)

_MOST_FEATURES = 3

# At this distance in bandwidths a kernel is negligible: 1e-14 of its peak.
REACH = 8.1

# Step of the grid in bandwidths. Its highest frequency is pi / 0.35 = 9, where the
# transform of the kernel is 1e-17 of its peak.
STEP = 0.35

# The error `eps` makes the spreading kernel 14 steps wide or a little more. The grid
# must be at least twice as wide.
_HALF_WIDTH, _LEAST_STEPS = 8, 32
_SPREADING = {"eps": 1e-13, "upsampfac": 2.0, "spreadinterponly": 1}

# Absolute error of a sum in one dimension: the error measured for a single kernel
# anywhere on the grid, with a margin of two (`test_error_of_one_kernel`). Weights sum
# to one, so no sum has a larger error.
_ERROR = 1.5e-13

# Fewer points are spread and interpolated faster than threads start.
_POINTS_FOR_THREADS = 2**15

# Peak memory for each node of the grid, in bytes: complex values for spreading, real
# values, and half of their spectrum.
BYTES_PER_NODE = 48

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
# row and interpolating a query, by the number of features; a node of the grid.
_COST_OF_ROW = {1: 50, 2: 250, 3: 900}
_COST_OF_NODE = 80

# Threads of SciPy's transforms: a fork in any thread of the process shuts down the pool
# of SciPy, and transforms that use the pool fail.
_WORKERS = 1

# finufft has a lock for all threads. A child that is forked while another thread has it
# would wait for it forever.
_FINUFFT = lock_across_forks()

# The transform is chosen if it is estimated to be this many times cheaper.
_WORTH_IT = 2.0

# Maximum slope of the logarithm of a relevant sum, per bandwidth. It amplifies the
# rounding of coordinates.
_STEEPEST = 10.0


def absolute_error(d):
    """Return the maximum error of a sum in `d` dimensions."""
    # A product of `d` kernels in [0, 1], each with its own error.
    return d * _ERROR


@dataclass(frozen=True)
class Grid:
    """A periodic grid around a box of queries and the rows within reach of the box."""

    lower: np.ndarray  # (d,) corner of the box
    upper: np.ndarray  # (d,) corner of the box
    overhang: np.ndarray  # (d,) distance of rows outside of the box; negative inside

    @property
    def _steps(self):
        # A row outside of one end of the period must not reach in at the other end.
        width = self.upper - self.lower + self.overhang + REACH
        return np.maximum(np.ceil(width / STEP), _LEAST_STEPS)

    @property
    def least_nodes(self):
        """Return a lower bound of the number of nodes, a float that may be infinite."""
        return float(np.prod(self._steps))

    @property
    def shape(self):
        """Return the number of nodes in each dimension."""
        halves = [int(n + 1) // 2 for n in self._steps]
        return tuple(2 * fft.next_fast_len(half, real=True) for half in halves)

    @property
    def n_nodes(self):
        """Return the number of nodes."""
        return int(np.prod(self.shape, dtype=float))

    def contains(self, points, margin=0.0):
        """Return which (n, d) points lie within a margin of the box: (n,)."""
        inside = np.ones(points.shape[0], dtype=bool)
        for x, lower, upper in zip(points.T, self.lower, self.upper, strict=True):
            inside &= (x >= lower - margin) & (x <= upper + margin)
        return inside

    def positions(self, points):
        """Return (n, d) points in steps of the grid, counted from the first node."""
        centre = self.lower + 0.5 * (self.upper - self.lower)
        return (points - centre) / STEP + 0.5 * np.array(self.shape)


class FourierSum:
    """Sums of unit normal kernels on (n, d) points, whose (n,) weights sum to one.

    Queries must lie in the box of `grid`.
    """

    def __init__(self, points, weights, grid):
        self.grid = grid
        near = grid.contains(points, REACH)
        spread = np.zeros(grid.shape)
        if near.any():
            plan = _plan(1, grid.shape, grid.positions(points[near]))
            spread = _executed(plan, weights[near]).reshape(grid.shape)
        # The grid to interpolate: convolved, and corrected for spreading.
        spectrum = fft.rfftn(spread, workers=_WORKERS)
        for axis in range(spread.ndim):
            frequencies = _frequencies(spread.shape, axis)
            spectrum *= _transform_of_kernel(frequencies, spread.ndim)
        self.values = fft.irfftn(spectrum, spread.shape, workers=_WORKERS)

    def __call__(self, queries):
        """Return the sums (m,) at (m, d) queries in the box."""
        (sums,) = self._interpolated([self.values], queries)
        return sums

    def gradient(self, queries):
        """Return the gradients (m, d) of the sum at (m, d) queries."""
        return np.column_stack(self._interpolated(self._slopes, queries))

    @cached_property
    def _slopes(self):
        """Return the grid of the derivative along each axis."""
        shape, grids = self.grid.shape, []
        spectrum = fft.rfftn(self.values, workers=_WORKERS)
        for axis in range(len(shape)):
            slopes = 1j * _frequencies(shape, axis) / STEP
            grids.append(fft.irfftn(spectrum * slopes, shape, workers=_WORKERS))
        return grids

    def _interpolated(self, grids, queries):
        """Return the values (m,) of each grid at (m, d) queries."""
        if queries.shape[0] == 0:
            return [np.empty(0) for _ in grids]
        # Only the part of the grid around the queries is copied: a single query does
        # not need all of it.
        positions = self.grid.positions(queries)
        first = np.floor(positions.min(axis=0)).astype(int) - _HALF_WIDTH
        last = np.ceil(positions.max(axis=0)).astype(int) + _HALF_WIDTH
        window = []
        for j, n in enumerate(self.grid.shape):
            size = max(_LEAST_STEPS, 2 * -(-(last[j] - first[j]) // 2))
            if size >= n:
                first[j], size = 0, n
            window.append(np.arange(first[j], first[j] + size) % n)
        plan = _plan(2, tuple(map(len, window)), positions - first)
        return [_executed(plan, grid[np.ix_(*window)]) for grid in grids]


def _frequencies(shape, axis):
    """Return the frequencies along an axis of a real transform, in radians per step."""
    last = axis == len(shape) - 1
    frequencies = (fft.rfftfreq if last else fft.fftfreq)(shape[axis], 1 / (2 * np.pi))
    return frequencies.reshape([-1 if j == axis else 1 for j in range(len(shape))])


def _transform_of_kernel(frequencies, d):
    """Return the multiplier of a spectrum at frequencies in radians per step."""
    phi = _transform_of_spreading(d)(np.abs(frequencies))
    normal = np.sqrt(2 * np.pi) / STEP * np.exp(-0.5 * (frequencies / STEP) ** 2)
    return normal / phi**2


@cache
def _transform_of_spreading(d):
    """Return the transform of the spreading kernel as a polynomial on [0, pi]."""
    # finufft does not expose the formula of its kernel, which depends on the dimension.
    # Interpolating a grid with a single one returns the values along an axis. The
    # kernel vanishes smoothly at its ends: with 64 values to the step the trapezoidal
    # rule is exact to rounding.
    n, per_step = 32, 64
    reach = 10 * per_step
    offsets = np.arange(-reach, reach + 1) / per_step
    impulse = np.zeros((n,) * d)
    impulse[(n // 2,) * d] = 1.0
    positions = np.full((offsets.size, d), n / 2)
    positions[:, 0] += offsets
    values = _executed(_plan(2, impulse.shape, positions), impulse)
    values /= values[reach] ** ((d - 1) / d) * per_step  # one of d factors
    # The kernel is at most 16 steps wide. Its transform oscillates no faster than a
    # cosine of eight times the frequency, for which a degree of 64 is enough.
    return Chebyshev.interpolate(
        lambda frequency: np.cos(np.multiply.outer(frequency, offsets)) @ values,
        64,
        domain=[0, np.pi],
    )


def _plan(kind, shape, positions):
    """Return a plan to spread (kind 1) or interpolate (kind 2) at (n, d) positions."""
    n_threads = most_threads() if positions.shape[0] >= _POINTS_FOR_THREADS else 1
    columns = zip(positions.T, shape, strict=True)
    angles = [(u - 0.5 * n) * (2 * np.pi / n) for u, n in columns]
    with _FINUFFT:
        plan = finufft.Plan(kind, shape, nthreads=n_threads, **_SPREADING)
        plan.setpts(*angles)
    return plan


def _executed(plan, values):
    """Return the real numbers that a plan makes of values."""
    with _FINUFFT:
        return plan.execute(values + 0j).real


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

    def __call__(
        self, queries, *, with_mean=False, floor=None, without=None, values=None
    ):
        """Return log-sums (m,) and means (m, d) or None, as `KernelSum` does.

        Means are of all points. Means of `values` are exact.
        """
        if values is not None:
            return self.exact(queries, with_mean=with_mean, floor=floor, values=values)
        units = (queries - self.origin) / self.scale  # (m, d)
        log_sum = np.empty(queries.shape[0])
        mean = np.empty(queries.shape) if with_mean else None
        known = self.fourier.grid.contains(units)
        inside = units[known]
        total = self.fourier(inside)
        if without is not None:
            total -= np.exp(self.exact.log_weights[without[known]])
        resolved = total > self.least
        if floor is not None:
            resolved |= self.least < np.exp(floor[known])
        total = np.maximum(total[resolved], np.finfo(float).tiny)
        known[known] = resolved
        log_sum[known] = np.log(total)
        if with_mean:
            slopes = self.fourier.gradient(inside[resolved])
            mean[known] = queries[known] + slopes / total[:, None] * self.scale
        rest = ~known
        fill_in(self.exact, rest, queries, log_sum, mean, floor=floor, without=without)
        return log_sum, mean

    def exponents(self, queries):
        """Return the exponents of (m, d) queries and all points: (m, n)."""
        return self.exact.exponents(queries)


class NotTransformed(Exception):  # noqa: N818
    """The reason why exact sums are better than a transform."""


def tolerated_sum(
    exact, points, weights, scale, *, rtol, margin, forced=False, least_rows=_LEAST_ROWS
):
    """Return a `ToleratedSum`; raise `NotTransformed` unless it is possible and pays.

    `points` (n, d) and the bandwidth `scale` (d,) are in the coordinates of `exact`,
    `weights` (n,) sum to one, and `margin` around the rows is in bandwidths. `forced`
    asks for the transform at any cost, whatever the number of rows.
    """
    if not forced and points.shape[0] < least_rows:
        raise NotTransformed("takes as long for few rows")
    # Close to most rows, so that a few distant rows do not cost digits.
    origin = np.median(_every(points, _SOME), axis=0)
    units = (points - origin) / scale
    grid, cost = _cheapest_grid(units, rtol, margin)
    of_exact = points.shape[0] * kernels_per_query(units)
    most = np.inf if forced else of_exact / _WORTH_IT
    if cost > most:
        raise NotTransformed("takes longer")
    if not is_installed("finufft"):
        install = 'install it with: pip install "scikit-generative[fourier]"'
        _logger.info("GaussianKDE would be faster with finufft (%s)", install)
        raise NotTransformed(f"needs finufft ({install})")
    fourier = FourierSum(units, weights, grid)
    tolerated = ToleratedSum(exact, fourier, origin, scale, rtol)
    some = _every(units, _SOME)
    resolved = fourier(some[grid.contains(some)]) > tolerated.least
    if cost + (1.0 - float(resolved.sum() / some.shape[0])) * of_exact > most:
        raise NotTransformed("takes longer in the tails")
    return tolerated


def _cheapest_grid(points, rtol, margin):
    """Return the cheapest grid around (n, d) points, and its cost in kernels."""
    # Smaller and smaller boxes leave out more and more distant rows, whose exact sums
    # add to the cost: a few outliers do not determine the size of the grid.
    n, d = points.shape
    if d > _MOST_FEATURES:
        raise NotTransformed(f"takes at most {_MOST_FEATURES} features, not {d}")
    finest = _FINEST * absolute_error(d)
    if rtol <= finest:
        reason = f"has errors of up to {finest:.0e}, more than rtol={rtol:g}"
        raise NotTransformed(reason)
    best, least, reasons = None, np.inf, set()
    columns = points.T.copy()
    lowest, highest = columns.min(axis=1), columns.max(axis=1)
    for lower, upper in _shrinking_boxes(columns, margin):
        outside = np.maximum(lower - lowest, highest - upper)  # (d,)
        grid = Grid(lower, upper, np.minimum(outside, REACH))
        if not grid.least_nodes * BYTES_PER_NODE <= working_memory():
            reasons.add("needs a grid that fits scikit-learn's 'working_memory'")
            continue
        if _STEEPEST * np.finfo(float).eps * STEP * max(grid.shape) > rtol / 2:
            reasons.add(f"rounds coordinates by more than rtol={rtol:g} allows")
            continue
        n_out = int((~grid.contains(points)).sum())
        n_near = int((~grid.contains(points, -REACH)).sum()) if n_out else 0
        of_rows, of_grid = n * _COST_OF_ROW[d], grid.n_nodes * _COST_OF_NODE
        cost = of_rows + of_grid + n_out * n_near
        if cost < least:
            best, least = grid, cost
        if n_out == 0 and of_grid < of_rows:
            break
    if best is None:
        raise NotTransformed(
            f"{' and '.join(sorted(reasons))}, because the bandwidth is too small "
            "compared with the range of the rows"
        )
    return best, least


def _shrinking_boxes(columns, margin):
    """Yield smaller and smaller boxes (lower, upper), (d,) each, of (d, n) columns."""
    n = columns.shape[1]
    yield columns.min(axis=1) - margin, columns.max(axis=1) + margin
    outside = sorted({int(fraction * n) for fraction in _TRIMMED} - {0})
    order = sorted({k for count in outside for k in (count, n - 1 - count)})
    columns = np.partition(columns, order, axis=1) if order else columns
    for count in outside:
        yield columns[:, count], columns[:, n - 1 - count]


def kernels_per_query(points):
    """Return an estimate of the kernels in an exact sum at one of (n, d) points."""
    # The fraction of points near a few rows; exact sums visit at least a few cells.
    n, some, many = points.shape[0], _every(points, _FEW), _every(points, _MANY)
    near = np.ones((some.shape[0], many.shape[0]), dtype=bool)
    for x, y in zip(some.T, many.T, strict=True):
        near &= np.abs(x[:, None] - y) < _VISITED
    return max(n * near.mean(), min(n, _LEAST_ROWS))


def _every(points, most):
    """Return up to `most` of (n, d) points, evenly spaced in their order."""
    return points[:: -(-points.shape[0] // most)]
