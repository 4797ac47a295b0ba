"""Masked networks and the flow that they parametrise."""

import math

import torch
from torch import nn
from torch.nn import functional

from skgen.flow._splines import inverse_spline, n_parameters, spline
from skgen.neural._net import LossModule


class MaskedLinear(nn.Linear):
    """Linear layer with some of its weights fixed at zero; mask: (n_out, n_in)."""

    def __init__(self, mask):
        super().__init__(*mask.T.shape, dtype=torch.float32)
        self.register_buffer("mask", mask)

    def forward(self, x):
        return functional.linear(x, self.weight * self.mask, self.bias)


class Dropout(nn.Module):
    """Omission of units with probability `p`, by the generator of the fit.

    PyTorch's own layer draws from a global generator, and the engine then needs a
    context that makes each operation slower.
    """

    generator = None

    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, x):
        if not self.training:
            return x
        u = torch.rand(
            x.shape, dtype=x.dtype, device=x.device, generator=self.generator
        )
        return x * u.ge_(self.p).div_(1 - self.p)


class Transform(nn.Module):
    """Splines of the features, each with parameters from features of a lower rank.

    rank: (d,) with values 0, 1, ...; two ranks make a coupling, d ranks make an
    autoregressive transform. The initial transform is the identity.
    """

    def __init__(self, rank, hidden, n_bins, bound, dropout):
        super().__init__()
        self.bound, self.n_ranks = bound, int(rank.max()) + 1
        self.register_buffer("rank", rank)
        n_out = n_parameters(n_bins)
        self.free = nn.Parameter(torch.zeros(rank.numel(), n_out))
        layers, before = [], rank
        for size in hidden:
            # A hidden unit of rank r uses features of ranks up to r.
            units = torch.arange(size) % max(1, self.n_ranks - 1)
            layers.append(MaskedLinear((before <= units[:, None]).float()))
            layers += [nn.ReLU(), Dropout(dropout)] if dropout else [nn.ReLU()]
            before = units
        mask = (before < rank[:, None]).float().repeat_interleave(n_out, dim=0)
        last = MaskedLinear(mask)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(*layers, last)

    def raw(self, x):
        """Return the raw parameters (n, d, p) of the splines of x (n, d)."""
        return self.network(x).view(*x.shape, -1) + self.free

    def forward(self, x):
        """Return the transformed x (n, d) and the log-determinants (n,)."""
        y, log_slope = spline(x, self.raw(x), self.bound)
        return y, log_slope.sum(-1)

    def inverse(self, y):
        """Return the x (n, d) that is transformed to y (n, d)."""
        x = y
        for _ in range(self.n_ranks):  # each pass completes the features of a rank
            x = inverse_spline(y, self.raw(x), self.bound)
        return x


class Flow(LossModule):
    """Transforms of rows (n, d') to standard normal latents.

    The loss is the negative mean log-density. Rows in training have one more column,
    which is added to their log-density.
    """

    def __init__(self, transforms):
        super().__init__()
        self.transforms = nn.ModuleList(transforms)
        # Without a feature that varies there is nothing to train, and optimisers need
        # a parameter.
        self.unused = None if transforms else nn.Parameter(torch.zeros(()))

    def begin(self, rows):
        for module in self.modules():
            if isinstance(module, Dropout):
                module.generator = self.generator

    def latents(self, x):
        """Return the latents (n, d') of rows and the log-determinants (n,)."""
        log_det = x.new_zeros(x.shape[0])
        for transform in self.transforms:
            x, more = transform(x)
            log_det = log_det + more
        return x, log_det

    def rows(self, z):
        """Return the rows (n, d') of latents (n, d')."""
        for transform in reversed(self.transforms):
            z = transform.inverse(z)
        return z

    def log_density(self, x):
        """Return the log-density (n,) of rows (n, d')."""
        z, log_det = self.latents(x)
        return log_det - 0.5 * (z.square() + math.log(2 * math.pi)).sum(-1)

    def forward(self, x):
        loss = -(self.log_density(x[:, :-1]) + x[:, -1]).mean()
        return loss if self.unused is None else loss + 0 * self.unused


def build_transforms(d, n_transforms, autoregressive, *options):
    """Return transforms of d features, with their order reversed in turn."""
    rank = torch.arange(d) if autoregressive else torch.arange(d) % 2
    return [
        Transform(rank.flip(0) if i % 2 else rank, *options)
        for i in range(n_transforms if d else 0)
    ]
