"""Modes of the posteriors of latents, by damped Gauss-Newton steps."""

import math
from typing import NamedTuple

import torch

# Limits of a block: entries of its largest array, its rows, and its rows times the
# weights of the network. The last one is there because a block is padded: even a single
# row costs a whole block.
BLOCK_ENTRIES, BLOCK_ROWS, BLOCK_WORK = 2**20, 2048, 2**23

# Largest latent dimension for which Jacobians are cheap.
LOW_DIMENSION = 2

# Number of chord steps, which reuse the last curvature, after each Gauss-Newton step.
_CHORDS = 2

# Step sizes to try if the full Gauss-Newton step gains too little.
_STEP_SIZES = (0.5, 0.25, 0.1, 0.02)

# Iteration ends when the predicted gain of a step falls below this, in nats.
_TOLERANCE = 1e-4

# Modes within this squared distance, in the metric of the curvature, are duplicates.
_SAME_MODE = 0.25


def by_blocks(function, size, *parts):
    """Apply `function` to arrays (n, ...) in padded blocks of `size` rows.

    Return its output (n, ...), or the list of its outputs.
    """
    # The rounding of a matrix product depends on its size. With blocks of equal size,
    # the result for a row depends on the other rows in the last bit at most.
    blocks = []
    for start in range(0, parts[0].shape[0], size):
        block = [part[start : start + size] for part in parts]
        missing = size - block[0].shape[0]
        if missing:
            block = [
                torch.cat([part, part[:1].expand(missing, *part.shape[1:])])
                for part in block
            ]
        answer = function(*block)
        single = isinstance(answer, torch.Tensor)
        answers = (answer,) if single else answer
        blocks.append([part[: size - missing] for part in answers])
    joined = [torch.cat(part) for part in zip(*blocks, strict=True)]
    return joined[0] if single else joined


class Modes(NamedTuple):
    """Modes, their log-evidence by Laplace's method, and their curvature factors."""

    z: torch.Tensor  # (n, M, k)
    log_evidence: torch.Tensor  # (n, M)
    factors: torch.Tensor  # (n, M, k, k), lower triangular


class Ascents:
    """Latents z (n, S, k) that ascend to modes of the posteriors of rows x (n, d')."""

    def __init__(self, posterior, x, z, component=None, value=None):
        self.posterior, self.x, self.z = posterior, x, z.contiguous()
        n, n_starts, k = z.shape
        self.size = posterior.ascents_in_block(k)
        self.row = torch.arange(n).repeat_interleave(n_starts)
        if component is None:
            component = by_blocks(
                lambda z: posterior.prior.log_components(z).argmax(dim=1),
                self.size,
                self.z.view(-1, k),
            ).view(n, n_starts)
        self.component = component
        if value is None:
            value = self._blocks(self._joint, slice(None)).view(n, n_starts)
        self.value = value  # (n, S)

    def chosen(self, starts):
        """Return the ascents with the indices `starts` (n, S')."""
        row = torch.arange(starts.shape[0])[:, None]
        parts = (self.z, self.component, self.value)
        return Ascents(self.posterior, self.x, *(part[row, starts] for part in parts))

    def joined(self, others):
        """Return these ascents and `others` of the same rows."""
        parts = zip(
            (self.z, self.component, self.value),
            (others.z, others.component, others.value),
            strict=True,
        )
        both = (torch.cat(part, dim=1) for part in parts)
        return Ascents(self.posterior, self.x, *both)

    def climb(self, n_steps):
        """Take `n_steps` damped Gauss-Newton steps with chord steps between them."""
        active = torch.arange(self.row.numel())
        chords = _CHORDS if self.z.shape[2] > LOW_DIMENSION else 0
        for _ in range(n_steps):
            active, factors = self._move(self._step, active)
            for _ in range(chords):
                if active.numel():
                    active, factors = self._move(self._chord, active, factors)
            if not active.numel():
                return

    def _move(self, step, active, *factors):
        """Take a step; return the ascents that go on, and their factors."""
        value = self.value.view(-1)
        z, value[active], going, factors = self._blocks(
            step, active, value[active], *factors
        )
        self.z.view(-1, z.shape[1])[active] = z
        return active[going], factors[going]

    def laplace(self):
        """Return the `Modes`, best first; duplicates have a log-evidence of -inf."""
        n, n_starts, k = self.z.shape
        L, log_dets = self._blocks(self._curvature, slice(None))
        log_dets = log_dets.view(n, n_starts)
        log_evidence = self.value + 0.5 * k * math.log(2 * math.pi) - log_dets
        order = log_evidence.argsort(dim=1, descending=True, stable=True)
        best = torch.arange(n)[:, None], order
        z, component = self.z[best], self.component[best]
        L, log_evidence = L.view(n, n_starts, k, k)[best], log_evidence[best]
        for later in range(1, n_starts):
            offsets = z[:, later : later + 1] - z[:, :later]  # (n, later, k)
            white = (offsets[..., None, :] @ L[:, :later])[..., 0, :]
            same = white.square().sum(-1) < _SAME_MODE
            same &= component[:, later : later + 1] == component[:, :later]
            same &= log_evidence[:, :later] > -math.inf
            log_evidence[same.any(dim=1), later] = -math.inf
        return Modes(z, log_evidence, L)

    def _blocks(self, function, ascents, *parts):
        """Apply a function of rows, latents, components and `parts` to ascents."""
        return by_blocks(
            lambda row, *parts: function(self.x[row], *parts),
            self.size,
            self.row[ascents],
            self.z.view(-1, self.z.shape[2])[ascents],
            self.component.reshape(-1)[ascents],
            *parts,
        )

    def _joint(self, x, z, component):
        """Return log p(x | z) plus the log-density of the weighted component: (n,)."""
        prior = self.posterior.prior
        a = self.posterior.decode(z)
        white = self._white(z, component)
        log_p = self.posterior.likelihood.log_density(x, a)
        return log_p + prior.log_scales[component] - 0.5 * white.square().sum(-1)

    def _white(self, z, component):
        prior = self.posterior.prior
        centred = (z - prior.means[component])[:, None]
        return (centred @ prior.factors[component])[:, 0]

    def _linear(self, x, z, component):
        """Return gradient (n, k) and curvature (n, k, k) of the joint log-density."""
        prior, likelihood = self.posterior.prior, self.posterior.likelihood
        a, J = self.posterior.decode_with_jacobian(z)  # (n, d), (n, k, d)
        white = self._white(z, component)[..., None]
        slope = (J @ likelihood.slope(x, a)[..., None])[..., 0]
        slope = slope - (prior.factors[component] @ white)[..., 0]
        weighted = J * likelihood.curvature(x, a)[:, None]
        return slope, weighted @ J.mT + prior.precisions[component]

    def _step(self, x, z, component, value):
        """Return latents, values, whether to continue, and curvature factors."""
        slope, H = self._linear(x, z, component)
        factors = cholesky(H)
        step = torch.cholesky_solve(slope[..., None], factors)[..., 0]
        promised = (slope * step).sum(-1)
        project = self.posterior.prior.project
        new = project(z + step)
        best = self._joint(x, new, component)
        # Comparisons with NaN are false, so that a NaN is never accepted.
        enough = best - value > 0.2 * promised
        best = torch.where(best > value, best, value)
        new = torch.where((best > value)[:, None], new, z)
        if not enough.all():
            for size in _STEP_SIZES:
                shorter = project(z + size * step)
                reached = self._joint(x, shorter, component)
                better = (reached > best) & ~enough
                best = torch.where(better, reached, best)
                new = torch.where(better[:, None], shorter, new)
        going = (promised > _TOLERANCE) & (best > value)
        return new, best, going, factors

    def _chord(self, x, z, component, value, factors):
        """Return the values of `_step` for a step with the given curvature factors."""
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            total = self._joint(x, z, component).sum()
            (slope,) = torch.autograd.grad(total, z)
        z = z.detach()
        step = torch.cholesky_solve(slope[..., None], factors)[..., 0]
        new = self.posterior.prior.project(z + step)
        reached = self._joint(x, new, component)
        better = reached > value
        new = torch.where(better[:, None], new, z)
        going = (slope * step).sum(-1) > _TOLERANCE
        return new, torch.where(better, reached, value), going, factors

    def _curvature(self, x, z, component):
        L = cholesky(self._linear(x, z, component)[1])
        return L, L.diagonal(dim1=1, dim2=2).log().sum(1)


def cholesky(H):
    """Return Cholesky factors of H (n, k, k), of its diagonal if not definite."""
    L, info = torch.linalg.cholesky_ex(H)
    if not info.any():
        return L
    diagonal = torch.diag_embed(H.diagonal(dim1=1, dim2=2).clamp(min=1e-300).sqrt())
    return torch.where((info != 0)[:, None, None], diagonal, L)
