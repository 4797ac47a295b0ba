"""Lower bound of rows of which some are labelled, summed over the classes of others."""

import math

import torch

from skgen.autoencoder._jacobian import WithClass
from skgen.autoencoder._labelled_module import LabelledModule
from skgen.autoencoder._vae import _LOG_VARIANCES, Variational, kl_to_standard_normal

# Logarithm of class probabilities whose classes are left out of the sum over classes.
_NEGLIGIBLE = math.log(1e-6)


class SemiVariational(LabelledModule):
    """Negative ELBO of rows and classes, summed over classes of unlabelled rows."""

    def __init__(self, *networks, **parameters):
        super().__init__(*networks, **parameters)
        self.register_buffer("n_steps", torch.zeros(()))

    _weight = Variational._weight

    def posteriors(self, x):
        """Return means, log-variances (n, C, k) and log q(c | x): (n, C)."""
        n_classes = self.log_priors.numel()
        out = self.encoder(self.inputs(x))
        logits, moments = out[:, :n_classes], out[:, n_classes:]
        mean, log_variance = moments.view(x.shape[0], n_classes, -1).chunk(2, dim=2)
        log_q = torch.log_softmax(logits, dim=1)
        return mean, log_variance.clamp(*_LOG_VARIANCES), log_q

    def log_class_probabilities(self, x):
        return self.posteriors(x)[2]

    def encode(self, x):
        mean, _, log_q = self.posteriors(x)
        return (log_q.exp()[..., None] * mean).sum(1)

    def given_class(self, c):
        return OfClass(self, c)

    def forward(self, x):
        n = x.shape[0]
        x, y = self.batch(x)
        x = self.observed.seen(x, self.generator)
        inputs = self.inputs(x)
        mean, log_variance, log_q = self.posteriors(inputs)
        loss = self.class_loss(inputs, log_q, y, n)
        x, y, log_q = x[:n], y[:n], log_q[:n]
        n_classes = log_q.shape[1]
        # Pairs of a row and a class: of a labelled row its own class only. Classes that
        # q excludes would cost a decoded row each and change the sum by less than 1e-3.
        own = torch.nn.functional.one_hot(y.clamp(min=0), n_classes).bool()
        unknown = (y < 0)[:, None]
        counts = own | (unknown & (log_q > _NEGLIGIBLE))
        row, c = counts.nonzero(as_tuple=True)  # (P,)
        mean, log_variance = mean[row, c], log_variance[row, c]  # (P, k)
        noise = torch.empty_like(mean).normal_(generator=self.generator)
        z = mean + (0.5 * log_variance).exp() * noise
        indicator = torch.nn.functional.one_hot(c, n_classes).to(z.dtype)
        a = self.decode(torch.cat([z, indicator], dim=1))
        weight = torch.where(unknown, log_q.exp(), own.to(z.dtype))[row, c]
        rows = self.rows(x)[row]
        self.observed.follow(rows, a, weight.detach())
        divergence = self._weight() * kl_to_standard_normal(mean, log_variance)
        bound = self.observed.log_density(rows, a) - divergence + self.log_priors[c]
        entropy = -(log_q.exp() * log_q).sum(1, keepdim=True) * unknown  # (n, 1)
        return loss - ((weight * bound).sum() + entropy.sum()) / n


class OfClass(torch.nn.Module):
    """A `SemiVariational` given class c, with the methods that a `Posterior` calls."""

    def __init__(self, module, c):
        super().__init__()
        self.module, self.c = module, c
        self.likelihood, self.rows = module.likelihood, module.rows
        self.width = module.width
        self.decoder = torch.nn.Sequential(
            WithClass(c, module.log_priors.numel()), module.decoder
        )

    def encode(self, x):
        return self.module.posteriors(x)[0][:, self.c]

    def decode(self, z):
        a = self.decoder(z.reshape(-1, z.shape[-1]))
        return self.rows(a).reshape(*z.shape[:-1], self.width)
