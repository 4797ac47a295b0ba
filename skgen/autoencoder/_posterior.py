r"""The density of rows under a decoder, by importance sampling about the modes.

.. math:: p(x) = \int p(z) \, p(x | z) \, dz .

For each row, damped Gauss-Newton steps lead from the encoder's code and from other
codes to modes of :math:`p(z) p(x | z)`; a normal density about each, with the
curvature there, makes the proposal. Work is done in blocks of a fixed number of items,
padded where there are fewer: a row's answer has the same bits beside any other rows.
"""

import itertools
import math

import numpy as np
import torch
from sklearn.cluster import KMeans

from skgen.autoencoder._jacobian import is_linear, widest, with_jacobian
from skgen.autoencoder._likelihood import Gaussian
from skgen.autoencoder._priors import NormalMixture, quasi_noise

# Codes of other rows, or points of the prior, to start from.
_BANK = 4096

# Groups of the bank, of each of which the best is a start.
_GROUPS = 16

# So many points of the prior that count, of equal weight, make a good mean: points
# that are spread evenly, and points drawn at random.
_ENOUGH, _ENOUGH_AT_RANDOM = 100, 1000

# Up to so many numbers in a code, points of the prior join the proposal; and up to so
# many they are the bank as well, and steps are cheap.
_JOINING, _LOW_DIMENSION = 8, 2

# Starts that are followed to the end: for codes of few numbers after a first step,
# for others, where a step is dear, by their density alone.
_FOLLOWED, _FOLLOWED_IN_MANY = 6, 3
_STEPS, _STEPS_FROM_ENCODER = 12, 4

# Steps between two Jacobians that make do with the last one's curvature.
_CHORDS = 2

# The shares of a Gauss-Newton step to try where the whole one gains too little.
_SHARES = (0.5, 0.25, 0.1, 0.02)

# A step that promises less, in nats, is the last.
_TOLERANCE = 1e-4

# Modes nearer than this squared distance, in units of the curvature, are one.
_SAME_MODE = 0.25

# A mode has this share of a proposal at least, if within so many nats of the best.
_LEAST_SHARE, _WITHIN = 0.1, 12.0

# Numbers in the largest array of a block, at most; items in one; and items times
# weights, since few rows pay for a whole block.
_BLOCK_NUMBERS, _BLOCK_ITEMS, _BLOCK_WORK = 2**20, 2048, 2**23


class Posterior:
    """The posterior of codes given rows, and the density of rows.

    Parameters
    ----------
    module : AutoencoderModule
        In float64, without gradients.
    prior : NormalMixture
        The density of latents.
    codes : ndarray of shape (n, k)
        Codes of training rows, to start from.
    """

    def __init__(self, module, prior, codes):
        self.module, self.prior = module, prior
        self.codes = None if codes is None else codes[:_BANK]
        self._found = self._widest = None

    def __getstate__(self):
        return {**vars(self), "_found": None, "_widest": None}

    # -- answers -----------------------------------------------------------------

    def log_density(self, rows, n_samples):
        """Return log p(x) of rows, of shape (n, d) and in the module's coordinates."""
        with torch.no_grad():
            if self._is_normal():
                evidence = self.modes(rows, from_encoder_only=True).log_evidence
                return evidence[:, 0]
            if n_samples == 0:
                return torch.logsumexp(self.modes(rows).log_evidence, dim=1)
            if self._points() is None:
                return self._importance(rows, n_samples)
            # Where the noise is wide, points of the prior alone see the posterior.
            answer, effective = self._by_prior(self.module.rows(rows))
            enough = _ENOUGH if self.prior.spreads_evenly else _ENOUGH_AT_RANDOM
            narrow = effective < enough
            if narrow.any():
                answer[narrow] = self._importance(rows[narrow], n_samples)
            return answer

    def _is_normal(self):
        """Tell whether rows are normal, and Laplace's formula exact."""
        return (
            type(self.prior) is NormalMixture
            and self.prior.weights.numel() == 1
            and isinstance(self.module.likelihood, Gaussian)
            and is_linear(self.module.decoder)
        )

    def modes(self, rows, from_encoder_only=False):
        """Return the modes of each row's posterior, best first."""
        x = self.module.rows(rows)
        z = self._encoded(rows)[:, None]  # (n, 1, k)
        if not from_encoder_only:
            z = torch.cat([z, self._starts(x)], dim=1)  # (n, S, k)
        n, n_starts, k = z.shape
        row = torch.arange(n).repeat_interleave(n_starts)
        items = _Items(self, x, row, z.reshape(-1, k))
        followed = _FOLLOWED if k <= _LOW_DIMENSION else _FOLLOWED_IN_MANY
        if n_starts > followed:
            if k <= _LOW_DIMENSION:
                items.climb(1)
            value = items.value.view(n, n_starts).clone()
            value[:, 0] = math.inf  # the encoder's own is among them
            best = value.topk(followed, dim=1).indices
            chosen = (torch.arange(n)[:, None] * n_starts + best).reshape(-1)
            items = items.chosen(chosen)
            n_starts = followed
        items.climb(_STEPS_FROM_ENCODER if from_encoder_only else _STEPS)
        return Modes(
            *(part.view(n, n_starts, *part.shape[1:]) for part in items.laplace())
        )

    def decode(self, z):
        """Return the decoder's outputs for latents."""
        return self.module.decode(self.prior.to_code(z))

    def decode_with_jacobian(self, z):
        """Return the decoder's outputs for latents (n, d) and Jacobians (n, k, d)."""
        prior = self.prior
        a, J = with_jacobian(
            self.module.decoder, prior.to_code(z), prior.slope_of_code(z)
        )
        return self.module.rows(a), self.module.rows(J)

    # -- starts --------------------------------------------------------------------

    def _encoded(self, rows):
        """Return the latents of the encoder's codes."""
        return _by_blocks(
            lambda x: (
                self.prior.project(self.prior.from_code(self.module.encode(x))),
            ),
            self._items_in_block(self.codes.shape[1]),
            rows,
        )[0]

    def _starts(self, x):
        """Return the best point of each group of the bank: (n, groups, k)."""
        bank = self._bank()

        def best(x):
            joint = bank.joint(x)  # (n, N), but for what no code changes
            each = [
                start + joint[:, start:stop].argmax(1) for start, stop in bank.groups
            ]
            return (torch.stack(each, dim=1),)

        return bank.z[_by_blocks(best, bank.rows_at_once, x)[0]]

    def _bank(self):
        """Return latents to start from, made when they are first asked for."""
        return self._prepared()[0]

    def _points(self):
        """Return points of the prior that join the proposal; None for none."""
        return self._prepared()[1]

    def _prepared(self):
        if self._found is None:
            k = self.codes.shape[1]
            points = bank = None
            if k <= _JOINING or not self.prior.smooth:
                points = bank = _Points(self, self.prior.spread(_BANK))
            if k > _LOW_DIMENSION or bank is None:
                codes = torch.as_tensor(self.codes, dtype=torch.float64)
                z = self.prior.project(self.prior.from_code(codes))
                bank = _Points(self, z)
            self._found = bank, points
        return self._found

    # -- importance sampling ---------------------------------------------------------

    def _by_prior(self, x):
        """Return log p(x) by points of the prior, and how many of them count."""
        points = self._points()

        def mean(x):
            log_p = points.joint(x) - points.log_prior
            top = log_p.max(dim=1, keepdim=True).values
            weight = torch.exp(log_p - top)
            total = weight.sum(1)
            log_mean = total.log() + top[:, 0] - math.log(weight.shape[1])
            log_mean = log_mean + self.module.likelihood.base(x)
            return log_mean, total.square() / weight.square().sum(1)

        return _by_blocks(mean, points.rows_at_once, x)

    def _importance(self, rows, n_samples):
        """Return log p(x) by samples from a mixture about the modes."""
        x, modes = self.module.rows(rows), self.modes(rows)
        k = modes.z.shape[2]
        u, noise = (torch.from_numpy(part) for part in quasi_noise(n_samples, k))
        numbers = n_samples * max(self._width(), k * modes.z.shape[1])
        if self._points() is not None:
            numbers += self._points().z.shape[0] * k * modes.z.shape[1]
        size = max(1, min(_BLOCK_ITEMS // 16, _BLOCK_NUMBERS // numbers))
        return _by_blocks(
            lambda x, *parts: (self._estimate(x, Modes(*parts), u, noise),),
            size,
            x,
            *modes,
        )[0]

    def _estimate(self, x, modes, u, noise):
        """Return the estimate of log p(x) for a block of rows."""
        n, _n_modes, k = modes.z.shape
        proposal = _Proposal(modes)
        z = proposal.draw(u, noise)  # (n, m, k)
        m = z.shape[1]
        log_joint = self.module.likelihood.log_density(
            x[:, None], self.decode(z.reshape(-1, k)).view(n, m, -1)
        ) + self.prior.log_density(z.reshape(-1, k)).view(n, m)
        log_q = proposal.log_density(z)  # (n, m)
        points = self._points()
        if points is None:
            return torch.logsumexp(log_joint - log_q, dim=1) - math.log(m)
        # Samples of the prior and of the proposal, as from a mixture of both
        # (the balance heuristic of Veach and Guibas, 1995).
        n_points = points.z.shape[0]
        log_prior = self.prior.log_density(z.reshape(-1, k)).view(n, m)
        at_points = proposal.log_density(points.z.expand(n, -1, -1))  # (n, N)
        base = self.module.likelihood.base(x)[:, None]
        log_joint = torch.cat([log_joint, points.joint(x) + base], dim=1)
        log_prior = torch.cat([log_prior, points.log_prior.expand(n, -1)], dim=1)
        log_q = torch.cat([log_q, at_points], dim=1)
        share = n_points / (n_points + m)
        log_mix = torch.logaddexp(
            log_prior + math.log(share), log_q + math.log(1 - share)
        )
        return _with_control(log_joint - log_mix, log_prior - log_mix)

    def _width(self):
        """Return the most numbers that a layer of the decoder gives for a code."""
        if self._widest is None:
            with torch.no_grad():
                one = torch.zeros(1, self.codes.shape[1], dtype=torch.float64)
                self._widest = max(1, widest(self.module.decoder, one))
        return self._widest

    # -- blocks ------------------------------------------------------------------------

    def _items_in_block(self, k):
        """Return how many items a block has, each with a Jacobian."""
        n_weights = sum(p.numel() for p in self.module.decoder.parameters())
        return max(
            8,
            min(
                _BLOCK_ITEMS,
                _BLOCK_NUMBERS // ((k + 1) * self._width()),
                _BLOCK_WORK // max(1, n_weights),
            ),
        )


class Modes(tuple):
    """What is known at the modes of rows: of shape (n, M, ...) each.

    ``z``, the log of the evidence by Laplace's formula, and the triangular factors
    of the curvature.
    """

    def __new__(cls, z, log_evidence, factors):
        return super().__new__(cls, (z, log_evidence, factors))

    z = property(lambda self: self[0])
    log_evidence = property(lambda self: self[1])
    factors = property(lambda self: self[2])


class _Items:
    """Pairs of a row and a latent that climbs to a mode of the row's posterior."""

    def __init__(self, posterior, x, row, z, value=None, component=None):
        self.posterior, self.x, self.row, self.z = posterior, x, row, z
        self.size = posterior._items_in_block(z.shape[1])
        prior = posterior.prior
        if component is None:
            component = _by_blocks(
                lambda z: (prior.log_components(z).argmax(dim=1),), self.size, z
            )[0]
        self.component = component
        if value is None:
            value = self._blocks(self._joint, slice(None), z, component)[0]
        self.value = value

    def chosen(self, items):
        """Return some of the items."""
        parts = (self.row, self.z, self.value, self.component)
        return _Items(self.posterior, self.x, *(part[items] for part in parts))

    def climb(self, n_steps):
        """Take damped Gauss-Newton steps, and cheaper ones between them."""
        active = torch.arange(self.z.shape[0])
        chords = _CHORDS if self.z.shape[1] > _LOW_DIMENSION else 0
        for _ in range(n_steps):
            active, factors = self._move(self._step, active)
            for _ in range(chords):
                if active.numel():
                    active, factors = self._move(self._chord, active, factors)
            if not active.numel():
                return

    def _move(self, step, active, *factors):
        """Take a step from some items; return those to go on from, with factors."""
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
        """Return latents, log-evidences and factors of the curvature there.

        A mode that an earlier one of the same row has found has no evidence.
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
        flat = -1
        return z.reshape(flat, k), log_evidence.reshape(flat), L.reshape(flat, k, k)

    def _blocks(self, function, items, *parts):
        """Apply a function of rows and parts to items, block by block."""
        return _by_blocks(
            lambda row, *parts: function(self.x[row], *parts),
            self.size,
            self.row[items],
            *parts,
        )

    def _joint(self, x, z, component):
        """Return log p(x | z) plus the log of the component's weighted density."""
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
        """Return the slope and the curvature of the joint log-density in `z`."""
        prior, likelihood = self.posterior.prior, self.posterior.module.likelihood
        a, J = self.posterior.decode_with_jacobian(z)  # (n, d), (n, k, d)
        white = self._white(z, component)[..., None]
        slope = (J @ likelihood.slope(x, a)[..., None])[..., 0]
        slope = slope - (prior.factors[component] @ white)[..., 0]
        weighted = J * likelihood.information(a)[:, None]
        return slope, weighted @ J.mT + prior.precisions[component]

    def _step(self, x, z, value, component):
        """Return latents, values, whether to go on, and factors of the curvature."""
        slope, H = self._linear(x, z, component)
        factors = _cholesky(H)
        step = torch.cholesky_solve(slope[..., None], factors)[..., 0]
        promised = (slope * step).sum(-1)
        project = self.posterior.prior.project
        new = project(z + step)
        best = self._joint(x, new, component)[0]
        # Not a number is no gain.
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
        """Return the same after a step with the curvature of an earlier one."""
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
        L = _cholesky(self._linear(x, z, component)[1])
        return L, L.diagonal(dim1=1, dim2=2).log().sum(1)


class _Proposal:
    """A mixture of normal densities about the modes of each of a block of rows."""

    def __init__(self, modes):
        self.z, log_evidence, self.factors = modes
        best = log_evidence.max(dim=1, keepdim=True).values
        weights = torch.exp(log_evidence - best)
        floor = _LEAST_SHARE * (log_evidence > best - _WITHIN)
        weights = torch.maximum(weights / weights.sum(1, keepdim=True), floor)
        self.weights = weights / weights.sum(1, keepdim=True)  # (n, M)
        self.log_scales = (
            self.weights.log()
            + self.factors.diagonal(dim1=2, dim2=3).log().sum(2)
            - 0.5 * self.z.shape[2] * math.log(2 * math.pi)
        )  # (n, M)

    def draw(self, u, noise):
        """Return latents made of uniform numbers (m,) and normal ones (m, k)."""
        n, n_modes, k = self.z.shape
        shares = self.weights.cumsum(1)
        chosen = torch.searchsorted(shares, u.expand(n, -1).contiguous())
        chosen = chosen.clamp(max=n_modes - 1)  # (n, m)
        # x' L' = e' for each row e of the noise: x has the covariance of L'^-1 L^-1.
        offsets = torch.linalg.solve_triangular(
            self.factors, noise.expand(n, n_modes, -1, -1), upper=False, left=False
        )  # (n, M, m, k)
        everywhere = self.z[:, :, None] + offsets
        index = chosen[:, None, :, None].expand(-1, 1, -1, k)
        return everywhere.gather(1, index)[:, 0]  # (n, m, k)

    def log_density(self, z):
        """Return the log-density of latents (n, m, k)."""
        centred = z[:, None] - self.z[:, :, None]  # (n, M, m, k)
        squares = (centred @ self.factors).square().sum(-1)
        return torch.logsumexp(self.log_scales[..., None] - 0.5 * squares, dim=1)


class _Points:
    """Latents in groups of near ones, with the natural parameters of their rows."""

    def __init__(self, posterior, z):
        n_groups = min(_GROUPS, z.shape[0])
        labels = KMeans(n_groups, n_init=1, max_iter=20, random_state=0).fit_predict(
            z.numpy()
        )
        order = np.argsort(labels, kind="stable")
        ends = np.searchsorted(labels[order], np.arange(n_groups + 1))
        self.groups = [
            (int(start), int(stop))
            for start, stop in itertools.pairwise(ends)
            if stop > start
        ]
        self.z = z[torch.from_numpy(order)]
        self.rows_at_once = max(1, min(_BLOCK_ITEMS, _BLOCK_NUMBERS // z.shape[0]))
        a = posterior.decode(self.z)
        self.natural, log_normalizer = posterior.module.likelihood.natural(a)
        self.log_prior = posterior.prior.log_density(self.z)  # (N,)
        self.offset = self.log_prior - log_normalizer

    def joint(self, x):
        """Return log p(x | z) p(z), less what depends on x alone: (n, N)."""
        return x @ self.natural.T + self.offset


def _with_control(log_ratio, log_control):
    """Return the log of a mean of ratios, with a control variate of mean one.

    Parameters
    ----------
    log_ratio, log_control : torch.Tensor of shape (n, m)
        The logs of what to average, and of what is known to average to one.

    Returns
    -------
    torch.Tensor of shape (n,)
        The intercept of the regression on the control (Owen and Zhou, 2000); the
        plain mean where that is not positive.
    """
    top = log_ratio.max(dim=1, keepdim=True).values
    y = torch.exp(log_ratio - top)
    h = torch.exp(log_control) - 1
    mean, mean_h = y.mean(1), h.mean(1)
    h = h - mean_h[:, None]
    slope = (h * y).sum(1) / h.square().sum(1).clamp(min=1e-300)
    intercept = mean - slope * mean_h
    usable = (intercept > 0.5 * mean) & (intercept < 2 * mean)
    return torch.where(usable, intercept, mean).log() + top[:, 0]


def _cholesky(H):
    """Return triangular factors; of the diagonal alone where rounding forbids one."""
    L, info = torch.linalg.cholesky_ex(H)
    if not info.any():
        return L
    diagonal = torch.diag_embed(H.diagonal(dim1=1, dim2=2).clamp(min=1e-300).sqrt())
    return torch.where((info != 0)[:, None, None], diagonal, L)


def _by_blocks(function, size, *parts):
    """Apply a function to items in blocks of one size, the last one padded.

    Products of matrices of another size round otherwise: equal blocks give a row the
    same bits beside any other rows.
    """
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
