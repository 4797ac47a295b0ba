r"""Monotonic rational-quadratic splines (Gregory and Delbourgo, 1982).

A spline maps :math:`[-b, b]` onto itself and is the identity outside. Between two knots
it is a ratio of two quadratic polynomials, whose inverse is the root of a quadratic.
"""

import math

import torch
from torch.autograd.function import once_differentiable
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


def _bin(values, raw, axis, bound):
    """Return the bin of values, and what its gradient needs.

    values: (...), on axis 0 (x) or 1 (y); raw: (..., 3 n_bins - 1). The bin is its
    start and size (..., 2) in x and y, and the slopes (..., 2) at its ends.
    """
    n_bins = (raw.shape[-1] + 1) // 3
    # For few bins, PyTorch's softmax takes several times as long.
    shares = raw[..., : 2 * n_bins].clamp(-_MOST_RAW, _MOST_RAW).exp_()
    shares = shares.unflatten(-1, (2, n_bins))
    shares /= shares.sum(-1, keepdim=True)
    ends = shares.cumsum(-1)
    # Borders and values as fractions of the interval.
    least = _LEAST_BIN / n_bins
    borders = torch.arange(1, n_bins, dtype=raw.dtype, device=raw.device) * least
    borders = torch.add(borders, ends[..., axis, :-1], alpha=1 - _LEAST_BIN)
    positions = (values + bound) / (2 * bound)
    bins = (positions[..., None] >= borders).sum(-1, keepdim=True)
    both = bins[..., None].expand(*bins.shape[:-1], 2, 1)
    share = shares.gather(-1, both).squeeze(-1)
    before = ends.gather(-1, both).squeeze(-1) - share
    start = 2 * bound * (least * bins.to(raw.dtype) + (1 - _LEAST_BIN) * before) - bound
    size = 2 * bound * (least + (1 - _LEAST_BIN) * share)
    slopes = functional.pad(raw[..., 2 * n_bins :], (1, 1))
    slopes = slopes.gather(-1, torch.cat([bins, bins + 1], dim=-1))
    slopes = _LEAST_SLOPE + functional.softplus(slopes + _UNIT_SLOPE)
    return (start, size, slopes), (shares, share, before, bins)


def _raw_gradient(of_start, of_size, of_slopes, slopes, parts, bound):
    """Return the gradient (..., 3 n_bins - 1) for raw parameters.

    Gradients for start, size and slopes of a bin, and the slopes: (..., 2); `parts` is
    returned by `_bin`. The bound of raw sizes is ignored: beyond it, gradients vanish.
    """
    shares, share, before, bins = parts
    scale = 2 * bound * (1 - _LEAST_BIN)
    of_start, of_size = scale * of_start, scale * of_size
    mean = of_start * before + of_size * share
    numbers = torch.arange(shares.shape[-1], device=shares.device)
    sizes = (numbers < bins[..., None]) * of_start[..., None]
    both = bins[..., None].expand(*bins.shape[:-1], 2, 1)
    sizes.scatter_(-1, both, of_size[..., None])
    sizes.sub_(mean[..., None]).mul_(shares)
    # The derivative of softplus is 1 - exp(-softplus).
    of_slopes = -of_slopes * torch.expm1(_LEAST_SLOPE - slopes)
    ends = shares.new_zeros(*bins.shape[:-1], numbers.numel() + 1)
    ends.scatter_(-1, torch.cat([bins, bins + 1], dim=-1), of_slopes)
    return torch.cat([sizes.flatten(-2), ends[..., 1:-1]], dim=-1)


class _Spline(torch.autograd.Function):
    """The spline and its gradient, by fewer operations than PyTorch would record."""

    @staticmethod
    def forward(ctx, x, raw, bound):
        inside, t = x.abs() < bound, x.clamp(-bound, bound)
        ends, parts = _bin(t, raw, 0, bound)
        (x0, y0), (width, height), (d0, d1) = (pair.unbind(-1) for pair in ends)
        s, u = height / width, (t - x0) / width
        v = u * (1 - u)
        below = s + (d0 + d1 - 2 * s) * v
        ratio = (s * u.square() + d0 * v) / below
        slope = d1 * u.square() + 2 * s * v + d0 * (1 - u).square()
        log_slope = 2 * (s / below).log() + slope.log()
        ctx.save_for_backward(inside, *ends[1:], s, u, v, below, ratio, slope, *parts)
        ctx.bound, zero = bound, torch.zeros_like(x)
        y = y0 + height * ratio
        return torch.where(inside, y, x), torch.where(inside, log_slope, zero)

    @staticmethod
    @once_differentiable
    def backward(ctx, of_y, of_log):
        inside, sizes, slopes, s, u, v, below, ratio, slope, *parts = ctx.saved_tensors
        (width, height), (d0, d1) = sizes.unbind(-1), slopes.unbind(-1)
        outside, of_y, of_log = of_y * ~inside, of_y * inside, of_log * inside
        # Gradients for ratio * below, below and slope, each divided by `below` or
        # `slope`; then for s, u, d0 and d1, on which the three depend.
        top, log_rise = of_y * height / below, of_log / slope
        bottom = top * ratio + 2 * of_log / below
        square, rest, turn = u.square(), (1 - u).square(), 1 - 2 * u
        of_s = top * square - bottom * (1 - 2 * v)
        of_s += 2 * (log_rise * v + of_log / s)
        of_u = top * (2 * s * u + d0 * turn) - bottom * (d0 + d1 - 2 * s) * turn
        of_u += 2 * log_rise * (d1 * u + s * turn - d0 * (1 - u))
        of_d0 = (top - bottom) * v + log_rise * rest
        of_d1 = log_rise * square - bottom * v
        of_x = of_u / width
        of_start = torch.stack([-of_x, of_y], dim=-1)
        of_width = -(of_s * s + of_u * u) / width
        of_size = torch.stack([of_width, of_y * ratio + of_s / width], dim=-1)
        of_slopes = torch.stack([of_d0, of_d1], dim=-1)
        of_raw = _raw_gradient(of_start, of_size, of_slopes, slopes, parts, ctx.bound)
        return outside + of_x, of_raw, None


def spline(x, raw, bound):
    """Return the spline of x (...) and its log-derivative (...); raw: (..., p)."""
    return _Spline.apply(x, raw, bound)


def inverse_spline(y, raw, bound):
    """Return the x (...) that the spline maps to y (...); raw: (..., p)."""
    inside = y.abs() < bound
    t = torch.where(inside, y, torch.zeros_like(y))
    ends, _ = _bin(t, raw, 1, bound)
    (x0, y0), (width, height), (d0, d1) = (pair.unbind(-1) for pair in ends)
    s, rise = height / width, t - y0
    excess = rise * (d0 + d1 - 2 * s)
    # The root of a u^2 + b u + c that lies in [0, 1], without cancellation.
    a, b, c = height * (s - d0) + excess, height * d0 - excess, -s * rise
    root = (b.square() - 4 * a * c).clamp(min=0).sqrt()
    u = 2 * c / (-b - root)
    return torch.where(inside, x0 + u * width, y)
