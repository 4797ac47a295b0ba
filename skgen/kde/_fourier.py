r"""Sums over kernels in one to three dimensions by fast Fourier transforms.

A sum of unit normal kernels is a convolution, a product in frequency: spread the
weights over a grid, transform, multiply by :math:`e^{-\omega^2 / 2}`, transform back,
and interpolate at the queries. Spreading and interpolating with a narrow smooth kernel
:math:`\varphi` and dividing by its squared transform makes that as exact as rounding
(Dutt and Rokhlin, 1993; Barnett, Magland and af Klinteberg, 2019, whose library
``finufft`` does the spreading). The cost is that of the rows and of the grid, not of
their pairs.

The error is *absolute*: of the largest possible sum, 1. Where sums are smaller than the
error over the tolerance, in tails and holes, exact sums serve.
"""

from dataclasses import dataclass
from functools import cache, cached_property
from importlib.util import find_spec

import numpy as np
from numpy.polynomial import Chebyshev
from scipy import fft

from skgen._threads import most_threads

# The most features.
MOST_FEATURES = 3

# A kernel is nothing, 1e-14 of its peak, so many standard deviations away.
REACH = 8.1

# The step of the grid in standard deviations of the kernel. Its highest frequency is
# pi / 0.35 = 9, where the transform of the kernel is 1e-17 of its peak.
STEP = 0.35

# The width of the spreading kernel, asked for by its error: 14 steps, or a little
# more. A grid has to be twice as wide.
_HALF_WIDTH, _LEAST_STEPS = 8, 32
_SPREADING = {"eps": 1e-13, "upsampfac": 2.0, "spreadinterponly": 1}

# The absolute error of a sum in one dimension, as measured for a single kernel
# anywhere on the grid, with a margin of two (`test_error_of_one_kernel`). Weights sum
# to one, and so the error of every sum is no larger.
_ERROR = 1.5e-13

# Fewer points are spread and interpolated before threads have started.
_POINTS_FOR_THREADS = 2**15

# Bytes for each cell of the grid at the worst moment: complex values to spread on, and
# the real ones and half their spectrum before and after.
BYTES_PER_CELL = 48


def is_installed():
    """Tell whether finufft can be imported."""
    return find_spec("finufft") is not None


def absolute_error(d):
    """Return the most that a sum in `d` dimensions is wrong by."""
    # A product of `d` kernels in [0, 1], each with its error.
    return d * _ERROR


@dataclass(frozen=True)
class Grid:
    """A periodic grid around a box: queries lie in it, rows as far around as reach."""

    lower: np.ndarray  # (d,) of the box
    upper: np.ndarray  # (d,)
    overhang: np.ndarray  # (d,) how far rows lie outside; negative: inside

    @property
    def least_cells(self):
        """Return how many cells there are at least, a float that may be infinite."""
        return float(np.prod(self._steps))

    @property
    def shape(self):
        """Return the number of cells in each dimension."""
        halves = [int(n + 1) // 2 for n in self._steps]
        return tuple(2 * fft.next_fast_len(half, real=True) for half in halves)

    @property
    def _steps(self):
        # A row that lies outside on one side must not reach in from the other.
        width = self.upper - self.lower + self.overhang + REACH
        return np.maximum(np.ceil(width / STEP), _LEAST_STEPS)

    @property
    def length(self):
        """Return the period in each dimension, (d,)."""
        return STEP * np.array(self.shape)

    @property
    def n_cells(self):
        """Return the number of cells."""
        return int(np.prod(self.shape, dtype=float))

    def contains(self, points, margin=0.0):
        """Tell which of (n, d) points lie in the box and a margin around it."""
        inside = np.ones(points.shape[0], dtype=bool)
        for x, lower, upper in zip(points.T, self.lower, self.upper, strict=True):
            inside &= (x >= lower - margin) & (x <= upper + margin)
        return inside

    def cells(self, points):
        """Return where (n, d) points lie, counted in cells from the first one."""
        centre = self.lower + 0.5 * (self.upper - self.lower)
        return (points - centre) / STEP + 0.5 * np.array(self.shape)


class FourierSum:
    r"""Sums of unit normal kernels over weighted points, by Fourier transforms.

    Parameters
    ----------
    points : ndarray of shape (n, d)
        The centres, in units of the kernel.
    weights : ndarray of shape (n,)
        Their weights; they sum to one.
    grid : Grid
        Where queries are answered.
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
        """Return the sum at each of (m, d) queries in the box, (m,)."""
        (sums,) = self._interpolated([self.values], queries)
        return sums

    def gradient(self, queries):
        """Return the gradient of the sum at each of (m, d) queries, (m, d)."""
        return np.column_stack(self._interpolated(self._slopes, queries))

    @cached_property
    def _slopes(self):
        """Return the values of the derivative along each axis, when first needed."""
        shape, grids = self.grid.shape, []
        spectrum = fft.rfftn(self.values, workers=most_threads())
        for axis in range(len(shape)):
            slopes = 1j * _frequencies(shape, axis) / STEP
            grids.append(fft.irfftn(spectrum * slopes, shape, workers=most_threads()))
        return grids

    def _interpolated(self, grids, queries):
        """Return the values at (m, d) queries of each of some grids, (m,) each."""
        if queries.shape[0] == 0:
            return [np.empty(0) for _ in grids]
        # Of the part of the grid around the queries: one row takes no whole grid.
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
        """Return the values to interpolate: of the sum, less what smoothing does."""
        spectrum = fft.rfftn(spread, workers=most_threads())
        for axis in range(spread.ndim):
            frequencies = _frequencies(spread.shape, axis)
            spectrum *= _transform_of_kernel(frequencies, spread.ndim)
        return fft.irfftn(spectrum, spread.shape, workers=most_threads())


def _frequencies(shape, axis):
    """Return frequencies in radians per step, along one axis of a real transform."""
    last = axis == len(shape) - 1
    frequencies = (fft.rfftfreq if last else fft.fftfreq)(shape[axis], 1 / (2 * np.pi))
    return frequencies.reshape([-1 if j == axis else 1 for j in range(len(shape))])


def _transform_of_kernel(frequencies, d):
    """Return what a spectrum is multiplied by, for frequencies in radians per step."""
    phi = _transform_of_spreading(d)(np.abs(frequencies))
    normal = np.sqrt(2 * np.pi) / STEP * np.exp(-0.5 * (frequencies / STEP) ** 2)
    return normal / phi**2


@cache
def _transform_of_spreading(d):
    """Return the transform of the spreading kernel as a polynomial on [0, pi].

    The transform of what is no wider than 16 steps oscillates no faster than a cosine
    of eight times the frequency, for which a degree of 64 is enough.
    """
    offsets, values = _spreading_kernel(d)
    return Chebyshev.interpolate(
        lambda frequency: np.cos(np.multiply.outer(frequency, offsets)) @ values,
        64,
        domain=[0, np.pi],
    )


@cache
def _spreading_kernel(d):
    """Return the spreading kernel as offsets in steps and the weights of a quadrature.

    It vanishes at its ends with all that a sum of 64 values to the step can see, which
    makes the trapezoidal rule exact to rounding. finufft alone knows its formula, and
    chooses it by the dimension: it is asked for the values along one axis, by
    interpolating a grid with a single one.
    """
    import finufft

    n, per_step = 32, 64
    reach = 10 * per_step
    offsets = np.arange(-reach, reach + 1) / per_step
    impulse = np.zeros((n,) * d, dtype=complex)
    impulse[(n // 2,) * d] = 1.0
    plan = finufft.Plan(2, impulse.shape, nthreads=1, **_SPREADING)
    others = [np.zeros(offsets.size)] * (d - 1)
    plan.setpts(offsets * (2 * np.pi / n), *others)
    values = plan.execute(impulse).real  # those of one axis, times the peak of others
    return offsets, values / values[reach] ** ((d - 1) / d) / per_step


def _plan(kind, shape, cells):
    """Return a plan that spreads from (kind 1) or interpolates at (kind 2) cells."""
    import finufft

    n_threads = most_threads() if cells.shape[0] >= _POINTS_FOR_THREADS else 1
    plan = finufft.Plan(kind, shape, nthreads=n_threads, **_SPREADING)
    columns = zip(cells.T, shape, strict=True)
    plan.setpts(*[(u - 0.5 * n) * (2 * np.pi / n) for u, n in columns])
    return plan
