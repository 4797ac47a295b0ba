r"""The density of rows under a decoder, by importance sampling about the modes.

.. math:: p(x) = \int p(z) \, p(x | z) \, dz .

For each row, damped Gauss-Newton steps lead from the encoder's code and from other
codes to modes of :math:`p(z) p(x | z)`; a normal density about each, with the
curvature there, makes the proposal. Work is done in blocks of a fixed number of items,
padded where there are fewer: a row's answer is the same beside any other rows, but for
a last bit.
"""

import math

import torch

from skgen.autoencoder._blocks import (
    BLOCK_ITEMS,
    BLOCK_NUMBERS,
    BLOCK_WORK,
    by_blocks,
)
from skgen.autoencoder._jacobian import is_linear, widest, with_jacobian
from skgen.autoencoder._likelihood import Gaussian
from skgen.autoencoder._modes import LOW_DIMENSION, Items, Modes
from skgen.autoencoder._priors import NormalMixture, quasi_noise
from skgen.autoencoder._proposal import Points, Proposal, with_control

# Codes of other rows, or points of the prior, to start from.
_BANK = 4096

# So many points of the prior that count, of equal weight, make a good mean: points
# that are spread evenly, and points drawn at random.
_ENOUGH, _ENOUGH_AT_RANDOM = 100, 1000

# Up to so many numbers in a code, points of the prior join the proposal.
_JOINING = 8

# Starts that are followed to the end: for codes of few numbers after a first step,
# for others, where a step is dear, by their density alone.
_FOLLOWED, _FOLLOWED_IN_MANY = 6, 3
_STEPS, _STEPS_FROM_ENCODER = 12, 4


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
        items = Items(self, x, row, z.reshape(-1, k))
        followed = _FOLLOWED if k <= LOW_DIMENSION else _FOLLOWED_IN_MANY
        if n_starts > followed:
            if k <= LOW_DIMENSION:
                items.climb(1)
            value = items.value.view(n, n_starts).clone()
            value[:, 0] = math.inf  # the encoder's own is among them
            best = value.topk(followed, dim=1).indices
            chosen = (torch.arange(n)[:, None] * n_starts + best).reshape(-1)
            items = items.chosen(chosen)
            n_starts = followed
        items.climb(_STEPS_FROM_ENCODER if from_encoder_only else _STEPS)
        if self.prior.n_neighbours and not from_encoder_only:
            items = self._with_neighbours(items, n_starts)
            n_starts += self.prior.n_neighbours
        return Modes(
            *(part.view(n, n_starts, *part.shape[1:]) for part in items.laplace())
        )

    def _with_neighbours(self, items, n_starts):
        """Return items, and the modes of other components near the best of a row."""
        n, k = items.x.shape[0], items.z.shape[1]
        n_more = self.prior.n_neighbours
        best = items.value.view(n, n_starts).argmax(dim=1)
        z = items.z.view(n, n_starts, k)[torch.arange(n), best]

        def nearest(z):
            return (self.prior.log_components(z).topk(n_more, dim=1).indices,)

        component = by_blocks(nearest, items.size, z)[0].reshape(-1)
        row = torch.arange(n).repeat_interleave(n_more)
        z = z.repeat_interleave(n_more, dim=0)
        others = Items(self, items.x, row, z, component=component)
        others.climb(_STEPS_FROM_ENCODER)
        return items.joined(others, n_starts, n_more)

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
        return by_blocks(
            lambda x: (
                self.prior.project(self.prior.from_code(self.module.encode(x))),
            ),
            self.items_in_block(self.codes.shape[1]),
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

        return bank.z[by_blocks(best, bank.rows_at_once, x)[0]]

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
                points = bank = Points(self, self.prior.spread(_BANK))
            if k > LOW_DIMENSION or bank is None:
                codes = torch.as_tensor(self.codes, dtype=torch.float64)
                z = self.prior.project(self.prior.from_code(codes))
                bank = Points(self, z)
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

        return by_blocks(mean, points.rows_at_once, x)

    def _importance(self, rows, n_samples):
        """Return log p(x) by samples from a mixture about the modes."""
        x, modes = self.module.rows(rows), self.modes(rows)
        k = modes.z.shape[2]
        u, noise = (torch.from_numpy(part) for part in quasi_noise(n_samples, k))
        numbers = n_samples * max(self._width(), k * modes.z.shape[1])
        if self._points() is not None:
            numbers += self._points().z.shape[0] * k * modes.z.shape[1]
        size = max(1, min(BLOCK_ITEMS // 16, BLOCK_NUMBERS // numbers))
        return by_blocks(
            lambda x, *parts: (self._estimate(x, Modes(*parts), u, noise),),
            size,
            x,
            *modes,
        )[0]

    def _estimate(self, x, modes, u, noise):
        """Return the estimate of log p(x) for a block of rows."""
        n, _n_modes, k = modes.z.shape
        proposal = Proposal(modes)
        z = proposal.draw(u, noise)  # (n, m, k)
        m = z.shape[1]
        log_prior = self.prior.log_density(z.reshape(-1, k)).view(n, m)
        log_joint = log_prior + self.module.likelihood.log_density(
            x[:, None], self.decode(z.reshape(-1, k)).view(n, m, -1)
        )
        log_q = proposal.log_density(z)  # (n, m)
        points = self._points()
        if points is None:
            return torch.logsumexp(log_joint - log_q, dim=1) - math.log(m)
        # Samples of the prior and of the proposal, as from a mixture of both
        # (the balance heuristic of Veach and Guibas, 1995).
        n_points = points.z.shape[0]
        at_points = proposal.log_density(points.z.expand(n, -1, -1))  # (n, N)
        base = self.module.likelihood.base(x)[:, None]
        log_joint = torch.cat([log_joint, points.joint(x) + base], dim=1)
        log_prior = torch.cat([log_prior, points.log_prior.expand(n, -1)], dim=1)
        log_q = torch.cat([log_q, at_points], dim=1)
        share = n_points / (n_points + m)
        log_mix = torch.logaddexp(
            log_prior + math.log(share), log_q + math.log(1 - share)
        )
        return with_control(log_joint - log_mix, log_prior - log_mix)

    def _width(self):
        """Return the most numbers that a layer of the decoder gives for a code."""
        if self._widest is None:
            with torch.no_grad():
                one = torch.zeros(1, self.codes.shape[1], dtype=torch.float64)
                self._widest = max(1, widest(self.module.decoder, one))
        return self._widest

    # -- blocks ------------------------------------------------------------------------

    def items_in_block(self, k):
        """Return how many items a block has, each with a Jacobian."""
        n_weights = sum(p.numel() for p in self.module.decoder.parameters())
        return max(
            8,
            min(
                BLOCK_ITEMS,
                BLOCK_NUMBERS // ((k + 1) * self._width()),
                BLOCK_WORK // max(1, n_weights),
            ),
        )
