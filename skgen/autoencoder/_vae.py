"""Variational autoencoder."""

from skgen._parameters import check_integer, check_nonnegative
from skgen.autoencoder._base import AbstractAutoencoder, check_latent_density


class VAE(AbstractAutoencoder):
    """VAE."""

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
        lr=3e-3,
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

        return standard_normal(self.n_components)

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
