"""Variational autoencoder."""

from skgen._parameters import check_integer, check_nonnegative
from skgen.autoencoder._base import AbstractAutoencoder, check_latent_density


class VAE(AbstractAutoencoder):
    r"""Variational autoencoder.

    A code is drawn from :math:`\mathcal N(0, I)` and a row from
    :math:`p(x | z)` about the decoder's output. The encoder gives the mean and the
    log-variance of a normal :math:`q(z | x)`, and training maximises the mean of

    .. math:: \mathbb E_{q(z | x)} \log p(x | z)
              - \beta \, \mathrm{KL}(q(z | x) \,\|\, \mathcal N(0, I))
              \le \log p(x),

    the evidence lower bound for :math:`\beta = 1` [1]_. Read more in the
    :doc:`/guide/autoencoders`.

    Parameters
    ----------
    n_components : int, default=2
        The numbers of a code.
    beta : float, default=1.0
        The weight of the divergence; with other values than 1 the loss is no bound.
    n_importance : int, default=1
        How many codes training draws for a row. More than one give the
        importance-weighted bound [2]_, nearer to :math:`\log p(x)`.
    hidden_layer_sizes : tuple of int, default=(128,)
        The hidden layers of the encoder; the decoder has them in reverse. Empty for
        linear networks. With `image_shape` they lie between convolutions and code.
    activation : str, default="relu"
        What lies between two layers: "relu", "tanh", "silu", "gelu", "softplus" or
        "identity".
    encoder : torch.nn.Module or callable, default=None
        A module of your own, copied, or a function of (n_in, n_out) that returns one
        (a class such as ``torch.nn.Linear`` is one). It gives 2 *
        `n_components` numbers a row: means, then log-variances.
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
    latent_density : estimator, default=None
        What to fit to codes after training, in place of the standard normal prior:
        anything with `fit`, `score_samples` and `sample`.
    n_importance_samples : int, default=64
        How many codes of each row `score_samples` draws; 256 and more for a figure
        to report. 0 is Laplace's approximation alone, no bound, for priors that are
        normal, uniform or Gaussian mixtures.
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
        The density that was fitted to codes; None for the standard normal prior.
    history_ : list of dict
        For each epoch its number, the mean loss of the batches as they went by
        (``train``) and of the held-out rows after them (``validation``, NaN without
        any), and how many ``seconds`` it took. In nats per row and in the
        units of the data, up to the noise of the codes drawn.
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
    AutoEncoder : Without a prior in training.
    SWAE : Matches projections of codes to those of the prior.

    Notes
    -----
    The divergence has a closed form; with more codes than one, gradients are doubly
    reparameterised [3]_. Log-variances are clamped to [-20, 15]. In the first 200
    steps the divergence is let in by degrees, lest codes be given up before the
    decoder can use them. The noise variances follow the residuals in training and are
    fitted under the codes' posterior after it.

    `score_samples` estimates :math:`\log \int p(z) p(x | z) \, dz` for each row by
    importance sampling about the modes of the integrand, which damped Gauss-Newton
    steps find from the encoder's code and from a bank of others. It is a lower bound
    in expectation: within hundredths of a nat of quadrature for codes of one or two
    numbers, tenths of a nat below annealed importance sampling for codes of tens; rows
    far from all others can lie tens of nats too low, which leaves them outliers. A
    row costs about a hundred passes through the decoder for each number of its code.

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
        n_components=2,
        *,
        beta=1.0,
        n_importance=1,
        hidden_layer_sizes=(128,),
        activation="relu",
        encoder=None,
        decoder=None,
        image_shape=None,
        likelihood="gaussian",
        noise_covariance="diag",
        latent_density=None,
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
        from skgen.autoencoder._priors import standard_normal

        return standard_normal(self._fitted_n_components)

    def _density_to_fit(self):
        return self.latent_density

    def _given_density(self):
        return None

    def _loss_module(self, encoder, decoder, likelihood, varying):
        from skgen.autoencoder._modules import Variational

        return Variational(
            encoder,
            decoder,
            likelihood,
            varying,
            beta=self.beta,
            n_importance=self.n_importance,
        )
