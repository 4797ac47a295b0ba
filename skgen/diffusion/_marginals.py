"""Monotonic maps of single features to nearly normal numbers."""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

# Numbers of bins that are tried, minimum number of values for each bin, number of
# values outside of the outer knots on each side, and minimum width of a bin in standard
# deviations.
_BINS, _PER_BIN, _OUTSIDE, _LEAST_WIDTH = (4, 8, 16, 32, 64, 128), 10, 5, 1e-3

# Number of sweeps over the equations of the slopes.
_SWEEPS = 100

# Fraction of the values that choose the number of bins.
_HELD_OUT = 0.2


@dataclass(frozen=True)
class MarginalSpline:
    """Rational-quadratic spline (Gregory and Delbourgo, 1982), linear outside.

    Knots x and y, and the slopes at the knots: (m,) each.
    """

    x: np.ndarray
    y: np.ndarray
    slope: np.ndarray

    def __call__(self, values):
        """Return the spline of values (n,), and the logarithm of its derivative."""
        inside = np.clip(values, self.x[0], self.x[-1])
        x0, width, y0, s, d0, d1 = self._bin(inside, self.x)
        u = (inside - x0) / width
        v = u * (1 - u)
        below = s + (d0 + d1 - 2 * s) * v
        y = y0 + s * width * (s * u**2 + d0 * v) / below
        slope = d1 * u**2 + 2 * s * v + d0 * (1 - u) ** 2
        log_slope = 2 * np.log(s / below) + np.log(slope)
        # At the outer knots `log_slope` is the logarithm of their slope.
        return y + (values - inside) * np.exp(log_slope), log_slope

    def inverse(self, values):
        """Return the numbers (n,) that the spline maps to the values (n,)."""
        inside = np.clip(values, self.y[0], self.y[-1])
        x0, width, y0, s, d0, d1 = self._bin(inside, self.y)
        rise = inside - y0
        excess = rise * (d0 + d1 - 2 * s)
        a = s * width * (s - d0) + excess
        b = s * width * d0 - excess
        # The root of a u^2 + b u - s rise that lies in [0, 1], without cancellation.
        root = np.sqrt(np.maximum(b**2 + 4 * a * s * rise, 0.0))
        x = x0 + width * 2 * s * rise / (b + root)
        outer = np.where(values < inside, self.slope[0], self.slope[-1])
        return x + (values - inside) / outer

    def _bin(self, values, knots):
        """Return what defines the bin of each value, between `knots` x or y."""
        k = np.clip(np.searchsorted(knots, values, side="right") - 1, 0, knots.size - 2)
        width = self.x[k + 1] - self.x[k]
        s = (self.y[k + 1] - self.y[k]) / width
        return self.x[k], width, self.y[k], s, self.slope[k], self.slope[k + 1]


def line(values):
    """Return the map of values (n,) to mean 0 and standard deviation 1."""
    mean, scale = values.mean(), values.std()
    x, y = np.array([mean - scale, mean + scale]), np.array([-1.0, 1.0])
    return MarginalSpline(x, y, np.full(2, 1 / scale))


def interpolated(values, n_bins):
    """Return the spline through quantiles of values (n,) and of the normal density."""
    farthest = ndtri(_OUTSIDE / values.size)
    y = np.linspace(farthest, -farthest, n_bins + 1)
    x = np.quantile(values, ndtr(y))
    kept, least = [0], _LEAST_WIDTH * values.std()
    for i in range(1, x.size):
        if x[i] >= x[kept[-1]] + least:
            kept.append(i)
    x, y = x[kept], y[kept]
    if x.size < 3:
        return line(values)
    return MarginalSpline(x, y, smooth_slopes(np.diff(x), np.diff(y)))


def smooth_slopes(widths, heights):
    """Return the slopes (m,) at knots for which the second derivative is continuous.

    widths, heights: (m - 1,) of the bins. It is 0 at the outer knots. The equations of
    Delbourgo and Gregory (1983), each a quadratic equation in one slope, are solved in
    turn for every second knot.
    """
    s = heights / widths
    scale = np.pad(1 / (widths * s), 1)  # (m + 1,) of the bins beside each knot
    a = scale[:-1] + scale[1:]
    c = np.pad(s / widths, 1)
    c = c[:-1] + c[1:]
    linear = np.pad(1 / widths, 1)
    linear = linear[:-1] + linear[1:]
    slopes = np.sqrt(c / a)
    for _ in range(_SWEEPS):
        for odd in (0, 1):
            near = np.pad(slopes, 1)
            b = scale[:-1] * near[:-2] + scale[1:] * near[2:] - linear
            new = 2 * c / (b + np.sqrt(b**2 + 4 * a * c))
            slopes[odd::2] = new[odd::2]
    return slopes


def fitted_spline(values, rng):
    """Return the spline of values (n,) whose number of bins held-out values choose."""
    held_out = rng.uniform(size=values.size) < _HELD_OUT
    train, rest = values[~held_out], values[held_out]
    if rest.size < _PER_BIN or train.size < _PER_BIN * _BINS[0]:
        return line(values)
    splines = {0: line(train)} | {
        n_bins: interpolated(train, n_bins)
        for n_bins in _BINS
        if n_bins * _PER_BIN <= train.size
    }
    best = max(splines, key=lambda n_bins: log_density(splines[n_bins], rest).mean())
    return interpolated(values, best) if best else line(values)


def log_density(spline, values):
    """Return the log-density (n,) of values whose spline is standard normal."""
    y, log_slope = spline(values)
    return log_slope - 0.5 * (y**2 + np.log(2 * np.pi))
