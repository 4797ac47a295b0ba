"""Variational autoencoder."""

from __future__ import annotations

import skgen._needs_torch  # noqa: F401

# isort: split

import math
from functools import partial
from typing import Any, ClassVar

import torch

from skgen._checks import check_integer, check_nonnegative
from skgen._typing import RandomState
from skgen.autoencoder._base import AbstractAutoencoder
from skgen.autoencoder._networks import AutoencoderModule
from skgen.autoencoder._parameters import Density, Network, Optimizer, with_docs
from skgen.autoencoder._parts import AutoencoderParts
from skgen.autoencoder._prior import standard_normal
from skgen.neural._parameters import Sizes

# Bounds of the log-variances of codes, which keep sums and inverses finite.
_LOG_VARIANCES = (-20.0, 15.0)

# Number of steps until the divergence has its full weight. With full weight from the
# start, the posterior tends to collapse before the decoder has learned to use codes.
_WARM_UP = 200


def kl_to_standard_normal(mean, log_variance):
    """Return KL(N(mean, diag(exp(log_variance))) || N(0, I)) in nats: (...).

    mean, log_variance: (..., k).
    """
    terms = mean.square() + torch.expm1(log_variance) - log_variance  # (..., k)
    return 0.5 * terms.sum(-1)


class Variational(AutoencoderModule):
    """Negative ELBO, or negative importance-weighted bound if `n_importance` > 1.

    `beta` is the weight of the divergence.
    """

    def __init__(self, *networks, **parameters):
        super().__init__(*networks, **parameters)
        self.register_buffer("n_steps", torch.zeros(()))

    def _weight(self):
        """Return the weight of the divergence, which increases during the warm-up."""
        if not self.training:
            return self.beta
        self.n_steps += 1
        return self.beta * (self.n_steps / _WARM_UP).clamp(max=1.0)

    def posterior(self, x):
        mean, log_variance = self.encoder(self.inputs(x)).chunk(2, dim=-1)
        return mean, log_variance.clamp(*_LOG_VARIANCES)

    def encode(self, x):
        return self.posterior(x)[0]

    def forward(self, x):
        x = self.observed.seen(x, self.generator)
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
        self.observed.follow(self.rows(x), a)
        divergence = kl_to_standard_normal(mean, log_variance)
        fit = self.observed.log_density(self.rows(x), a)
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
        self.observed.follow(x, a)
        log_weight = self.observed.log_density(x, a) + beta * (log_prior - log_q)
        weight = torch.softmax(log_weight.detach(), dim=0)  # (m, n)
        if z.requires_grad:
            # For a beta other than 1 the second weight is a mixture.
            again = 1 - beta + beta * weight[..., None]
            z.register_hook(lambda gradient: gradient * again)
        surrogate = (weight * log_weight).sum(0).mean()
        bound = torch.logsumexp(log_weight.detach(), 0).mean() - math.log(z.shape[0])
        # Value of the bound with the gradient of the surrogate.
        return surrogate + (bound - surrogate).detach()


@with_docs
class VAE(AutoencoderParts, AbstractAutoencoder):
    r"""Variational autoencoder.

    A code is drawn from :math:`\mathcal N(0, I)`, and a row from :math:`p(x | z)` with
    parameters given by the decoder. The encoder returns the mean and the log-variance
    of a normal approximation :math:`q(z | x)` of the posterior. Training maximises the
    mean over rows of

    .. math:: \mathbb E_{q(z | x)} \log p(x | z)
              - \beta \, \mathrm{KL}(q(z | x) \,\|\, \mathcal N(0, I)),

    which for :math:`\beta = 1` is the evidence lower bound of :math:`\log p(x)` [1]_.
    Read more in the :doc:`/guide/autoencoders`.

    Parameters
    ----------
    beta : float
        Weight of the Kullback-Leibler divergence. With 1, the loss is the negative
        evidence lower bound.
    n_importance : int
        Number of codes that training draws for each row. With more than one, training
        maximises the importance-weighted bound [2]_, which is closer to
        :math:`\log p(x)`. The cost of training is roughly proportional to it.
    encoder : torch.nn.Module or callable
        Custom encoder: a module, which is copied, or a callable that returns a module
        for ``(n_in, n_out)``, such as the class ``torch.nn.Linear``. It maps rows,
        which are scaled for "gaussian", to ``2 * n_components`` numbers: the means of
        the codes, then their log-variances. The default encoder is defined by
        `hidden_layer_sizes`, `activation` and `image_shape`.
    latent_density : estimator
        Density to fit to the codes after training, in place of the standard normal
        prior: an estimator with `fit`, `score_samples` and `sample`, which is cloned.
        If None, the prior is kept.

    Attributes
    ----------
    latent_density_ : estimator or None
        Fitted density of the codes; None for the standard normal prior.
    history_ : list of dict
        Record of each epoch: its number (``epoch``), the mean loss of the training
        batches during the epoch (``train``), the loss of the held-out rows after the
        epoch (``validation``, NaN without early stopping) and the duration
        (``seconds``). For ``beta=1`` the loss estimates the negative lower bound, in
        nats per row and in the units of the data.

    See Also
    --------
    AutoEncoder : Autoencoder without a prior in training.
    SWAE : Autoencoder whose codes are matched to a prior by sorted projections.

    Notes
    -----
    The divergence is computed in closed form. With several codes for each row, the
    gradients are doubly reparameterised [3]_. Log-variances are clipped to [-20, 15].
    The weight of the divergence increases linearly over the first 200 steps, so that
    the posterior does not collapse to the prior before the decoder uses the codes.
    During training, the noise variances are running means of the squared residuals.
    After training, they are fitted under the posterior of the codes.

    References
    ----------
    .. [1] Kingma, D. P. and Welling, M. (2014). Auto-encoding variational Bayes. ICLR.
    .. [2] Burda, Y., Grosse, R. and Salakhutdinov, R. (2016). Importance weighted
       autoencoders. ICLR.
    .. [3] Tucker, G., Lawson, D., Gu, S. and Maddison, C. J. (2019). Doubly
       reparameterized gradient estimators for Monte Carlo objectives. ICLR.

    Examples
    --------
    >>> import numpy as np
    >>> from skgen import VAE
    >>> rng = np.random.RandomState(0)
    >>> t = rng.uniform(0, 3, 200)
    >>> X = np.column_stack([np.sin(t), np.cos(t)]) + 0.05 * rng.normal(size=(200, 2))
    >>> model = VAE(n_components=1, max_epochs=20, random_state=0).fit(X)
    >>> model.sample(3).shape
    (3, 2)
    >>> model.inverse_transform(model.transform(X)).shape
    (200, 2)
    """

    def __init__(
        self,
        n_components: int = 2,
        *,
        beta: float = 1.0,
        n_importance: int = 1,
        hidden_layer_sizes: Sizes = (128,),
        activation: str = "relu",
        encoder: Network | None = None,
        decoder: Network | None = None,
        image_shape: Sizes | None = None,
        encode_mask: bool = False,
        likelihood: str = "gaussian",
        noise_covariance: str = "diag",
        latent_density: Density | None = None,
        n_importance_samples: int = 64,
        max_epochs: int = 100,
        batch_size: int | str = "auto",
        lr: float = 5e-3,
        optimizer: Optimizer = "adam",
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        warm_start: bool = False,
        net_callbacks: list[Any] | None = None,
        net_params: dict[str, Any] | None = None,
        random_state: RandomState = None,
        device: str = "cpu",
    ) -> None:
        self._set_shared(locals())
        self.beta = beta
        self.n_importance = n_importance

    _loss_checks: ClassVar = {
        "beta": check_nonnegative,
        "n_importance": partial(check_integer, minimum=1),
    }
    _n_moments = 2
    _learns_noise = True

    def _loss_module(self, *networks, **parameters):
        return Variational(*networks, **parameters)

    def _prior_in_training(self, codes):
        return standard_normal(self._fitted_n_components)
