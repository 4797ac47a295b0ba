r"""Noisy rows, the network of their velocity and its exact divergence.

A row :math:`x` and noise :math:`e \sim N(0, I)` make the noisy row

.. math:: x_u = \frac{e^u x + e}{\sqrt{1 + e^{2u}}}
              = x \sin\theta + e \cos\theta, \qquad \tan\theta = e^u,

which has unit variance at all times :math:`u` if the row has. Its velocity along
:math:`\theta` is :math:`v = x \cos\theta - e \sin\theta`, and for normal rows
:math:`E[v | x_u] = 0`. The network estimates :math:`E[v | x_u]` (flow matching, Lipman
et al., 2023; the network of Karras et al., 2022, has the same target). The equation
:math:`dx/du = \sin\theta \cos\theta \, v` moves noise to a row.
"""

import math
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

# Times of noise and of rows. A noisy row at the first time is regarded as noise, and at
# the last time as the row.
FIRST, LAST = -3.0, 6.0

# Number of values in the block of rows that stays in the cache.
_BLOCK_VALUES = 2**15

# Number of cosines of the time, and of hidden units of their network.
COSINES, TIME_UNITS = 16, 64


def shares(u):
    """Return the factors of the row and of the noise at times u, each like u."""
    return torch.sigmoid(2 * u).sqrt(), torch.sigmoid(-2 * u).sqrt()


def cosines(u):
    """Return the first cosines (t, k) of a Fourier series of times u (t,)."""
    phase = math.pi * (u - FIRST) / (LAST - FIRST)
    numbers = torch.arange(1, COSINES + 1, dtype=u.dtype, device=u.device)
    return torch.cos(phase[:, None] * numbers)


def trace_of_product(weights, slopes):
    """Return the trace (n,) of the Jacobian of a network for each of n inputs.

    The Jacobian is the product of the weights (h_1, d), (h_2, h_1), ..., (d, h_L), each
    but the last with its rows multiplied by slopes (n, h_1), (n, h_2), ..., (n, h_L).
    """
    first, *between, last = weights
    if not between:
        return slopes[0] @ (first * last.T).sum(1)
    if len(between) == 1:
        # A sum over pairs of hidden units: no Jacobian (d, h) of a row is needed.
        pairs = between[0] * (first @ last).T  # (h_2, h_1)
        return ((slopes[0] @ pairs.T) * slopes[1]).sum(1)
    columns = slopes[0][:, :, None] * first  # (n, h_1, d)
    for weight, slope in zip(between, slopes[1:], strict=True):
        columns = slope[:, :, None] * (weight @ columns)
    return (columns * last.T).sum((1, 2))


class Velocity(nn.Module):
    """Network of the velocity, zero at the start.

    The time multiplies and shifts the inputs of the hidden units.
    """

    def __init__(self, d, hidden, dropout):
        super().__init__()
        self.dropout = dropout
        sizes = [d, *hidden, d]
        # The type is given: the caller may have set another default.
        self.layers = nn.ModuleList(
            nn.Linear(n_in, n_out, dtype=torch.float32)
            for n_in, n_out in pairwise(sizes)
        )
        self.time = nn.Linear(COSINES, TIME_UNITS, dtype=torch.float32)
        self.change = nn.Linear(TIME_UNITS, 2 * sum(hidden), dtype=torch.float32)
        for layer in (self.layers[-1], self.change):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    @property
    def block(self):
        """Number of rows that stay in the cache."""
        return max(1, _BLOCK_VALUES // max(*self.layers[0].weight.shape))

    def changes(self, u):
        """Return factors and shifts (t, 1, h) of the hidden units at times u (t,).

        They are pairs, one for each hidden layer.
        """
        sizes = [layer.out_features for layer in self.layers[:-1]]
        changes = self.change(functional.silu(self.time(cosines(u))))[:, None]
        factors, shifts = changes.tensor_split(2, dim=2)
        return list(
            zip((1 + factors).split(sizes, 2), shifts.split(sizes, 2), strict=True)
        )

    def forward(self, x, u, generator=None):
        """Return the velocity (t, n, d) of noisy rows (t, n, d) at times u (t,)."""
        *hidden, last = self.layers
        for layer, (factor, shift) in zip(hidden, self.changes(u), strict=True):
            x = functional.silu(torch.addcmul(shift, layer(x), factor))
            if self.training and self.dropout:
                # One draw for all rows of a time takes no time.
                kept = x.new_empty(x.shape[0], 1, x.shape[2])
                kept.bernoulli_(1 - self.dropout, generator=generator)
                x = x * (kept / (1 - self.dropout))
        return last(x)

    def at(self, changes):
        """Return weights and biases of all layers at a time, pairs.

        changes: pairs of factors and shifts (h,) at this time.
        """
        *hidden, last = self.layers
        moved = [
            (factor[:, None] * layer.weight, factor * layer.bias + shift)
            for layer, (factor, shift) in zip(hidden, changes, strict=True)
        ]
        return [*moved, (last.weight, last.bias)]


def with_divergence(x, layers):
    """Return the velocity (n, d) of rows (n, d), and its divergence (n,).

    layers: pairs of weights and biases at the time of the rows, see `Velocity.at`.
    """
    *hidden, last = layers
    slopes, one = [], x.new_ones(1)
    for weight, bias in hidden:
        a = functional.linear(x, weight, bias)
        s = torch.sigmoid(a)
        x = a.mul_(s)  # silu, whose derivative is x + s (1 - x)
        slopes.append(torch.lerp(x, one, s))
    divergence = trace_of_product([weight for weight, _ in layers], slopes)
    return functional.linear(x, *last), divergence
