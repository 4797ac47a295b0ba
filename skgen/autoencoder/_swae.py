"""Sliced-Wasserstein autoencoder."""

from skgen._parameters import (
    Described,
    check_integer,
    check_nonnegative,
    invalid_parameter,
)
from skgen.autoencoder._base import AbstractAutoencoder
from skgen.autoencoder._latent import as_prior, is_density
from skgen.autoencoder._swae_prior import (
    NAMED,
    is_table_of,
    named_prior,
    prior_density,
    prior_draws,
)


class SWAE(AbstractAutoencoder):
    """SWAE."""

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
                got = "one that is not fitted" if width is None else f"one of {width}"
                raise invalid_parameter(self, "prior", rule, Described(got))
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
