r"""Kernel sums in one to three dimensions by fast Fourier transforms.

A sum of unit normal kernels is a convolution, hence a product in frequency: spread the
weights over a grid, transform, multiply by :math:`e^{-\omega^2 / 2}`, transform back,
and interpolate at the queries. Spreading and interpolation use a narrow smooth kernel
:math:`\varphi`, and dividing by its squared transform makes the sums exact to rounding
(Dutt and Rokhlin, 1993; Barnett, Magland and af Klinteberg, 2019, whose library
``finufft`` does the spreading). The cost grows with the number of rows, queries and
grid cells, not with the number of pairs.

The error is *absolute*, relative to the largest possible sum, 1. Sums that are smaller
than the error divided by the tolerance, in tails and gaps, are computed exactly.
"""

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.polynomial import Chebyshev
from scipy import fft

from skgen._lazy import lazy_module
from skgen._threads import most_threads

finufft = lazy_module("finufft", "algorithm='fourier'")

# Maximum number of features.
MOST_FEATURES = 3

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

# Peak memory for each cell of the grid, in bytes: complex values for spreading, real
# values, and half of their spectrum.
BYTES_PER_CELL = 48


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
    def least_cells(self):
        """Return a lower bound of the number of cells, a float that may be infinite."""
        return float(np.prod(self._steps))

    @property
    def shape(self):
        """Return the number of cells in each dimension."""
        halves = [int(n + 1) // 2 for n in self._steps]
        return tuple(2 * fft.next_fast_len(half, real=True) for half in halves)

    @property
    def _steps(self):
        # A row outside of one end of the period must not reach in at the other end.
        width = self.upper - self.lower + self.overhang + REACH
        return np.maximum(np.ceil(width / STEP), _LEAST_STEPS)

    @property
    def length(self):
        """Return the period in each dimension: (d,)."""
        return STEP * np.array(self.shape)

    @property
    def n_cells(self):
        """Return the number of cells."""
        return int(np.prod(self.shape, dtype=float))

    def contains(self, points, margin=0.0):
        """Return which (n, d) points lie within a margin of the box: (n,)."""
        inside = np.ones(points.shape[0], dtype=bool)
        for x, lower, upper in zip(points.T, self.lower, self.upper, strict=True):
            inside &= (x >= lower - margin) & (x <= upper + margin)
        return inside

    def cells(self, points):
        """Return (n, d) points in units of cells, counted from the first cell."""
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
            plan = _plan(1, grid.shape, grid.cells(points[near]))
            spread = plan.execute(weights[near] + 0j).real.reshape(grid.shape)
        self.values = self._convolved(spread)

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
        spectrum = fft.rfftn(self.values, workers=most_threads())
        for axis in range(len(shape)):
            slopes = 1j * _frequencies(shape, axis) / STEP
            grids.append(fft.irfftn(spectrum * slopes, shape, workers=most_threads()))
        return grids

    def _interpolated(self, grids, queries):
        """Return the values (m,) of each grid at (m, d) queries."""
        if queries.shape[0] == 0:
            return [np.empty(0) for _ in grids]
        # Only the part of the grid around the queries is copied: a single query does
        # not need all of it.
        cells = self.grid.cells(queries)
        first = np.floor(cells.min(axis=0)).astype(int) - _HALF_WIDTH
        last = np.ceil(cells.max(axis=0)).astype(int) + _HALF_WIDTH
        window = []
        for j, n in enumerate(self.grid.shape):
            size = max(_LEAST_STEPS, 2 * -(-(last[j] - first[j]) // 2))
            if size >= n:
                first[j], size = 0, n
            window.append(np.arange(first[j], first[j] + size) % n)
        plan = _plan(2, tuple(map(len, window)), cells - first)
        return [plan.execute(grid[np.ix_(*window)] + 0j).real for grid in grids]

    def _convolved(self, spread):
        """Return the grid to interpolate: convolved, and corrected for spreading."""
        spectrum = fft.rfftn(spread, workers=most_threads())
        for axis in range(spread.ndim):
            frequencies = _frequencies(spread.shape, axis)
            spectrum *= _transform_of_kernel(frequencies, spread.ndim)
        return fft.irfftn(spectrum, spread.shape, workers=most_threads())


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
    # The kernel is at most 16 steps wide. Its transform oscillates no faster than a
    # cosine of eight times the frequency, for which a degree of 64 is enough.
    offsets, values = _spreading_kernel(d)
    return Chebyshev.interpolate(
        lambda frequency: np.cos(np.multiply.outer(frequency, offsets)) @ values,
        64,
        domain=[0, np.pi],
    )


@cache
def _spreading_kernel(d):
    """Return the spreading kernel as offsets in steps and weights of a quadrature."""
    # finufft does not expose the formula of its kernel, which depends on the dimension.
    # Interpolating a grid with a single one returns the values along an axis. The
    # kernel vanishes smoothly at its ends: with 64 values to the step the trapezoidal
    # rule is exact to rounding.
    n, per_step = 32, 64
    reach = 10 * per_step
    offsets = np.arange(-reach, reach + 1) / per_step
    impulse = np.zeros((n,) * d, dtype=complex)
    impulse[(n // 2,) * d] = 1.0
    plan = finufft.Plan(2, impulse.shape, nthreads=1, **_SPREADING)
    others = [np.zeros(offsets.size)] * (d - 1)
    plan.setpts(offsets * (2 * np.pi / n), *others)
    values = plan.execute(impulse).real  # along one axis, times the peak of the others
    return offsets, values / values[reach] ** ((d - 1) / d) / per_step


def _plan(kind, shape, cells):
    """Return a plan to spread (kind 1) or interpolate (kind 2) at (n, d) cells."""
    n_threads = most_threads() if cells.shape[0] >= _POINTS_FOR_THREADS else 1
    plan = finufft.Plan(kind, shape, nthreads=n_threads, **_SPREADING)
    columns = zip(cells.T, shape, strict=True)
    plan.setpts(*[(u - 0.5 * n) * (2 * np.pi / n) for u, n in columns])
    return plan
