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

# Number of times in a batch, and minimum number of noisy rows: small batches have each
# row several times.
_TIMES, _NOISY_ROWS = 32, 512

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


def normal_log_density(z):
    """Return the standard normal log-density (n,) of z (n, d)."""
    return -0.5 * (z.square().sum(-1) + z.shape[-1] * math.log(2 * math.pi))


def noisy_loss(velocity, x, e, u, generator=None):
    """Return the loss minus the loss of a velocity of zero, a scalar.

    x, e: rows and noise (t, n, d) at times u (t,), which are uniform.
    """
    # In expectation, it is the integral over u of sin^2 (|v - f|^2 - |v|^2), where f is
    # the estimate of v: the variational bound of -log p(x), minus the bound for f = 0
    # (Kingma et al., 2021).
    of_row, of_noise = (share[:, None, None] for share in shares(u))
    v = x * of_noise - e * of_row
    f = velocity(x * of_row + e * of_noise, u, generator)
    losses = (f * (f - 2 * v)).sum(-1)  # (t, n)
    return (LAST - FIRST) * (of_row[:, :, 0].square() * losses).mean()


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

    is_solved_in_training = True
    work = 0  # one thread: a block stays in the cache of a core

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

    def loss(self, rows, generator):
        """Return the bound of the negative mean log-density of rows (n, d + 1).

        The last column is the log-determinant of the coordinates.
        """
        x, log_det = rows[:, :-1], rows[:, -1]
        n, d = x.shape
        n_each = -(-max(n, _NOISY_ROWS) // _TIMES)
        which = torch.arange(_TIMES * n_each, device=x.device) % n
        noise = {"generator": generator, "dtype": x.dtype, "device": x.device}
        # Stratified times, which lower the variance of the loss.
        u = torch.arange(_TIMES, device=x.device, dtype=x.dtype)
        u = FIRST + (LAST - FIRST) * (u + torch.rand((), **noise)) / _TIMES
        e = torch.randn((_TIMES, n_each, d), **noise)
        many = x[which].view(_TIMES, n_each, d)
        loss = noisy_loss(self, many, e, u, generator)
        return loss - (normal_log_density(x) + log_det).mean()

    def field(self, device, dtype, probes=()):
        """Return a field for `solve`: noisy rows become rows from FIRST to LAST."""

        def field(times):
            u = torch.as_tensor(times, dtype=dtype, device=device)
            of_row, of_noise = shares(u)
            speeds = (of_row * of_noise).tolist()  # dx/du = speed * velocity
            changes = self.changes(u)

            def at(i):
                here = [(factors[i, 0], shifts[i, 0]) for factors, shifts in changes]
                layers = self.at(here)

                def slope(x):
                    v, divergence = with_divergence(x, layers)
                    return v.mul_(speeds[i]), divergence.mul_(speeds[i])

                return slope

            return (at(i) for i in range(len(speeds)))

        return field

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
