"""Sliced-Wasserstein autoencoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import nn

from skgen._checks import (
    Described,
    check_integer,
    check_nonnegative,
    invalid_parameter,
)
from skgen._typing import ArrayLike, RandomState
from skgen.autoencoder._base import AbstractAutoencoder
from skgen.autoencoder._latent_density import as_prior, check_prior, is_density
from skgen.autoencoder._networks import AutoencoderModule
from skgen.autoencoder._prior import Cube, Ring, standard_normal
from skgen.autoencoder._sliced_wasserstein import (
    directions,
    sliced_distance,
    sliced_distance_to_normal,
)
from skgen.kde import GaussianKDE

NAMED = ("normal", "uniform", "ring")

# Radii of "ring".
RADII = (0.8, 1.2)

# Bandwidth of the kernel at each sample, relative to the standard deviation of the
# samples.
_NARROW = 0.05

# Number of stored draws from a density, to which batches are matched.
_POOL = 20_000


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


class SWAE(AbstractAutoencoder):
    r"""Sliced-Wasserstein autoencoder.

    Training minimises the reconstruction loss plus a distance between the codes of a
    batch and draws from a prior [1]_,

    .. math:: -\frac1n \sum_i \log p(x_i | z_i)
              + \lambda k \, \mathrm{SW}_2^2(\{z_i\}, \{\tilde z_i\}),
              \qquad z_i = f(x_i), \quad \tilde z_i \sim p(z),

    where :math:`f` is the encoder and :math:`k` the latent dimension.
    :math:`\mathrm{SW}_2^2` is the mean squared difference between the sorted
    projections of the two samples, over rows and random directions. Read more in the
    :doc:`/guide/autoencoders`.

    Parameters
    ----------
    n_components : int, default=2
        Dimension of the latent space.
    prior : str, estimator or array-like of shape (n, n_components), default="normal"
        Prior of the codes.

        - "normal": standard normal.
        - "uniform": uniform on the cube [-1, 1]^k.
        - "ring": uniform between the spheres with radii 0.8 and 1.2.
        - estimator: fitted density of `n_components` features with `score_samples` and
          `sample`. In a search, wrap it in ``sklearn.frozen.FrozenEstimator``, because
          a clone of it is not fitted.
        - array-like: samples. The prior is an equally weighted mixture of normal
          densities around the samples, with 0.05 times their standard deviation.

        Scores are most accurate for at most 500 samples, or at most 500 kernels of a
        :class:`GaussianKDE` with one bandwidth.
    swd_weight : float, default=1.0
        Weight :math:`\lambda` of the distance. The factor :math:`k` in the loss
        compensates for the mean over directions, which is about :math:`1 / k` of the
        squared Wasserstein distance. The weight need not grow with `n_components`.
    n_projections : int, default=50
        Number of random directions for each batch.
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
        Prior, if `prior` is an estimator or samples; None for a named prior.
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
    AutoEncoder : Autoencoder with a density that is fitted to its codes afterwards.
    VAE : Autoencoder with a normal prior, trained by a lower bound.
    sliced_wasserstein_distance : Distance between two samples.

    Notes
    -----
    For the "normal" prior, exact quantiles replace the sorted draws, because every
    projection of a standard normal vector is standard normal. Codes can match a prior
    in all projections of a batch and still leave holes in the latent space. A prior
    with bounded support ("uniform", "ring") gives low scores to rows whose codes lie
    outside. The noise variances are fitted after training, under the posterior of the
    codes.

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
    .. [1] Kolouri, S., Pope, P. E., Martin, C. E. and Rohde, G. K. (2019). Sliced
       Wasserstein auto-encoders. ICLR.

    Examples
    --------
    >>> import numpy as np
    >>> from skgen import SWAE
    >>> rng = np.random.RandomState(0)
    >>> t = rng.uniform(0, 3, 200)
    >>> X = np.column_stack([np.sin(t), np.cos(t)]) + 0.05 * rng.normal(size=(200, 2))
    >>> model = SWAE(n_components=1, max_epochs=20, random_state=0).fit(X)
    >>> model.sample(3).shape
    (3, 2)
    >>> model.inverse_transform(model.transform(X)).shape
    (200, 2)
    """

    def __init__(
        self,
        n_components: int = 2,
        *,
        prior: str | BaseEstimator | ArrayLike = "normal",
        swd_weight: float = 1.0,
        n_projections: int = 50,
        hidden_layer_sizes: tuple[int, ...] | list[int] = (128,),
        activation: str = "relu",
        encoder: nn.Module | Callable[[int, int], nn.Module] | None = None,
        decoder: nn.Module | Callable[[int, int], nn.Module] | None = None,
        image_shape: tuple[int, ...] | list[int] | None = None,
        likelihood: str = "gaussian",
        noise_covariance: str = "diag",
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
        self.prior = prior
        self.swd_weight = swd_weight
        self.n_projections = n_projections
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.encoder = encoder
        self.decoder = decoder
        self.image_shape = image_shape
        self.likelihood = likelihood
        self.noise_covariance = noise_covariance
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

    _fixed = ("prior", "swd_weight", "n_projections", *AbstractAutoencoder._fixed)

    @property
    def _n_encoded(self):
        return self.n_components

    def _check_prior(self):
        check_nonnegative(self, "swd_weight")
        check_integer(self, "n_projections", 1)
        prior, k = self.prior, self.n_components
        if isinstance(prior, str) and prior in NAMED:
            return
        listed = ", ".join(repr(name) for name in NAMED)
        rule = (
            f"one of {listed}, a fitted density of {k} features with score_samples "
            f"and sample, or an array of samples of shape (n, {k})"
        )
        if is_density(prior):
            width = getattr(prior, "n_features_in_", None)
            if width != k:
                got = (
                    "one that is not fitted (in a search, where estimators are cloned, "
                    "wrap it in sklearn.frozen.FrozenEstimator)"
                    if width is None
                    else f"one of {width} features"
                )
                raise invalid_parameter(self, "prior", rule, Described(got))
            try:
                check_prior(unguided(prior, k))
            except Exception as error:
                got = Described(f"{prior!r}, which cannot be used ({error})")
                raise invalid_parameter(self, "prior", rule, got) from error
        elif isinstance(prior, str) or not is_table_of(prior, k):
            raise invalid_parameter(self, "prior", rule, prior)

    def _given_density(self):
        return None if isinstance(self.prior, str) else self._prior_density

    def _density_to_fit(self):
        return None

    def _first_prior(self, codes):
        if isinstance(self._prior_density, str):
            return named_prior(self._prior_density, self._fitted_n_components)
        return as_prior(self._prior_density, codes)

    def _loss_module(self, encoder, decoder, likelihood, varying):
        self._prior_density = prior_density(self.prior)
        return Sliced(
            encoder,
            decoder,
            likelihood,
            varying,
            weight=self.swd_weight,
            n_projections=self.n_projections,
            draw=prior_draws(self._prior_density, self.n_components),
        )


def is_table_of(value, k):
    """Return whether a value is a finite array (n, k) with two different rows."""
    try:
        table = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return False
    return (
        table.ndim == 2
        and table.shape[0] >= 2
        and table.shape[1] == k
        and bool(np.isfinite(table).all())
        and bool((table != table[0]).any())
    )


def prior_density(prior):
    """Return the name or the fitted density of a prior; samples become a KDE."""
    if isinstance(prior, str) or hasattr(prior, "score_samples"):
        return prior
    samples = np.asarray(prior, dtype=np.float64)
    width = _NARROW * np.sqrt(samples.var(axis=0).mean())
    return GaussianKDE(float(width)).fit(samples)


def named_prior(name, k):
    """Return the prior in k dimensions with the given name."""
    if name == "uniform":
        return Cube(k)
    return Ring(k, *RADII) if name == "ring" else standard_normal(k)


def unguided(density, k):
    """Return a fitted density as a prior, without codes for a guide."""
    return as_prior(density, np.concatenate([np.eye(k), -np.eye(k)]))


def prior_draws(density, k):
    """Return a module that draws codes from a prior, or None for "normal"."""
    if isinstance(density, str) and density == "normal":
        return None
    if isinstance(density, str):
        return Uniform() if density == "uniform" else Shell(*RADII)
    pool = unguided(density, k).draw(_POOL, np.random.RandomState(0))
    return Pool(torch.as_tensor(pool, dtype=torch.float32))


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
