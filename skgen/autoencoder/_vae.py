"""Variational autoencoder."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from sklearn.base import BaseEstimator
from torch import nn

from skgen._checks import check_integer, check_nonnegative
from skgen._typing import RandomState
from skgen.autoencoder._base import AbstractAutoencoder, check_latent_density
from skgen.autoencoder._networks import AutoencoderModule
from skgen.autoencoder._prior import standard_normal

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


class VAE(AbstractAutoencoder):
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
    n_components : int, default=2
        Dimension of the latent space.
    beta : float, default=1.0
        Weight of the Kullback-Leibler divergence. With 1, the loss is the negative
        evidence lower bound.
    n_importance : int, default=1
        Number of codes that training draws for each row. With more than one, training
        maximises the importance-weighted bound [2]_, which is closer to
        :math:`\log p(x)`. The cost of training is roughly proportional to it.
    hidden_layer_sizes : tuple or list of int, default=(128,)
        Number of units in each hidden layer of the encoder. The decoder has the same
        layers in reverse order. If empty, the networks are linear. With `image_shape`,
        these layers lie between the convolutions and the code.
    activation : str, default="relu"
        Activation function of the hidden layers: "relu", "tanh", "silu", "gelu",
        "softplus" or "identity".
    encoder : torch.nn.Module or callable, default=None
        Custom encoder: a module, which is copied, or a callable that returns a module
        for ``(n_in, n_out)``, such as the class ``torch.nn.Linear``. It maps rows,
        which are scaled for "gaussian", to ``2 * n_components`` numbers: the means of
        the codes, then their log-variances. The default encoder is defined by
        `hidden_layer_sizes`, `activation` and `image_shape`.
    decoder : torch.nn.Module or callable, default=None
        Custom decoder, given like `encoder`. It maps codes to the means of the scaled
        features for "gaussian", and to logits for other likelihoods.
    image_shape : tuple or list of int, default=None
        Shape of the image in each row: (height, width) or (channels, height, width).
        If given, the default networks are convolutional. A custom encoder then takes
        images with channels first, and a custom decoder returns them.
    likelihood : {"gaussian", "bernoulli", "continuous_bernoulli"}, default="gaussian"
        Distribution :math:`p(x | z)` of each feature.

        - "gaussian": normal; the decoder returns the mean.
        - "bernoulli": 0 or 1; the decoder returns the logit of a 1. `X` must lie in
          [0, 1]. Values between 0 and 1 are probabilities, from which each training
          step draws zeros and ones. Scores are log-probabilities for rows of zeros and
          ones only.
        - "continuous_bernoulli": a density on [0, 1]; the decoder returns its logit.
    noise_covariance : {"diag", "spherical"}, default="diag"
        Noise variances of "gaussian". "diag": one variance for each feature, and each
        feature is scaled to unit variance for training. "spherical": one variance and
        one scale for all features.
    latent_density : estimator, default=None
        Density to fit to the codes after training, in place of the standard normal
        prior: an estimator with `fit`, `score_samples` and `sample`, which is cloned.
        If None, the prior is kept.
    n_importance_samples : int, default=64
        Number of codes that `score_samples` draws for each row. Use 256 or more for
        scores that you report. With 0, only Laplace's approximation is used. It is not
        a lower bound. It requires a density of codes that is normal, uniform, a
        Gaussian mixture or a set of at most 32 samples.
    max_epochs : int, default=100
        Maximum number of passes over the training rows.
    batch_size : int or "auto", default="auto"
        Maximum number of rows in a batch. "auto" is one fortieth of the rows, but at
        least 16 and at most 128.
    lr : float, default=5e-3
        Learning rate. In `fit` it decreases to nearly 0 along half a cosine; in
        `partial_fit` it is constant.
    optimizer : str or type, default="adam"
        Optimiser: "adam", "adamw", "rmsprop", "sgd" or a subclass of
        ``torch.optim.Optimizer``.
    early_stopping : bool, default=False
        Whether to stop training when the loss of held-out rows no longer improves, and
        to keep the weights with the lowest held-out loss. Ignored if fewer than 5 rows
        would be held out.
    validation_fraction : float, default=0.1
        Fraction of the rows to hold out at random. Only used if `early_stopping` is
        True.
    n_iter_no_change : int, default=10
        Number of epochs without an improvement of the held-out loss after which
        training stops. Only used if `early_stopping` is True.
    warm_start : bool, default=False
        If True, `fit` continues to train the networks of the previous fit, with the
        same scaling of the features. Parameters that define the networks, the loss or
        the optimiser must not have changed.
    net_callbacks : list, default=None
        Callbacks of skorch for `net_`.
    net_params : dict, default=None
        Additional parameters of ``skorch.NeuralNet``, such as
        ``{"optimizer__weight_decay": 1e-4}`` or ``{"compile": True}``.
    random_state : int, RandomState instance or None, default=None
        Seed or generator of the initial weights, the order of the rows, the noise in
        training and the draws of `sample`. Pass an int for reproducible results.
    device : str, default="cpu"
        Device for training: "cpu", "cuda", "cuda:1", "mps", or "auto" for the fastest
        device available. After training, the model is evaluated on the CPU in double
        precision.

    Attributes
    ----------
    noise_variance_ : float or ndarray of shape (n_features,)
        Noise variances of "gaussian", in squared units of the data; one float for
        "spherical". Not set for other likelihoods.
    latent_density_ : estimator or None
        Fitted density of the codes; None for the standard normal prior.
    history_ : list of dict
        Record of each epoch: its number (``epoch``), the mean loss of the training
        batches during the epoch (``train``), the loss of the held-out rows after the
        epoch (``validation``, NaN without early stopping) and the duration
        (``seconds``). For ``beta=1`` the loss estimates the negative lower bound, in
        nats per row and in the units of the data.
    n_iter_ : int
        Number of epochs in `history_`.
    net_ : skorch.NeuralNet
        Trained net. Its ``module_`` holds the networks `encoder` and `decoder`, which
        take and return scaled features (see `noise_covariance`).
    n_features_in_ : int
        Number of features seen during `fit`.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features seen during `fit`. Set only if `X` has feature names that
        are all strings.

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

    `score_samples` estimates :math:`\log \int p(z) p(x | z) \, dz` for each row by
    importance sampling around the modes of the integrand. Damped Gauss-Newton steps
    find the modes, from the encoder's code and from a set of other codes. The estimate
    is a lower bound in expectation. It lies within hundredths of a nat of quadrature
    for one or two latent dimensions, and tenths of a nat below annealed importance
    sampling for tens of latent dimensions. Rows far from all training rows can be
    underestimated by tens of nats; they remain outliers. Scoring a row costs about 100
    passes through the decoder for each latent dimension.

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
        hidden_layer_sizes: tuple[int, ...] | list[int] = (128,),
        activation: str = "relu",
        encoder: nn.Module | Callable[[int, int], nn.Module] | None = None,
        decoder: nn.Module | Callable[[int, int], nn.Module] | None = None,
        image_shape: tuple[int, ...] | list[int] | None = None,
        likelihood: str = "gaussian",
        noise_covariance: str = "diag",
        latent_density: BaseEstimator | None = None,
        n_importance_samples: int = 64,
        max_epochs: int = 100,
        batch_size: int | str = "auto",
        lr: float = 5e-3,
        optimizer: str | type[torch.optim.Optimizer] = "adam",
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        warm_start: bool = False,
        net_callbacks: list[Any] | None = None,
        net_params: dict[str, Any] | None = None,
        random_state: RandomState = None,
        device: str = "cpu",
    ) -> None:
        self.n_components = n_components
        self.beta = beta
        self.n_importance = n_importance
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.encoder = encoder
        self.decoder = decoder
        self.image_shape = image_shape
        self.likelihood = likelihood
        self.noise_covariance = noise_covariance
        self.latent_density = latent_density
        self.n_importance_samples = n_importance_samples
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.optimizer = optimizer
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.net_callbacks = net_callbacks
        self.net_params = net_params
        self.random_state = random_state
        self.device = device

    _fixed = ("beta", "n_importance", *AbstractAutoencoder._fixed)

    _learns_noise = True

    @property
    def _n_encoded(self):
        return 2 * self.n_components

    def _check_prior(self):
        check_nonnegative(self, "beta")
        check_integer(self, "n_importance", 1)
        check_latent_density(self)

    def _first_prior(self, codes):
        return standard_normal(self._fitted_n_components)

    def _density_to_fit(self):
        return self.latent_density

    def _given_density(self):
        return None

    def _loss_module(self, encoder, decoder, likelihood, varying):
        return Variational(
            encoder,
            decoder,
            likelihood,
            varying,
            beta=self.beta,
            n_importance=self.n_importance,
        )
