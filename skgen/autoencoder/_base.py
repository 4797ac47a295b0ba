"""Base class of the autoencoders: scaling, networks, latent density and scoring."""

from __future__ import annotations

import skgen._needs_torch  # noqa: F401

# isort: split

import copy
from abc import abstractmethod
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin
from sklearn.exceptions import DataDimensionalityWarning, NotFittedError
from sklearn.utils import gen_batches
from sklearn.utils.validation import check_is_fitted

from skgen._checks import (
    InvalidParameterError,
    check_integer,
    generator,
    generator_of_draws,
    invalid_parameter,
    validated_rows,
)
from skgen._threads import one_blas_thread
from skgen._torch import float64_copy, threads_for, torch_seed, undisturbed
from skgen._typing import FloatArray, MatrixLike, RandomState
from skgen._warnings import warn_user
from skgen._whitening import DEGENERATE_VARIANCE
from skgen.autoencoder._calibration import (
    calibrate,
    normal_density_of,
    posterior_draws,
)
from skgen.autoencoder._coordinates import Coordinates
from skgen.autoencoder._latent_density import (
    LEAST_DRAWS,
    MOST_ROWS,
    as_prior,
    check_prior,
)
from skgen.autoencoder._likelihood import Bernoulli, ContinuousBernoulli, Gaussian
from skgen.autoencoder._networks import build_networks, last_layer
from skgen.autoencoder._parameters import AutoencoderParameters
from skgen.autoencoder._posterior import Posterior
from skgen.base import FitStopped
from skgen.mixture._chosen import fitted_density
from skgen.neural import GradientModel
from skgen.neural._schedule import Plateau
from skgen.neural._training_rows import Stream
from skgen.rows._sketch import BottomK, random_keys

# Number of draws that are decoded at once.
_DRAWN_AT_ONCE = 4096

# Maximum number of rows in the sample of a stream, and maximum number of its entries.
# The number of rows is at least _LEAST_ROWS.
_MOST_ROWS, _MOST_ENTRIES = 2000, 2**20
_LEAST_ROWS = 200


class AbstractAutoencoder(
    AutoencoderParameters, ClassNamePrefixFeaturesOutMixin, GradientModel
):
    """Abstract autoencoder, with the density of rows that its decoder defines."""

    noise_variance_: Any  # a number or an array
    latent_density_: Any

    # Checks of the parameters of the loss, by name.
    _loss_checks: ClassVar[dict[str, Callable[[Any, str], None]]] = {}

    # Number of encoder outputs for each latent dimension.
    _n_moments = 1

    # Whether training updates the noise variances.
    _learns_noise = False

    # Prior that the user gave: a fitted density, a name, or None.
    _prior_density: Any = None

    @property
    def _is_continuous(self):
        return self.likelihood != "bernoulli"

    # -- hooks -----------------------------------------------------------------

    @abstractmethod
    def _loss_module(self, *networks, **parameters):
        """Return the `AutoencoderModule` to train, with the parameters of the loss."""

    @abstractmethod
    def _prior_in_training(self, codes):
        """Return the prior, which codes (n, k) may guide; None without one."""

    def _network_sizes(self):
        """Return the number of inputs of the decoder and of outputs of the encoder."""
        return self.n_components, self._n_moments * self.n_components

    # -- hooks of GradientModel ------------------------------------------------

    _anneals = True

    _fixed: tuple[str, ...] = (
        "n_components",
        "hidden_layer_sizes",
        "activation",
        "encoder",
        "decoder",
        "image_shape",
        "encode_mask",
        "likelihood",
        "noise_covariance",
        *GradientModel._fixed,
    )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._fixed = (*cls._loss_checks, *AbstractAutoencoder._fixed)

    def _check_own(self):
        self._check_shared()
        for name, check in self._loss_checks.items():
            check(self, name)

    @property
    def _whitening_type(self):
        return self.noise_covariance

    def _new_module(self, rows, rng):
        d = rows.shape[1]
        _check_two_rows(type(self).__name__, rows)
        self._reservoir = None
        # An earlier fit may have set these, and this fit may set neither of them.
        for name in ("noise_variance_", "latent_density_"):
            self.__dict__.pop(name, None)
        self._coordinates = Coordinates(self, rows)
        self._fitted_n_components = self.n_components
        encoder, decoder = build_networks(self, d, *self._network_sizes())
        varying = torch.from_numpy(self._coordinates.varying)
        likelihood = self._new_likelihood(self._coordinates.n_varying)
        self._start_at_the_mean(decoder, rows, rng)
        parameters = {name: getattr(self, name) for name in self._loss_checks}
        networks = encoder, decoder, likelihood, varying
        module = self._loss_module(*networks, **parameters)
        module.set_missing(self.encode_mask, self._coordinates.missing)
        return module

    def _new_likelihood(self, d):
        if self.likelihood == "bernoulli":
            return Bernoulli()
        if self.likelihood == "continuous_bernoulli":
            return ContinuousBernoulli()
        shared = self.noise_covariance == "spherical"
        return Gaussian(d, shared, DEGENERATE_VARIANCE, self._learns_noise)

    def _start_at_the_mean(self, decoder, rows, rng):
        """Initialise the decoder's output at the logits of the mean of rows (n, d)."""
        # For "gaussian" the mean is 0 already, which is the initial bias.
        if self.likelihood == "gaussian" or self.decoder is not None:
            return
        X = self._coordinates.checked(rows.sample(None, rng))
        means = self._coordinates.missing
        mean = (X.mean(axis=0) if means is None else means).clip(1e-3, 1 - 1e-3)
        bias = last_layer(decoder).bias
        if bias.shape == mean.shape:
            with torch.no_grad():
                bias.copy_(torch.from_numpy(np.log(mean / (1 - mean))))

    def _density_of_last_fit(self, X):
        return self._coordinates.log_normal(X)

    def _is_too_wide_for(self, X):
        return self._coordinates.is_normal and super()._is_too_wide_for(X)

    def _encoded(self, X):
        return self._coordinates.training_inputs(X).astype(np.float32)

    def _callbacks(self):
        patience = Plateau(0, self.n_iter_no_change, n_levels=1, watches_training=False)
        return [("schedule", patience)]

    def _loss_offset(self):
        return self._coordinates.loss_offset

    def _adopted(self):
        history = self._losses()
        return {
            "history_": history,
            "n_iter_": len(history),
            # Replaced once the density of codes is fitted.
            "_inference": Posterior(self._twin(), None, None),
        }

    def _mid_fit(self):
        # For scores during a fit, codes are taken as standard normal if the density of
        # codes is fitted after training.
        k = self._fitted_n_components
        codes = np.random.RandomState(0).standard_normal((1000, k))
        prior = self._prior_in_training(codes) or normal_density_of(codes)
        return {**self._adopted(), "_inference": Posterior(self._twin(), prior, codes)}

    def _warn(self):
        if self.n_components > self.n_features_in_:
            warn_user(
                f"The latent dimension of {type(self).__name__}, "
                f"n_components={self.n_components}, is larger than the number of "
                f"features, {self.n_features_in_}.",
                DataDimensionalityWarning,
            )

    def _finish(self, rows, watched, rng, task):
        # Later calls of partial_fit extend this sample.
        self._reservoir = self._sampled(rows, rng)
        if isinstance(rows, Stream):
            rows, watched = torch.from_numpy(self._reservoir.X), False
        n_training = rows.shape[0]
        if watched:
            n_training -= round(self.validation_fraction * rows.shape[0])
        return self._density_after_training(rows.double().cpu(), n_training, rng)

    def _follow(self, rows, share, rng):
        sample = self._sampled(rows, rng)
        if self._reservoir is not None:
            sample = self._reservoir + sample
        self._reservoir = sample
        sample = torch.from_numpy(sample.X).double()
        return self._density_after_training(sample, sample.shape[0], rng)

    def _sampled(self, rows, rng):
        """Return a uniform `BottomK` of a block of rows (n, d); leave `rng` unchanged.

        It differs for each block, also if `rng` is the same.
        """
        n, d = rows.shape
        size = max(_LEAST_ROWS, min(_MOST_ROWS, _MOST_ENTRIES // max(1, d)))
        if isinstance(rows, Stream):
            return rows.sketch.smallest(size)
        seed = (torch_seed(copy.deepcopy(rng)) + self.net_.n_steps_) % 2**31
        keys, chosen = random_keys(n, size, np.random.RandomState(seed))
        X = rows[torch.from_numpy(chosen).to(rows.device)].cpu().numpy()
        return BottomK(size, keys, X, np.ones(keys.size))

    def _density_after_training(self, rows, n_training, rng):
        """Return what `_with_density` returns; if it fails, keep the networks."""
        self._adopt()
        what = "fitting the noise and the density of codes failed"
        with self._failing(what, "Correct the cause"):
            return self._with_density(rows, n_training, rng)

    @contextmanager
    def _failing(self, what, advice):
        """Turn an error of the body into a LatentDensityError."""
        try:
            yield
        except LatentDensityError:
            raise
        except Exception as error:
            raise LatentDensityError(
                f"The networks of {type(self).__name__} are trained and kept, but "
                f"{what}: {error}. {advice} and call fit_latent_density(X)."
            ) from error

    # -- the density after training ----------------------------------------------

    @undisturbed()
    def fit_latent_density(self, X: MatrixLike) -> Self:
        """Refit the noise variances and the density of codes, with the same networks.

        Use it after a change of `latent_density`, or after a fit that was interrupted
        or failed once the networks were trained.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to encode, usually the training rows. At least 2 are needed.

        Returns
        -------
        self : object
            The model with the new density.

        Raises
        ------
        ValueError
            If a parameter or `X` is invalid, or if the density cannot be fitted to
            the codes. The previous noise and density are then kept.
        NotFittedError
            If the model is not fitted.
        """
        check_is_fitted(self)
        self._check_parameters()
        X = validated_rows(self, X, incomplete=self._fits_incomplete)
        X = X.astype(np.float64)
        _check_two_rows(f"{type(self).__name__}.fit_latent_density", X)
        rows = torch.tensor(self._coordinates.training_inputs(X))
        rng = generator(self.random_state)
        self._adopt(self._with_density(rows, rows.shape[0], rng))
        return self

    def _with_density(self, rows, n_training, rng):
        """Return the fitted attributes of noise and density, from scaled rows (n, d).

        The first `n_training` rows were used in training; the others were held out.
        """
        order = torch.from_numpy(rng.permutation(n_training))
        with self._answering():
            few = rows[order[:MOST_ROWS]]
            module = self._twin()
            codes = module.encode(few).numpy()
            prior = self._prior_in_training(codes)
            learns_prior = prior is None
            prior = prior or normal_density_of(codes)
            posterior = Posterior(module, prior, codes)
            calibrate(posterior, few, learns_prior)
            density = getattr(self, "latent_density", None)
            if density is not None or learns_prior:
                n_draws = -(-LEAST_DRAWS // few.shape[0])
                draws = posterior_draws(posterior, few, n_draws, rng)
                density, prior = self._fitted_prior(density, draws, torch_seed(rng))
                posterior = Posterior(module, prior, codes)
            elif not isinstance(self._prior_density, str):
                density = self._prior_density
        answer = {"_inference": posterior, "latent_density_": density}
        if self._coordinates.is_normal:
            variance = posterior.module.likelihood.variance.numpy()
            answer["noise_variance_"] = self._coordinates.noise_variance(variance)
        return answer

    def _fitted_prior(self, wanted, draws, seed):
        """Return a density fitted to draws (n, m, k), and the density as a prior."""
        named = "the default mixture" if wanted is None else repr(wanted)
        what = f"{named} cannot be used as the density of codes"
        with self._failing(what, "Set another latent_density"):
            density = fitted_density(wanted, draws, seed)
            prior = as_prior(density, draws.reshape(-1, draws.shape[2]))
            check_prior(prior)
        return density, prior

    def _twin(self):
        """Return a copy of the module in double precision on the CPU."""
        return float64_copy(self.net_.module_).cpu()

    @undisturbed()
    def sample_latent(
        self, n_samples: int = 1, *, random_state: RandomState = None
    ) -> FloatArray:
        """Draw codes from their density.

        `inverse_transform` decodes the codes to rows without the observation noise
        that `sample` adds.

        Parameters
        ----------
        n_samples : int, default=1
            Number of codes to draw.
        random_state : int, RandomState, Generator or None, default=None
            Seed or generator of the draws. None uses the `random_state` of the model,
            as in `sample`.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            Codes.

        Raises
        ------
        ValueError
            If an argument is invalid.
        NotFittedError
            If the model is not fitted, or if its density of codes is missing because
            fitting was interrupted or failed.
        """
        check_is_fitted(self)
        rng = generator_of_draws(self, "sample_latent", n_samples, random_state)
        codes = self._draw_codes(int(n_samples), rng)
        return codes.astype(self._fit_dtype, copy=False)

    def _draw_codes(self, n_samples, rng):
        """Return draws (n_samples, k) from the density of codes."""
        prior = self._posterior_with_density().prior
        return prior.to_code(prior.draw(n_samples, rng)).numpy()

    # -- hooks of GenerativeModel --------------------------------------------------

    def _log_density(self, X):
        posterior = self._posterior_with_density()
        self._check_importance_samples(posterior.prior)
        U = torch.tensor(self._coordinates.standardized(X))
        with self._answering():
            answer = posterior.log_density(U, self.n_importance_samples).numpy()
        return answer + self._coordinates.log_rest(X)

    def _draw(self, n_samples, rng):
        posterior = self._posterior_with_density()
        varying = np.empty((n_samples, self._coordinates.n_varying))
        with self._answering():
            z = posterior.prior.draw(n_samples, rng)
            for rows in gen_batches(n_samples, _DRAWN_AT_ONCE):
                a = posterior.decode(z[rows])
                varying[rows] = posterior.module.likelihood.draw(a, rng)
        return self._with_constants(varying, rng)

    def _with_constants(self, varying, rng):
        """Return drawn rows (n, d) in the units of the data; varying: (n, d')."""
        coordinates = self._coordinates
        n_constant = coordinates.varying.size - coordinates.n_varying
        constant = rng.standard_normal((varying.shape[0], n_constant))
        return coordinates.restored(varying, constant)

    def _posterior_mean(self, X):
        U = torch.tensor(self._coordinates.standardized(X))
        with self._answering():
            return self._inference.module.encode(U).numpy()

    def _conditional_mean(self, Z):
        module = self._inference.module
        with self._answering():
            mean = module.likelihood.mean(module.decode(torch.tensor(Z)))
        return self._coordinates.restored(mean.numpy())

    def _posterior_with_density(self):
        if self._inference.prior is None:
            raise NotFittedError(
                f"This {type(self).__name__} instance has trained networks but no "
                "density of codes, because fitting was interrupted or failed. Call "
                "fit_latent_density(X) first."
            )
        return self._inference

    def _check_importance_samples(self, prior):
        # Checked before each score, because it can be set after the fit.
        check_integer(self, "n_importance_samples", 0)
        if self.n_importance_samples == 0 and not prior.smooth:
            rule = (
                "at least 1 unless the density of codes is normal, uniform, a Gaussian "
                "mixture or a set of at most 32 samples"
            )
            raise invalid_parameter(
                self, "n_importance_samples", rule, self.n_importance_samples
            )

    @contextmanager
    def _answering(self):
        """Set up threads for a computation without gradients."""
        with one_blas_thread(), threads_for(self._work), torch.no_grad():
            yield

    @property
    def _work(self):
        """Return the approximate number of multiplications in a block."""
        return 100 * self.net_.n_parameters()

    @property
    def _n_latent(self):
        return self._fitted_n_components

    _n_features_out = _n_latent

    @property
    def _bytes_per_row(self):
        # Initial values and their curvatures. Blocks limit all other memory.
        k = self._fitted_n_components
        return 8 * (20 * k * (k + 2) + 4 * self.n_features_in_)


class LatentDensityError(FitStopped, ValueError):
    """Raised if no density could be fitted to the codes of trained networks."""


def _check_two_rows(owner, X):
    """Raise for a single row, to which no noise variance can be fitted."""
    if X.shape[0] < 2:
        raise InvalidParameterError(
            f"The 'X' argument of {owner} must have at least 2 rows. Got 1 sample "
            "instead."
        )
