r"""Density of rows under a decoder, by importance sampling around the modes.

.. math:: p(x) = \int p(z) \, p(x | z) \, dz .

For each row, damped Gauss-Newton steps from the encoder's code and from other codes
find modes of :math:`p(z) p(x | z)`. The proposal is a mixture of normal densities: one
for each mode, with the curvature at the mode as its precision. Rows are processed in
padded blocks of a fixed size, so that the result for a row depends on the other rows in
the last bit at most.

NaN in a row means that the feature was not observed. Features are independent given the
latent, so :math:`p(x_o | z)` is a product over the observed features, and all formulas
hold with it in place of :math:`p(x | z)`.
"""

import math

import torch

from skgen._lazy import cached_property
from skgen.autoencoder._importance import Points, Proposal, grouped, with_control
from skgen.autoencoder._jacobian import is_linear, widest, with_jacobian
from skgen.autoencoder._likelihood import Gaussian, Observed
from skgen.autoencoder._modes import (
    BLOCK_ENTRIES,
    BLOCK_ROWS,
    BLOCK_WORK,
    LOW_DIMENSION,
    Ascents,
    Modes,
    by_blocks,
)
from skgen.autoencoder._prior import NormalMixture, quasi_noise

# Number of codes, or points of the prior, from which initial values are chosen.
BANK = 4096

# Effective sample size from which points of the prior alone give an accurate mean, for
# quasi-random and for random points.
_ENOUGH, _ENOUGH_AT_RANDOM = 100, 1000

# Largest latent dimension for which points of the prior join the proposal.
_JOINING = 8

# Number of initial values that are iterated to convergence. In low dimension they are
# selected after a first step. In high dimension, where a step is expensive, they are
# selected by their density.
_FOLLOWED, _FOLLOWED_IN_MANY = 6, 3
_STEPS, _STEPS_FROM_ENCODER = 12, 4


class Posterior:
    """Posterior of latents given rows, and density of rows.

    module: an `AutoencoderModule` in float64 without gradients; prior: a
    `NormalMixture`; codes: (n, k), codes of training rows for initial values.
    """

    # Whether it is for rows with NaN, and the posterior for rows with NaN.
    incomplete, _for_incomplete = False, None

    def __init__(self, module, prior, codes):
        self.module, self.prior = module, prior
        self.codes = None if codes is None else codes[:BANK]

    @property
    def likelihood(self):
        """Return the likelihood of the observed features."""
        whole = self.module.likelihood
        return Observed(whole) if self.incomplete else whole

    def given(self, rows):
        """Return the posterior for rows (n, d), which can have NaN."""
        if self.incomplete or not rows.isnan().any():
            return self
        found = self._for_incomplete
        if found is None or found.prior is not self.prior:
            found = Posterior(self.module, self.prior, self.codes)
            found.incomplete = True
            self._for_incomplete = found
        return found

    def __getstate__(self):
        return {name: vars(self)[name] for name in ("module", "prior", "codes")}

    # -- density and modes -------------------------------------------------------

    def log_density(self, rows, n_samples):
        """Return log p(x): (n,) of rows (n, d) in the scaling of the module."""
        with torch.no_grad():
            return self.given(rows)._log_density(rows, n_samples)

    def _log_density(self, rows, n_samples):
        if self.is_normal():
            evidence = self.modes(rows, from_encoder_only=True).log_evidence
            return evidence[:, 0]
        if n_samples == 0:
            return torch.logsumexp(self.modes(rows).log_evidence, dim=1)
        if self.points is None:
            return self._importance(rows, n_samples)
        # For a wide posterior, points of the prior alone are sufficient.
        answer, effective = self._by_prior(self.module.rows(rows))
        narrow = effective < self.enough
        if narrow.any():
            answer[narrow] = self._importance(rows[narrow], n_samples)
        return answer

    @property
    def enough(self):
        """Return the effective sample size from which points of the prior suffice."""
        return _ENOUGH if self.prior.spreads_evenly else _ENOUGH_AT_RANDOM

    def is_normal(self):
        """Return whether rows are normal, which makes Laplace's method exact."""
        return (
            type(self.prior) is NormalMixture
            and self.prior.weights.numel() == 1
            and isinstance(self.module.likelihood, Gaussian)
            and is_linear(self.module.decoder)
        )

    def modes(self, rows, from_encoder_only=False):
        """Return the `Modes` of the posterior of each row (n, d), best first."""
        return self.given(rows)._modes(rows, from_encoder_only)

    def _modes(self, rows, from_encoder_only):
        x, z = self.module.rows(rows), self._encoded(rows)[:, None]  # (n, 1, k)
        if from_encoder_only:
            ascents = Ascents(self, x, z)
            ascents.climb(_STEPS_FROM_ENCODER)
            return ascents.laplace()
        ascents = Ascents(self, x, torch.cat([z, self._starts(x)], dim=1))
        n_starts, k = ascents.z.shape[1:]
        followed = _FOLLOWED if k <= LOW_DIMENSION else _FOLLOWED_IN_MANY
        if n_starts > followed:
            if k <= LOW_DIMENSION:
                ascents.climb(1)
            value = ascents.value.clone()
            value[:, 0] = math.inf  # always keep the encoder's code
            ascents = ascents.chosen(value.topk(followed, dim=1).indices)
        ascents.climb(_STEPS)
        if self.prior.n_neighbours:
            ascents = ascents.joined(self._neighbours(ascents))
        return ascents.laplace()

    def _neighbours(self, ascents):
        """Return ascents to modes of components near the best mode of each row."""
        best = ascents.value.argmax(dim=1, keepdim=True)
        z = ascents.chosen(best).z  # (n, 1, k)
        n_more = self.prior.n_neighbours
        component = by_blocks(
            lambda z: self.prior.log_components(z).topk(n_more, dim=1).indices,
            ascents.size,
            z[:, 0],
        )
        others = Ascents(self, ascents.x, z.expand(-1, n_more, -1), component)
        others.climb(_STEPS_FROM_ENCODER)
        return others

    def decode(self, z):
        """Return the decoder outputs (..., d') for latents (..., k)."""
        return self.module.decode(self.prior.to_code(z))

    def decode_with_jacobian(self, z):
        """Return decoder outputs (n, d') and Jacobians (n, k, d') at latents (n, k)."""
        prior = self.prior
        a, J = with_jacobian(
            self.module.decoder, prior.to_code(z), prior.slope_of_code(z)
        )
        return self.module.rows(a), self.module.rows(J)

    # -- initial values ------------------------------------------------------------

    def _encoded(self, rows):
        """Return the latents (n, k) of the encoder's codes."""
        size = self.ascents_in_block(self.codes.shape[1])
        return by_blocks(lambda x: self._latents(self.module.encode(x)), size, rows)

    def _latents(self, codes):
        """Return the latents (n, k) of codes (n, k)."""
        return self.prior.project(self.prior.from_code(codes))

    def _starts(self, x):
        """Return the best point of each group of the bank: (n, groups, k)."""
        bank = self._bank

        def best(x):
            joint = bank.joint(x)  # (n, N), up to a constant for each row
            each = [
                start + joint[:, start:stop].argmax(1) for start, stop in bank.groups
            ]
            return torch.stack(each, dim=1)

        return bank.z[by_blocks(best, bank.rows_at_once, x)]

    @cached_property
    def points(self):
        """Return the `Points` of the prior that join the proposal, or None."""
        if self.codes.shape[1] > _JOINING and self.prior.smooth:
            return None
        return Points(self, *grouped(self.prior.spread(BANK)))

    @cached_property
    def _bank(self):
        """Return the `Points` from which initial values are chosen."""
        if self.codes.shape[1] <= LOW_DIMENSION:
            return self.points
        codes = torch.as_tensor(self.codes, dtype=torch.float64)
        return Points(self, *grouped(self._latents(codes)))

    @cached_property
    def _width(self):
        """Return the size of the largest layer output of the decoder for one code."""
        one = torch.zeros(1, self.codes.shape[1], dtype=torch.float64)
        with torch.no_grad():
            return max(1, widest(self.module.decoder, one))

    # -- importance sampling ---------------------------------------------------------

    def _by_prior(self, x):
        """Return log p(x) by points of the prior, and effective sample sizes: (n,)."""
        points = self.points

        def mean(x):
            log_p = points.joint(x) - points.log_prior
            top = log_p.max(dim=1, keepdim=True).values
            weight = torch.exp(log_p - top)
            total = weight.sum(1)
            log_mean = total.log() + top[:, 0] - math.log(weight.shape[1])
            log_mean = log_mean + self.likelihood.base(x)
            return log_mean, total.square() / weight.square().sum(1)

        return by_blocks(mean, points.rows_at_once, x)

    def _importance(self, rows, n_samples):
        """Return log p(x): (n,) by samples from a mixture around the modes."""
        x, modes = self.module.rows(rows), self.modes(rows)
        numbers = quasi_noise(n_samples, modes.z.shape[2])
        u, noise = (torch.from_numpy(part) for part in numbers)
        return by_blocks(
            lambda x, *parts: self._estimate(x, Modes(*parts), u, noise),
            self.rows_at_once(n_samples, modes),
            x,
            *modes,
        )

    def rows_at_once(self, n_samples, modes):
        """Return the number of rows in a block, each with `n_samples` samples."""
        n_modes, k = modes.z.shape[1:]
        entries = n_samples * max(self._width, k * n_modes)
        if self.points is not None:
            entries += self.points.z.shape[0] * k * n_modes
        return max(1, min(BLOCK_ROWS // 16, BLOCK_ENTRIES // entries))

    def _estimate(self, x, modes, u, noise):
        """Return the estimate of log p(x): (n,) for a block of rows (n, d')."""
        points = self.points
        _, log_ratio, log_control = self.samples(x, modes, u, noise, points)
        if points is None:
            return torch.logsumexp(log_ratio, dim=1) - math.log(log_ratio.shape[1])
        return with_control(log_ratio, log_control)

    def samples(self, x, modes, u, noise, points):
        """Return samples (n, m, k), log-weights and log-control of samples and points.

        The weights (n, m + N) are p(x, z) over the density of the samples.
        """
        n, _n_modes, k = modes.z.shape
        proposal = Proposal(modes)
        z = proposal.draw(u, noise)  # (n, m, k)
        m = z.shape[1]
        log_prior = self.prior.log_density(z.reshape(-1, k)).view(n, m)
        log_joint = log_prior + self.likelihood.log_density(
            x[:, None], self.decode(z.reshape(-1, k)).view(n, m, -1)
        )
        log_q = proposal.log_density(z)  # (n, m)
        if points is None:
            return z, log_joint - log_q, None
        # Treat samples of the prior and of the proposal as samples of their mixture
        # (balance heuristic; Veach and Guibas, 1995).
        n_points = points.z.shape[0]
        at_points = proposal.log_density(points.z.expand(n, -1, -1))  # (n, N)
        base = self.likelihood.base(x)[:, None]
        log_joint = torch.cat([log_joint, points.joint(x) + base], dim=1)
        log_prior = torch.cat([log_prior, points.log_prior.expand(n, -1)], dim=1)
        log_q = torch.cat([log_q, at_points], dim=1)
        share = n_points / (n_points + m)
        log_mix = torch.logaddexp(
            log_prior + math.log(share), log_q + math.log(1 - share)
        )
        return z, log_joint - log_mix, log_prior - log_mix

    def answers(self, z):
        """Return the codes and the means of the features of latents: (..., k + d')."""
        mean = self.module.likelihood.mean(self.decode(z))
        return torch.cat([self.prior.to_code(z), mean], dim=-1)

    # -- blocks ------------------------------------------------------------------------

    def ascents_in_block(self, k):
        """Return the number of ascents, each with a Jacobian, in a block."""
        n_weights = sum(p.numel() for p in self.module.decoder.parameters())
        return max(
            8,
            min(
                BLOCK_ROWS,
                BLOCK_ENTRIES // ((k + 1) * self._width),
                BLOCK_WORK // max(1, n_weights),
            ),
        )
