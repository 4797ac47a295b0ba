"""Autoencoder with a density model of its latent codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from sklearn.base import BaseEstimator
from torch import nn

from skgen._typing import RandomState
from skgen.autoencoder._base import AbstractAutoencoder, check_latent_density
from skgen.autoencoder._calibration import normal_density_of
from skgen.autoencoder._networks import AutoencoderModule


class Reconstruction(AutoencoderModule):
    """Negative mean log-likelihood of rows given their codes."""

    def forward(self, x):
        x = self.likelihood.seen(x, self.generator)
        return -self.likelihood.log_density(
            self.rows(x), self.decode(self.encoder(x))
        ).mean()


class AutoEncoder(AbstractAutoencoder):
    r"""Autoencoder with a density model of its latent codes.

    An encoder :math:`f` maps a row to a code, a point of a latent space of few
    dimensions. A decoder :math:`g` maps the code back. Training minimises

    .. math:: -\frac1n \sum_i \log p(x_i | z = f(x_i)),

    which for normal features of unit noise variance is half the squared error, up to a
    constant. This loss does not determine the distribution of the codes. After
    training, a density of the codes and the variances of the noise are fitted, so that
    the model has a density :math:`p(x)`. Read more in the :doc:`/guide/autoencoders`.

    Parameters
    ----------
    n_components : int, default=2
        Dimension of the latent space.
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
        which are scaled for "gaussian", to codes of `n_components` numbers. The default
        encoder is defined by `hidden_layer_sizes`, `activation` and `image_shape`.
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
        Density to fit to the codes after training: an estimator with `fit`,
        `score_samples` and `sample`, which is cloned. If None, a Gaussian mixture whose
        number of components, from 1 to 32, is chosen on held-out rows.
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
        Fitted density of the codes.
    history_ : list of dict
        Record of each epoch: its number (``epoch``), the mean loss of the training
        batches during the epoch (``train``), the loss of the held-out rows after the
        epoch (``validation``, NaN without early stopping) and the duration
        (``seconds``). For "gaussian" the loss assumes unit noise variances, so it
        cannot be compared with `score`.
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
    VAE : Autoencoder with a normal prior, trained by a lower bound.
    SWAE : Autoencoder whose codes are matched to a prior by sorted projections.

    Notes
    -----
    The density is not fitted to the encoder's codes but to draws from a normal
    approximation (Laplace's method) of the posterior of each row's code. The encoder's
    codes contain the noise of the rows, so the noise would count twice. EM estimates
    the noise variances under the same posterior. A linear autoencoder with
    spherical noise is probabilistic PCA [1]_. Generating rows by decoding draws from a
    density that is fitted to codes follows [2]_. If the density cannot be fitted, the
    trained networks are kept; `fit_latent_density` fits another density.

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
    .. [1] Tipping, M. E. and Bishop, C. M. (1999). Probabilistic principal component
       analysis. Journal of the Royal Statistical Society B 61, 611-622.
    .. [2] Ghosh, P., Sajjadi, M. S. M., Vergari, A., Black, M. and Scholkopf, B.
       (2020). From variational to deterministic autoencoders. ICLR.

    Examples
    --------
    >>> import numpy as np
    >>> from skgen import AutoEncoder
    >>> rng = np.random.RandomState(0)
    >>> t = rng.uniform(0, 3, 200)
    >>> X = np.column_stack([np.sin(t), np.cos(t)]) + 0.05 * rng.normal(size=(200, 2))
    >>> model = AutoEncoder(n_components=1, max_epochs=20, random_state=0).fit(X)
    >>> model.sample(3).shape
    (3, 2)
    >>> model.inverse_transform(model.transform(X)).shape
    (200, 2)
    """

    def __init__(
        self,
        n_components: int = 2,
        *,
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

    _learns_prior = True

    @property
    def _n_encoded(self):
        return self.n_components

    def _check_prior(self):
        check_latent_density(self)

    def _first_prior(self, codes):
        return normal_density_of(torch.from_numpy(codes))

    def _density_to_fit(self):
        return False if self.latent_density is None else self.latent_density

    def _given_density(self):
        return None

    def _loss_module(self, encoder, decoder, likelihood, varying):
        return Reconstruction(encoder, decoder, likelihood, varying)
