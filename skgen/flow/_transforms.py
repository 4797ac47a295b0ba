"""Masked networks and the flow that they parametrise."""

import torch
from torch import nn
from torch.nn import functional

from skgen.autoencoder._prior import NormalMixture, log_components
from skgen.flow._splines import inverse_spline, n_parameters, spline
from skgen.neural._net import LossModule


class MaskedLinear(nn.Linear):
    """Linear layer with some of its weights fixed at zero; mask: (n_out, n_in)."""

    def __init__(self, mask):
        super().__init__(*mask.T.shape, dtype=torch.float32)
        self.register_buffer("mask", mask)

    def forward(self, x):
        return functional.linear(x, self.weight * self.mask, self.bias)


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
            layers += [nn.ReLU(), nn.Dropout(dropout)] if dropout else [nn.ReLU()]
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
    """Negative mean log-density of rows (n, d') in the coordinates of the flow.

    The base is a `NormalMixture` of d' features. Its weights are trained as well.
    """

    def __init__(self, transforms, base):
        super().__init__()
        self.transforms = nn.ModuleList(transforms)
        self.logits = nn.Parameter(base.weights.log())
        self.register_buffer("means", base.means)
        self.register_buffer("factors", base.factors)
        self.register_buffer("scales", base.log_scales - base.weights.log())

    def base(self):
        """Return the base, with the trained weights, in double precision."""
        factors = self.factors.detach().double().cpu()
        weights = self.logits.detach().double().cpu().softmax(0)
        return NormalMixture(weights, self.means.cpu(), factors @ factors.mT)

    def base_log_density(self, z):
        """Return the log-density (n,) of the base at z (n, d')."""
        scales = self.scales + self.logits.log_softmax(0)
        return log_components(z, self.means, self.factors, scales).logsumexp(1)

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
        return self.base_log_density(z) + log_det

    def forward(self, x):
        return -self.log_density(x).mean()


def build_transforms(d, n_transforms, autoregressive, *options):
    """Return transforms of d features, with their order reversed in turn."""
    rank = torch.arange(d) if autoregressive else torch.arange(d) % 2
    return [
        Transform(rank.flip(0) if i % 2 else rank, *options)
        for i in range(n_transforms if d else 0)
    ]
