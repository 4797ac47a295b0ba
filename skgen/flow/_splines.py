r"""Monotonic rational-quadratic splines (Gregory and Delbourgo, 1982).

A spline maps :math:`[-b, b]` onto itself and is the identity outside. Between two knots
it is a ratio of two quadratic polynomials, whose inverse is the root of a quadratic.
"""

import math

import torch
from torch.nn import functional

# Minimum width and height of a bin, relative to their mean, and minimum slope of the
# spline at a knot.
_LEAST_BIN, _LEAST_SLOPE = 1e-2, 1e-3

# Bound of the logarithms of sizes, whose exponentials float32 can add.
_MOST_RAW = 30.0

# Raw slope for which the spline at a knot has slope 1.
_UNIT_SLOPE = math.log(math.expm1(1 - _LEAST_SLOPE))


def n_parameters(n_bins):
    """Return the number of raw parameters of a spline."""
    return 3 * n_bins - 1


def knots(raw, bound):
    """Return the knots x and y, and the slopes at the knots, each (..., n_bins + 1).

    raw: (..., 3 n_bins - 1); zeros are the identity.
    """
    n_bins = (raw.shape[-1] + 1) // 3
    # For few bins, PyTorch's softmax takes several times as long.
    shares = raw[..., : 2 * n_bins].clamp(-_MOST_RAW, _MOST_RAW).exp()
    shares = shares.unflatten(-1, (2, n_bins))
    shares = shares / shares.sum(-1, keepdim=True)
    sizes = 2 * bound * (_LEAST_BIN / n_bins + (1 - _LEAST_BIN) * shares)
    inner = sizes.cumsum(-1)[..., :-1] - bound  # (..., 2, n_bins - 1)
    x, y = functional.pad(inner, (1, 0), value=-bound).unbind(-2)
    x, y = (functional.pad(part, (0, 1), value=bound) for part in (x, y))
    slopes = _LEAST_SLOPE + functional.softplus(raw[..., 2 * n_bins :] + _UNIT_SLOPE)
    return x, y, functional.pad(slopes, (1, 1), value=1.0)


def _bin(values, borders, *tables):
    """Return the entries of tables (..., m + 1) at both ends of the bin of values."""
    chosen = (values[..., None] >= borders[..., 1:-1]).sum(-1, keepdim=True)
    both = torch.cat([chosen, chosen + 1], dim=-1)
    return [table.gather(-1, both).unbind(-1) for table in tables]


def spline(x, raw, bound):
    """Return the spline of x (...) and its log-derivative (...); raw: (..., p)."""
    inside = x.abs() < bound
    t = torch.where(inside, x, torch.zeros_like(x))
    xs, ys, slopes = knots(raw, bound)
    (x0, x1), (y0, y1), (d0, d1) = _bin(t, xs, xs, ys, slopes)
    width, height = x1 - x0, y1 - y0
    s, u = height / width, (t - x0) / width
    v = u * (1 - u)
    below = s + (d0 + d1 - 2 * s) * v
    y = y0 + height * (s * u.square() + d0 * v) / below
    slope = d1 * u.square() + 2 * s * v + d0 * (1 - u).square()
    log_slope = 2 * (s.log() - below.log()) + slope.log()
    zero = torch.zeros_like(x)
    return torch.where(inside, y, x), torch.where(inside, log_slope, zero)


def inverse_spline(y, raw, bound):
    """Return the x (...) that the spline maps to y (...); raw: (..., p)."""
    inside = y.abs() < bound
    t = torch.where(inside, y, torch.zeros_like(y))
    xs, ys, slopes = knots(raw, bound)
    (x0, x1), (y0, y1), (d0, d1) = _bin(t, ys, xs, ys, slopes)
    width, height = x1 - x0, y1 - y0
    s, rise = height / width, t - y0
    excess = rise * (d0 + d1 - 2 * s)
    # The root of a u^2 + b u + c that lies in [0, 1], without cancellation.
    a, b, c = height * (s - d0) + excess, height * d0 - excess, -s * rise
    root = (b.square() - 4 * a * c).clamp(min=0).sqrt()
    u = 2 * c / (-b - root)
    return torch.where(inside, x0 + u * width, y)
