"""Modes of the posteriors of latents, by damped Gauss-Newton steps."""

import math

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
_SHARES = (0.5, 0.25, 0.1, 0.02)

# Iteration ends when the predicted gain of a step falls below this, in nats.
_TOLERANCE = 1e-4

# Modes within this squared distance, in the metric of the curvature, are duplicates.
_SAME_MODE = 0.25


def by_blocks(function, size, *parts):
    """Apply `function` to arrays (n, ...) in padded blocks of `size` rows.

    Return the list of its outputs (n, ...).
    """
    # The rounding of a matrix product depends on its size. With blocks of equal size,
    # the result for a row depends on the other rows in the last bit at most.
    n = parts[0].shape[0]
    answers = []
    for start in range(0, n, size):
        block = [part[start : start + size] for part in parts]
        missing = size - block[0].shape[0]
        if missing:
            block = [
                torch.cat([part, part[:1].expand(missing, *part.shape[1:])])
                for part in block
            ]
        answer = function(*block)
        answers.append([part[: size - missing] for part in answer])
    return [torch.cat(part) for part in zip(*answers, strict=True)]


class Modes(tuple):
    """Modes z (n, M, k), their log-evidence (n, M) and curvature factors (n, M, k, k).

    The evidence is Laplace's approximation. The factors are lower triangular.
    """

    def __new__(cls, z, log_evidence, factors):
        return super().__new__(cls, (z, log_evidence, factors))

    z = property(lambda self: self[0])
    log_evidence = property(lambda self: self[1])
    factors = property(lambda self: self[2])


class Ascents:
    """Pairs of a row index (N,) and a latent (N, k), which ascends to a mode."""

    def __init__(self, posterior, x, row, z, value=None, component=None):
        self.posterior, self.x, self.row, self.z = posterior, x, row, z
        self.size = posterior.ascents_in_block(z.shape[1])
        prior = posterior.prior
        if component is None:
            component = by_blocks(
                lambda z: (prior.log_components(z).argmax(dim=1),), self.size, z
            )[0]
        self.component = component
        if value is None:
            value = self._blocks(self._joint, slice(None), z, component)[0]
        self.value = value

    def chosen(self, ascents):
        """Return the ascents with the indices `ascents`."""
        parts = (self.row, self.z, self.value, self.component)
        return Ascents(self.posterior, self.x, *(part[ascents] for part in parts))

    def joined(self, others, n_own, n_others):
        """Return these ascents and `others`: n_own and n_others for each row."""
        n = self.x.shape[0]

        def both(name):
            one, other = getattr(self, name), getattr(others, name)
            parts = (
                one.view(n, n_own, *one.shape[1:]),
                other.view(n, n_others, *other.shape[1:]),
            )
            return torch.cat(parts, dim=1).flatten(0, 1)

        names = ("row", "z", "value", "component")
        return Ascents(self.posterior, self.x, *map(both, names))

    def climb(self, n_steps):
        """Take `n_steps` damped Gauss-Newton steps with chord steps between them."""
        active = torch.arange(self.z.shape[0])
        chords = _CHORDS if self.z.shape[1] > LOW_DIMENSION else 0
        for _ in range(n_steps):
            active, factors = self._move(self._step, active)
            for _ in range(chords):
                if active.numel():
                    active, factors = self._move(self._chord, active, factors)
            if not active.numel():
                return

    def _move(self, step, active, *factors):
        """Take a step; return the ascents that go on, and their factors."""
        z, value, going, factors = self._blocks(
            step,
            active,
            self.z[active],
            self.value[active],
            self.component[active],
            *factors,
        )
        self.z[active], self.value[active] = z, value
        return active[going], factors[going]

    def laplace(self):
        """Return latents (N, k), log-evidence (N,) and curvature factors (N, k, k).

        A duplicate of a better mode of the same row has a log-evidence of -inf.
        """
        factors, log_dets = self._blocks(
            self._curvature, slice(None), self.z, self.component
        )
        k = self.z.shape[1]
        log_evidence = self.value + 0.5 * k * math.log(2 * math.pi) - log_dets
        n = int(self.row[-1]) + 1
        z = self.z.view(n, -1, k)
        L = factors.view(n, -1, k, k)
        log_evidence = log_evidence.view(n, -1)
        component = self.component.view(n, -1)
        order = log_evidence.argsort(dim=1, descending=True, stable=True)
        rows = torch.arange(n)[:, None]
        z, L = z[rows, order], L[rows, order]
        log_evidence, component = (
            log_evidence[rows, order].clone(),
            component[rows, order],
        )
        for later in range(1, z.shape[1]):
            offsets = z[:, later : later + 1] - z[:, :later]  # (n, later, k)
            white = (offsets[..., None, :] @ L[:, :later])[..., 0, :]
            same = white.square().sum(-1) < _SAME_MODE
            same &= component[:, later : later + 1] == component[:, :later]
            same &= log_evidence[:, :later] > -math.inf
            log_evidence[same.any(dim=1), later] = -math.inf
        return z.reshape(-1, k), log_evidence.reshape(-1), L.reshape(-1, k, k)

    def _blocks(self, function, ascents, *parts):
        """Apply a function of rows (n, d) and `parts` to ascents, block by block."""
        return by_blocks(
            lambda row, *parts: function(self.x[row], *parts),
            self.size,
            self.row[ascents],
            *parts,
        )

    def _joint(self, x, z, component):
        """Return log p(x | z) plus the log-density of the weighted component: (n,)."""
        prior = self.posterior.prior
        a = self.posterior.decode(z)
        white = self._white(z, component)
        return (
            self.posterior.module.likelihood.log_density(x, a)
            + prior.log_scales[component]
            - 0.5 * white.square().sum(-1),
        )

    def _white(self, z, component):
        prior = self.posterior.prior
        centred = (z - prior.means[component])[:, None]
        return (centred @ prior.factors[component])[:, 0]

    def _linear(self, x, z, component):
        """Return gradient (n, k) and curvature (n, k, k) of the joint log-density."""
        prior, likelihood = self.posterior.prior, self.posterior.module.likelihood
        a, J = self.posterior.decode_with_jacobian(z)  # (n, d), (n, k, d)
        white = self._white(z, component)[..., None]
        slope = (J @ likelihood.slope(x, a)[..., None])[..., 0]
        slope = slope - (prior.factors[component] @ white)[..., 0]
        weighted = J * likelihood.information(a)[:, None]
        return slope, weighted @ J.mT + prior.precisions[component]

    def _step(self, x, z, value, component):
        """Return latents, values, whether to continue, and curvature factors."""
        slope, H = self._linear(x, z, component)
        factors = cholesky(H)
        step = torch.cholesky_solve(slope[..., None], factors)[..., 0]
        promised = (slope * step).sum(-1)
        project = self.posterior.prior.project
        new = project(z + step)
        best = self._joint(x, new, component)[0]
        # Comparisons with NaN are false, so that a NaN is never accepted.
        enough = best - value > 0.2 * promised
        best = torch.where(best > value, best, value)
        new = torch.where((best > value)[:, None], new, z)
        if not enough.all():
            for share in _SHARES:
                shorter = project(z + share * step)
                reached = self._joint(x, shorter, component)[0]
                better = (reached > best) & ~enough
                best = torch.where(better, reached, best)
                new = torch.where(better[:, None], shorter, new)
        going = (promised > _TOLERANCE) & (best > value)
        return new, best, going, factors

    def _chord(self, x, z, value, component, factors):
        """Return the values of `_step` for a step with the given curvature factors."""
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            total = self._joint(x, z, component)[0].sum()
            (slope,) = torch.autograd.grad(total, z)
        z = z.detach()
        step = torch.cholesky_solve(slope[..., None], factors)[..., 0]
        new = self.posterior.prior.project(z + step)
        reached = self._joint(x, new, component)[0]
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
