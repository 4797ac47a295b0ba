"""Autoencoder, with a density of its codes."""

from skgen.autoencoder._base import AbstractAutoencoder, check_latent_density


class AutoEncoder(AbstractAutoencoder):
    """AE."""

    def __init__(
        self,
        n_components=2,
        *,
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
        import torch

        from skgen.autoencoder._calibration import normal_density_of

        return normal_density_of(torch.from_numpy(codes))

    def _density_to_fit(self):
        return False if self.latent_density is None else self.latent_density

    def _given_density(self):
        return None

    def _loss_module(self, encoder, decoder, likelihood, varying):
        from skgen.autoencoder._modules import Reconstruction

        return Reconstruction(encoder, decoder, likelihood, varying)
