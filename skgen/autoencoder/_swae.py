"""Sliced-Wasserstein autoencoder."""

from skgen._parameters import (
    Described,
    check_integer,
    check_nonnegative,
    invalid_parameter,
)
from skgen.autoencoder._base import AbstractAutoencoder
from skgen.autoencoder._latent import as_prior, check_prior, is_density
from skgen.autoencoder._swae_prior import (
    NAMED,
    is_table_of,
    named_prior,
    prior_density,
    prior_draws,
    unguided,
)


class SWAE(AbstractAutoencoder):
    r"""Sliced-Wasserstein autoencoder.

    An autoencoder whose codes are drawn to a prior while it trains: the loss is

    .. math:: -\frac1n \sum_i \log p(x_i | z_i)
              + \lambda k \, \mathrm{SW}_2^2(\{z_i\}, \{\tilde z_i\}),
              \qquad z_i = f(x_i), \quad \tilde z_i \sim p(z),

    with the mean over random directions and rows of squared differences between
    sorted projections of the batch's :math:`k`-number codes and of draws from the
    prior [1]_. Read more in the :doc:`/guide/autoencoders`.

    Parameters
    ----------
    n_components : int, default=2
        The numbers of a code.
    prior : str, estimator or array-like of shape (n, n_components), default="normal"
        "normal"; "uniform" on the cube [-1, 1]^k; "ring", uniform between the radii
        0.8 and 1.2; a fitted density of `n_components` features with
        `score_samples` and `sample` (in a search wrap it in
        ``sklearn.frozen.FrozenEstimator``, since clones are not fitted); or samples,
        which stand for normal densities about them of 0.05 of their standard
        deviation. Scores are more exact for up to 500 of them than for more, and so
        they are for the kernels of a `GaussianKDE` of one bandwidth.
    swd_weight : float, default=1.0
        The :math:`\lambda` of the loss. The mean over directions is about the
        squared Wasserstein distance over :math:`k`, and the loss multiplies it by
        :math:`k`: the weight need not grow with `n_components`.
    n_projections : int, default=50
        How many directions to draw for a batch.
    hidden_layer_sizes : tuple of int, default=(128,)
        The hidden layers of the encoder; the decoder has them in reverse. Empty for
        linear networks. With `image_shape` they lie between convolutions and code.
    activation : str, default="relu"
        What lies between two layers: "relu", "tanh", "silu", "gelu", "softplus" or
        "identity".
    encoder : torch.nn.Module or callable, default=None
        A module of your own, copied, or a function of (n_in, n_out) that returns one
        (a class such as ``torch.nn.Linear`` is one). It gives `n_components`
        numbers a row.
    decoder : torch.nn.Module or callable, default=None
        The same for the way back: from codes to rows.
    image_shape : tuple of int, default=None
        (height, width) or (channels, height, width) of the image that a row is. The
        networks then are convolutional, and modules of your own see images.
    likelihood : {"gaussian", "bernoulli", "continuous_bernoulli"}, default="gaussian"
        What :math:`p(x | z)` is in each feature: normal about the decoder's output;
        zeros and ones, where `X` in [0, 1] holds probabilities of ones that training
        draws from anew in each step, and scores are a density of 0/1 data alone; or
        a density on [0, 1].
    noise_covariance : {"diag", "spherical"}, default="diag"
        For "gaussian", one variance for each feature, with each feature scaled to
        unit variance inside, or one for all, with one scale for all.
    n_importance_samples : int, default=64
        How many codes of each row `score_samples` draws; 256 and more for a figure
        to report. 0 is Laplace's approximation alone, no bound, for priors that are
        normal, uniform, Gaussian mixtures or up to 32 samples.
    max_epochs : int, default=100
        The most passes over the rows.
    batch_size : int or "auto", default="auto"
        The most rows in a batch. "auto" takes a fortieth of the rows, but at least
        16 and at most 128.
    lr : float, default=5e-3
        The learning rate, which falls along half a cosine to next to nothing.
    optimizer : str or type, default="adam"
        "adam", "adamw", "rmsprop", "sgd", or a subclass of
        ``torch.optim.Optimizer``.
    early_stopping : bool, default=False
        Whether to hold rows out, stop where their loss no longer falls, and keep the
        weights that were best for them.
    validation_fraction : float, default=0.1
        The share of rows to hold out, chosen at random.
    n_iter_no_change : int, default=10
        How many epochs without a fall of the held-out loss are the last.
    warm_start : bool, default=False
        Whether a second `fit` goes on where the first ended, in its coordinates
        and with its net: parameters that the net was built with must not change.
    net_callbacks : list, default=None
        Callbacks of skorch, which see every epoch of `net_`.
    net_params : dict, default=None
        Further parameters of ``skorch.NeuralNet``, such as
        ``{"optimizer__weight_decay": 1e-4}`` or ``{"compile": True}``.
    random_state : int, RandomState instance or None, default=None
        Seeds the weights, the order of rows, all noise, and the draws of `sample`.
    device : str, default="cpu"
        Where to train: "cpu", "cuda", "cuda:1", "mps", or "auto" for the fastest
        there is. Answers are computed on the CPU in double precision.

    Attributes
    ----------
    noise_variance_ : float or ndarray of shape (n_features,)
        For "gaussian", the variance of the noise about the decoder's output, in the
        units of the data: one number for "spherical".
    latent_density_ : estimator or None
        The density that the prior is; None for one with a name.
    history_ : list of dict
        For each epoch its number, the mean loss of the batches as they went by
        (``train``) and of the held-out rows after them (``validation``, NaN without
        any), and how many ``seconds`` it took. The loss of
        "gaussian" is that of unit noise in the coordinates of the networks, no score.
    n_iter_ : int
        The number of epochs.
    net_ : skorch.NeuralNet
        The net, whose ``module_`` holds `encoder` and `decoder` in its own
        coordinates.
    n_features_in_ : int
        The number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        The names of the features, where `X` has string names for all.

    See Also
    --------
    AutoEncoder : Fits a density to codes afterwards.
    VAE : Draws codes to a prior by a divergence.
    sliced_wasserstein_distance : The distance between two samples.

    Notes
    -----
    For the normal prior exact quantiles stand for the sorted draws: any projection of
    a standard normal vector is a standard normal number. Codes can match a prior in
    all projections of a batch and still leave holes in it; and a prior without
    density somewhere ("uniform", "ring") punishes rows whose codes fall there. The
    noise is fitted under the codes' posterior after training.

    `score_samples` estimates :math:`\log \int p(z) p(x | z) \, dz` for each row by
    importance sampling about the modes of the integrand, which damped Gauss-Newton
    steps find from the encoder's code and from a bank of others. It is a lower bound
    in expectation: within hundredths of a nat of quadrature for codes of one or two
    numbers, tenths of a nat below annealed importance sampling for codes of tens; rows
    far from all others can lie tens of nats too low, which leaves them outliers. A
    row costs about a hundred passes through the decoder for each number of its code.

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
        n_components=2,
        *,
        prior="normal",
        swd_weight=1.0,
        n_projections=50,
        hidden_layer_sizes=(128,),
        activation="relu",
        encoder=None,
        decoder=None,
        image_shape=None,
        likelihood="gaussian",
        noise_covariance="diag",
        n_importance_samples=64,
        max_epochs=100,
        batch_size="auto",
        lr=5e-3,
        optimizer="adam",
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        warm_start=False,
        net_callbacks=None,
        net_params=None,
        random_state=None,
        device="cpu",
    ):
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
                    "one that is not fitted (a clone is not: in a search, wrap it in "
                    "sklearn.frozen.FrozenEstimator)"
                    if width is None
                    else f"one of {width}"
                )
                raise invalid_parameter(self, "prior", rule, Described(got))
            try:
                check_prior(unguided(prior, k))
            except Exception as error:
                got = Described(f"{prior!r}, which does not serve ({error})")
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
        from skgen.autoencoder._modules import Sliced

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
