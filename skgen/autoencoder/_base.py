"""What the autoencoders share: coordinates, networks, and answers from a posterior."""

import copy
import warnings
from abc import abstractmethod
from contextlib import contextmanager

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin
from sklearn.exceptions import DataDimensionalityWarning, NotFittedError
from sklearn.utils import gen_batches
from sklearn.utils.validation import check_is_fitted

from skgen._parameters import (
    InvalidParameterError,
    check_choice,
    check_integer,
    invalid_parameter,
    is_integer,
)
from skgen._tensors import float64_copy, threads_for, torch_seed
from skgen._threads import one_blas_thread
from skgen._validation import generator, generator_of_draws, validated_rows
from skgen._whitening import DEGENERATE_VARIANCE
from skgen.autoencoder._coordinates import Coordinates
from skgen.autoencoder._latent import (
    LEAST_DRAWS,
    MOST_ROWS,
    as_prior,
    check_prior,
    fit_latent_density,
    is_density,
)
from skgen.autoencoder._reservoir import sample_of
from skgen.base import FitStopped
from skgen.neural import GradientModel

LIKELIHOODS = ("gaussian", "bernoulli", "continuous_bernoulli")

# Rows that are decoded at once.
_DRAWN_AT_ONCE = 4096

ACTIVATIONS = ("relu", "tanh", "silu", "gelu", "softplus", "identity")


class AbstractAutoencoder(ClassNamePrefixFeaturesOutMixin, GradientModel):
    """An encoder and a decoder, and the density of rows that the decoder defines.

    Abstract: a model fills in ``_check_prior``, ``_loss_module``, ``_n_encoded``,
    ``_first_prior``, ``_density_to_fit`` and ``_given_density``.
    """

    # Whether the noise follows the residuals in training, and the prior the codes.
    _learns_noise = False
    _learns_prior = False

    @property
    def _is_continuous(self):
        return self.likelihood != "bernoulli"

    # -- hooks -----------------------------------------------------------------

    @abstractmethod
    def _check_prior(self):
        """Raise for a parameter that is about the codes."""

    @abstractmethod
    def _loss_module(self, encoder, decoder, likelihood, varying):
        """Return the module whose output is the loss."""

    @property
    @abstractmethod
    def _n_encoded(self):
        """Return how many numbers the encoder gives for a row."""

    @abstractmethod
    def _first_prior(self, codes):
        """Return the prior of codes, or a normal one to fit further to them."""

    @abstractmethod
    def _density_to_fit(self):
        """Return what to fit to codes, False for the default, None for nothing."""

    @abstractmethod
    def _given_density(self):
        """Return the density that is the prior; None where it has a name."""

    # -- the engine's hooks ----------------------------------------------------

    _anneals = True

    _fixed = (
        "n_components",
        "hidden_layer_sizes",
        "activation",
        "encoder",
        "decoder",
        "image_shape",
        "likelihood",
        "noise_covariance",
        *GradientModel._fixed,
    )

    def _check_own(self):
        check_integer(self, "n_components", 1)
        sizes = self.hidden_layer_sizes
        if not _are_sizes(sizes):
            rule = "a tuple of ints of at least 1, empty for a linear network"
            raise invalid_parameter(self, "hidden_layer_sizes", rule, sizes)
        check_choice(self, "activation", ACTIVATIONS)
        shape = self.image_shape
        if shape is not None and not (_are_sizes(shape) and len(shape) in (2, 3)):
            rule = "None, (height, width) or (channels, height, width)"
            raise invalid_parameter(self, "image_shape", rule, shape)
        check_choice(self, "likelihood", LIKELIHOODS)
        check_choice(self, "noise_covariance", ("diag", "spherical"))
        check_integer(self, "n_importance_samples", 0)
        check_integer(self, "n_iter_no_change", 1)
        self._check_prior()

    def _new_module(self, X, training, rng):
        import torch

        from skgen.autoencoder._networks import build_networks

        d = X.shape[1]
        _check_two_rows(type(self).__name__, X)
        self._reservoir = None
        self._coordinates = Coordinates(self, X)
        self._fitted_n_components = self.n_components
        encoder, decoder = build_networks(self, d, self.n_components, self._n_encoded)
        varying = torch.from_numpy(self._coordinates.varying)
        likelihood = self._new_likelihood(self._coordinates.n_varying)
        self._start_at_the_mean(decoder, X[training])
        return self._loss_module(encoder, decoder, likelihood, varying)

    def _new_likelihood(self, d):
        from skgen.autoencoder._likelihood import (
            Bernoulli,
            ContinuousBernoulli,
            Gaussian,
        )

        if self.likelihood == "bernoulli":
            return Bernoulli()
        if self.likelihood == "continuous_bernoulli":
            return ContinuousBernoulli()
        shared = self.noise_covariance == "spherical"
        return Gaussian(d, shared, DEGENERATE_VARIANCE, self._learns_noise)

    def _start_at_the_mean(self, decoder, X):
        """Let the decoder start at the mean of the rows, where it is not 0 anyway."""
        import torch

        from skgen.autoencoder._networks import last_layer

        if self.likelihood == "gaussian" or self.decoder is not None:
            return
        mean = self._coordinates.inside(X).mean(axis=0).clip(1e-3, 1 - 1e-3)
        bias = last_layer(decoder).bias
        if bias.shape == mean.shape:
            with torch.no_grad():
                bias.copy_(torch.from_numpy(np.log(mean / (1 - mean))))

    def _encoded(self, X):
        return self._coordinates.standardized(X).astype(np.float32)

    def _resolved_batch(self, n_samples, streams):
        if self.batch_size != "auto":
            return self.batch_size
        return min(128, max(16, n_samples // 40))

    def _callbacks(self):
        from skgen.neural._schedule import Patience

        return [("schedule", Patience(self.n_iter_no_change))]

    def _loss_offset(self):
        return self._coordinates.loss_offset

    def _adopted(self):
        history = self._losses()
        return {
            "history_": history,
            "n_iter_": len(history),
            # Until a density of codes is there.
            "_inference": self._posterior_under(None, None),
        }

    def _mid_fit(self):
        # A score in the middle of a fit: no density is fitted to codes as yet, so that
        # they count as standard normal where no prior is given.
        k = self._fitted_n_components
        codes = np.random.RandomState(0).standard_normal((1000, k))
        prior = self._first_prior(codes)
        return {**self._adopted(), "_inference": self._posterior_under(prior, codes)}

    def _warn(self):
        if self.n_components > self.n_features_in_:
            warnings.warn(
                f"The codes of {type(self).__name__} have more numbers, "
                f"n_components={self.n_components}, than there are features, "
                f"{self.n_features_in_}: they need not summarise anything.",
                DataDimensionalityWarning,
                stacklevel=2,
            )

    def _finish(self, rows, watched, rng, task):
        n_training = rows.shape[0]
        if watched:
            n_training -= round(self.validation_fraction * rows.shape[0])
        # What a later block of a stream is added to.
        self._reservoir = sample_of(rows, self._generator_of_sample(rng))
        with self._keeping_networks():
            return self._with_density(rows.double().cpu(), n_training, rng)

    def _follow(self, rows, share, rng):
        draws = self._generator_of_sample(rng)
        self._reservoir = sample_of(rows, draws, self._reservoir)
        sample = self._reservoir.rows.double()
        with self._keeping_networks():
            return self._with_density(sample, sample.shape[0], rng)

    def _generator_of_sample(self, rng):
        """Return what rows of a stream are chosen by, another for each block.

        A seed that is an int would be the same for each; `rng` stays where it is.
        """
        seed = torch_seed(copy.deepcopy(rng)) + self.net_.n_steps_
        return np.random.RandomState(seed % 2**31)

    @contextmanager
    def _keeping_networks(self):
        """Keep the trained networks if the body, which adds a density, fails."""
        try:
            yield
        except LatentDensityError:
            self._adopt()
            raise
        except Exception as error:
            self._adopt()
            raise LatentDensityError(
                f"The networks of {type(self).__name__} are trained and kept, but they "
                f"got no noise and no density of codes: {error}. Mend what failed and "
                "call fit_latent_density(X)."
            ) from error

    # -- the density after training ----------------------------------------------

    def fit_latent_density(self, X):
        """Fit the noise and the density of codes anew; the networks stay.

        For another `latent_density` with the networks as they are, or after a fit
        that was stopped.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows, those of `fit` as a rule.

        Returns
        -------
        self : object
            The model with another density.
        """
        import torch

        check_is_fitted(self)
        self._check_parameters()
        X = validated_rows(self, X).astype(np.float64)
        _check_two_rows(f"{type(self).__name__}.fit_latent_density", X)
        rows = torch.tensor(self._coordinates.standardized(X))
        rng = generator(self.random_state)
        before = dict(vars(self))
        try:
            self._adopt(self._with_density(rows, rows.shape[0], rng))
        except BaseException:
            vars(self).update(before)
            raise
        return self

    def _with_density(self, rows, n_training, rng):
        """Return the attributes of a density of codes for rows in module's units.

        The first `n_training` rows were trained on, and the others held out.
        """
        import torch

        from skgen.autoencoder._calibration import calibrate, posterior_draws

        order = torch.from_numpy(rng.permutation(n_training))
        with self._answering():
            few = rows[order[:MOST_ROWS]]
            module = self._twin()
            codes = module.encode(few).numpy()
            prior, density = self._first_prior(codes), None
            posterior = self._posterior_under(prior, codes, module)
            calibrate(posterior, few, self._learns_prior)
            wanted = self._density_to_fit()
            if wanted is not None:
                n_draws = -(-LEAST_DRAWS // few.shape[0])
                draws = posterior_draws(posterior, few, n_draws, rng)
                density, prior = self._fitted_prior(wanted, draws, torch_seed(rng))
                posterior = self._posterior_under(prior, codes, module)
        if density is None:
            density = self._given_density()
        answer = {"_inference": posterior, "latent_density_": density}
        if self._coordinates.is_normal:
            variance = posterior.module.likelihood.variance.numpy()
            answer["noise_variance_"] = self._coordinates.noise_variance(variance)
        return answer

    def _fitted_prior(self, wanted, draws, seed):
        """Return a density fitted to draws of codes, and the prior that it is."""
        try:
            density = fit_latent_density(wanted or None, draws, seed)
            prior = as_prior(density, draws.reshape(-1, draws.shape[2]))
            check_prior(prior)
        except Exception as error:
            named = "the default mixture" if wanted is False else repr(wanted)
            raise LatentDensityError(
                f"The networks of {type(self).__name__} are trained and kept, but "
                f"{named} does not serve as the density of their codes: {error}. Set "
                "another latent_density and call fit_latent_density(X)."
            ) from error
        return density, prior

    def _twin(self):
        """Return the module in double precision, on the CPU."""
        return float64_copy(self.net_.module_).cpu()

    def _posterior_under(self, prior, codes, module=None):
        from skgen.autoencoder._posterior import Posterior

        return Posterior(module or self._twin(), prior, codes)

    def sample_latent(self, n_samples=1, *, random_state=None):
        """Draw codes from their density; decode them for draws without noise.

        Parameters
        ----------
        n_samples : int, default=1
            How many codes to draw.
        random_state : int, RandomState instance or None, default=None
            Seeds the draws, as for `sample`.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            Codes. ``inverse_transform`` of them gives the means of draws: pictures
            without the observation noise that `sample` adds.
        """
        check_is_fitted(self)
        rng = generator_of_draws(self, "sample_latent", n_samples, random_state)
        prior = self._posterior_with_density().prior
        codes = prior.to_code(prior.draw(int(n_samples), rng)).numpy()
        return codes.astype(self._fit_dtype, copy=False)

    # -- the hooks that answer -----------------------------------------------------

    def _log_density(self, X):
        import torch

        posterior = self._posterior_with_density()
        self._check_importance_samples(posterior.prior)
        U = torch.tensor(self._coordinates.standardized(X))
        with self._answering():
            answer = posterior.log_density(U, self.n_importance_samples).numpy()
        return answer + self._coordinates.log_rest(X)

    def _draw(self, n_samples, rng):
        posterior = self._posterior_with_density()
        coordinates = self._coordinates
        varying = np.empty((n_samples, coordinates.n_varying))
        with self._answering():
            z = posterior.prior.draw(n_samples, rng)
            for rows in gen_batches(n_samples, _DRAWN_AT_ONCE):
                a = posterior.decode(z[rows])
                varying[rows] = posterior.module.likelihood.draw(a, rng)
        n_constant = coordinates.varying.size - coordinates.n_varying
        constant = rng.standard_normal((n_samples, n_constant))
        return coordinates.restored(varying, constant)

    def _posterior_mean(self, X):
        import torch

        U = torch.tensor(self._coordinates.standardized(X))
        with self._answering():
            return self._inference.module.encode(U).numpy()

    def _conditional_mean(self, Z):
        import torch

        module = self._inference.module
        with self._answering():
            mean = module.likelihood.mean(module.decode(torch.tensor(Z)))
        return self._coordinates.restored(mean.numpy())

    def _posterior_with_density(self):
        if self._inference.prior is None:
            raise NotFittedError(
                f"This {type(self).__name__} instance has networks but no density of "
                "codes, because its fit was stopped before: call "
                "fit_latent_density(X) first."
            )
        return self._inference

    def _check_importance_samples(self, prior):
        # Not in a fit alone: it can be set before a score.
        check_integer(self, "n_importance_samples", 0)
        if self.n_importance_samples == 0 and not prior.smooth:
            rule = (
                "at least 1 for a density of codes that is no Gaussian mixture, or a "
                "prior of more than 32 samples"
            )
            raise invalid_parameter(
                self, "n_importance_samples", rule, self.n_importance_samples
            )

    @contextmanager
    def _answering(self):
        import torch

        with one_blas_thread(), threads_for(self._work), torch.no_grad():
            yield

    @property
    def _work(self):
        """Return how many multiplications a block of answers takes."""
        return 100 * self.net_.n_parameters()

    @property
    def _n_latent(self):
        return self._fitted_n_components

    @property
    def _n_features_out(self):
        return self._fitted_n_components

    @property
    def _bytes_per_row(self):
        # The starts of a row with their curvatures; blocks bound the rest.
        k = self._fitted_n_components
        return 8 * (20 * k * (k + 2) + 4 * self.n_features_in_)


class LatentDensityError(FitStopped, ValueError):
    """No density could be fitted to the codes; the trained networks are kept."""


def _check_two_rows(owner, X):
    """Raise for rows that have no spread to set the noise by."""
    if X.shape[0] < 2:
        raise InvalidParameterError(
            f"The 'X' argument of {owner} must have at least 2 rows. Got 1 sample "
            "instead."
        )


def _are_sizes(value):
    """Tell whether a value is a tuple or list of positive whole numbers."""
    return isinstance(value, (tuple, list)) and all(is_integer(v, 1) for v in value)


def check_latent_density(model):
    """Raise unless `latent_density` is None or can be fitted, scored and drawn from."""
    value = model.latent_density
    if value is not None and not is_density(value):
        rule = "None or an estimator with fit, score_samples and sample"
        raise invalid_parameter(model, "latent_density", rule, value)
