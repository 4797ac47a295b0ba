"""Losses of the autoencoders."""

import math

import torch

from skgen.autoencoder._sliced_wasserstein import (
    directions,
    kl_to_standard_normal,
    sliced_distance,
    sliced_distance_to_normal,
)
from skgen.neural._net import LossModule

# Bounds of the log-variances of codes, which keep sums and inverses finite.
_LOG_VARIANCES = (-20.0, 15.0)

# Number of steps until the divergence has its full weight. With full weight from the
# start, the posterior tends to collapse before the decoder has learned to use codes.
_WARM_UP = 200


class AutoencoderModule(LossModule):
    """Abstract loss of an encoder, a decoder and a likelihood.

    varying: mask (d,) of the features that the likelihood is of. The networks take and
    return all d features; constant features do not enter the loss.
    """

    def __init__(self, encoder, decoder, likelihood, varying):
        super().__init__()
        self.encoder, self.decoder, self.likelihood = encoder, decoder, likelihood
        self.register_buffer("kept", None if varying.all() else varying.nonzero()[:, 0])
        self.width = int(varying.sum())

    def rows(self, x):
        """Return the features (..., d') of rows (..., d) that vary."""
        return x if self.kept is None else x.index_select(-1, self.kept)

    def decode(self, z):
        """Return the decoder outputs (..., d') of latents for features that vary."""
        flat = self.decoder(z.reshape(-1, z.shape[-1]))
        return self.rows(flat).reshape(*z.shape[:-1], self.width)

    def encode(self, x):
        """Return the codes (n, k) of rows (n, d)."""
        return self.encoder(x)

    def posterior(self, x):
        """Return means and log-variances of codes: (n, k) each.

        The log-variances are None for a deterministic encoder.
        """
        return self.encode(x), None


class Reconstruction(AutoencoderModule):
    """Negative mean log-likelihood of rows given their codes."""

    def forward(self, x):
        x = self.likelihood.seen(x, self.generator)
        return -self.likelihood.log_density(
            self.rows(x), self.decode(self.encoder(x))
        ).mean()


class Variational(AutoencoderModule):
    """Negative ELBO, or negative importance-weighted bound if `n_importance` > 1.

    `beta` is the weight of the divergence.
    """

    def __init__(self, *networks, beta, n_importance):
        super().__init__(*networks)
        self.beta, self.n_importance = beta, n_importance
        self.register_buffer("n_steps", torch.zeros(()))

    def _weight(self):
        """Return the weight of the divergence, which increases during the warm-up."""
        if not self.training:
            return self.beta
        self.n_steps += 1
        return self.beta * (self.n_steps / _WARM_UP).clamp(max=1.0)

    def posterior(self, x):
        mean, log_variance = self.encoder(x).chunk(2, dim=-1)
        return mean, log_variance.clamp(*_LOG_VARIANCES)

    def encode(self, x):
        return self.posterior(x)[0]

    def forward(self, x):
        x = self.likelihood.seen(x, self.generator)
        mean, log_variance = self.posterior(x)  # (n, k)
        shape = (
            (self.n_importance, *mean.shape) if self.n_importance > 1 else mean.shape
        )
        noise = torch.empty(shape, dtype=mean.dtype, device=mean.device)
        noise.normal_(generator=self.generator)
        z = mean + (0.5 * log_variance).exp() * noise  # (m, n, k)
        weight = self._weight()
        if self.n_importance > 1:
            q = (mean.detach(), log_variance.detach())
            return -self._importance_weighted(self.rows(x), z, q, weight)
        a = self.decode(z)
        self.likelihood.follow(self.rows(x), a)
        divergence = kl_to_standard_normal(mean, log_variance)
        fit = self.likelihood.log_density(self.rows(x), a)
        return (weight * divergence - fit).mean()

    def _importance_weighted(self, x, z, q, beta):
        """Return the bound for rows (n, d') and codes (m, n, k), a scalar."""
        # Doubly reparameterised gradients (Tucker et al., 2019): gradients reach the
        # encoder through the codes alone, with the density q held fixed, and the
        # gradient of each code is weighted a second time.
        mean, log_variance = q
        standardised = (z - mean) * (-0.5 * log_variance).exp()
        log_q = -0.5 * (standardised.square() + log_variance).sum(-1)  # (m, n)
        log_prior = -0.5 * z.square().sum(-1)
        a = self.decode(z)
        self.likelihood.follow(x, a)
        log_weight = self.likelihood.log_density(x, a) + beta * (log_prior - log_q)
        weight = torch.softmax(log_weight.detach(), dim=0)  # (m, n)
        if z.requires_grad:
            # For a beta other than 1 the second weight is a mixture.
            again = 1 - beta + beta * weight[..., None]
            z.register_hook(lambda gradient: gradient * again)
        surrogate = (weight * log_weight).sum(0).mean()
        bound = torch.logsumexp(log_weight.detach(), 0).mean() - math.log(z.shape[0])
        # Value of the bound with the gradient of the surrogate.
        return surrogate + (bound - surrogate).detach()


class Sliced(AutoencoderModule):
    """Reconstruction loss plus `weight` * k * sliced-Wasserstein distance to a prior.

    draw: function of a shape (n, k) and a generator that returns codes from the prior;
    None is the standard normal prior, by its quantiles.
    """

    def __init__(self, *networks, weight, n_projections, draw):
        super().__init__(*networks)
        self.weight, self.n_projections, self.draw = weight, n_projections, draw

    def forward(self, x):
        x = self.likelihood.seen(x, self.generator)
        z = self.encoder(x)  # (n, k)
        fit = self.likelihood.log_density(self.rows(x), self.decode(z)).mean()
        projections = directions(
            self.n_projections, z.shape[1], z.detach(), self.generator
        )
        if self.draw is None:
            distance = sliced_distance_to_normal(z, projections)
        else:
            prior = self.draw(z.shape, self.generator).to(z.dtype)
            distance = sliced_distance(z, prior, projections)
        return self.weight * z.shape[1] * distance - fit


class Pool(torch.nn.Module):
    """Random draws (n, k), with replacement, from stored draws (N, k)."""

    def __init__(self, draws):
        super().__init__()
        self.register_buffer("draws", draws)

    def forward(self, shape, generator):
        chosen = torch.empty(shape[0], dtype=torch.long, device=self.draws.device)
        return self.draws[chosen.random_(self.draws.shape[0], generator=generator)]


class Uniform(torch.nn.Module):
    """Uniform draws (n, k) from the cube [-1, 1]^k."""

    def forward(self, shape, generator):
        device = None if generator is None else generator.device
        return torch.empty(shape, device=device).uniform_(-1, 1, generator=generator)


class Shell(torch.nn.Module):
    """Uniform draws (n, k) from the shell between two spheres."""

    def __init__(self, inner, outer):
        super().__init__()
        self.inner, self.outer = inner, outer

    def forward(self, shape, generator):
        device = None if generator is None else generator.device
        k = shape[1]
        low, high = self.inner**k, self.outer**k
        u = torch.empty(shape[0], 1, device=device).uniform_(generator=generator)
        noise = torch.empty(shape, device=device).normal_(generator=generator)
        size = noise.norm(dim=1, keepdim=True).clamp(min=1e-30)
        return noise * ((low + u * (high - low)) ** (1 / k) / size)
