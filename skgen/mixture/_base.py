"""Densities, responsibilities and draws of a fitted Gaussian mixture."""

from __future__ import annotations

from typing import Literal, overload

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from skgen._checks import (
    check_choice,
    check_integer,
    check_nonnegative,
    check_observed,
    column_names,
    invalid_argument,
    invalid_parameter,
    is_integer,
    rows_to_answer,
)
from skgen._parts import PartialRows, new_model
from skgen._typing import ArrayLike, FloatArray, MatrixLike, NDArray, RandomState
from skgen._warnings import warn_user
from skgen.base import GenerativeModel
from skgen.mixture._answers import log_density, most_probable, posterior
from skgen.mixture._covariance import Parameters
from skgen.mixture._initialize import INIT_PARAMS
from skgen.mixture._lowrank import ALL_COVARIANCES
from skgen.mixture._parts import MixturePart, restricted
from skgen.rows._dask import lazy_on_dask

# Entries of the docstrings of all mixtures.
MIXTURE = r"""
Parameters
----------
n_components : int
    Number of mixture components.

Attributes
----------
weights_ : ndarray of shape (n_components,)
    The weights :math:`\pi_k`.
means_ : ndarray of shape (n_components, n_features)
    The means :math:`\mu_k`.
"""


class AbstractGaussianMixture(
    PartialRows, ClassNamePrefixFeaturesOutMixin, GenerativeModel
):
    """Abstract base class of the Gaussian mixtures.

    `_fit` sets `weights_`, `means_`, `covariances_`, `precisions_`,
    `precisions_cholesky_` and `_fitted_covariance_type`.
    """

    weights_: FloatArray
    means_: FloatArray
    covariances_: FloatArray
    precisions_: FloatArray
    precisions_cholesky_: FloatArray
    converged_: bool
    n_iter_: int
    lower_bound_: float
    lower_bounds_: list[float]

    @lazy_on_dask(dtype=lambda model: np.intp)
    def predict(self, X: MatrixLike) -> NDArray[np.intp]:
        """Return the component label of each row.

        Parameters
        ----------
        X : array-like, Dask array or Dask dataframe of shape (n_samples, n_features)
            The data.

        Returns
        -------
        ndarray or Dask array of shape (n_samples,)
            Index, from 0, of the component with the highest probability. For Dask
            input, a lazy Dask array.
        """
        check_is_fitted(self)
        X = rows_to_answer(self, X)
        return self._by_chunks(self._most_probable, X, "most_probable")

    @lazy_on_dask(lambda model: model._n_latent)
    def predict_proba(self, X: MatrixLike) -> FloatArray:
        """Return the probability of each component given each row.

        Parameters
        ----------
        X : array-like, Dask array or Dask dataframe of shape (n_samples, n_features)
            The data.

        Returns
        -------
        ndarray or Dask array of shape (n_samples, n_components)
            Responsibilities, the same as `transform` returns.
        """
        return self._posterior(X)

    @overload
    def sample(
        self,
        n_samples: int = ...,
        *,
        random_state: RandomState = ...,
        return_component: Literal[False] = ...,
    ) -> FloatArray: ...

    @overload
    def sample(
        self,
        n_samples: int = ...,
        *,
        random_state: RandomState = ...,
        return_component: Literal[True],
    ) -> tuple[FloatArray, NDArray[np.intp]]: ...

    # One answer more than other models: both come from the same draws.
    def sample(
        self,
        n_samples: int = 1,
        *,
        random_state: RandomState = None,
        return_component: bool = False,
    ) -> FloatArray | tuple[FloatArray, NDArray[np.intp]]:
        """Draw samples from the fitted density.

        Parameters
        ----------
        n_samples : int, default=1
            Number of samples.
        random_state : int, RandomState, Generator or None, default=None
            Seed of the samples. None uses the `random_state` of the constructor: an
            int gives the same samples on every call, a RandomState or a Generator
            advances, and None seeds every call anew. NumPy's global generator is never
            used.
        return_component : bool, default=False
            Whether to return the component of each sample as well.

        Returns
        -------
        X : ndarray or dataframe of shape (n_samples, n_features)
            Independent samples in random order: float32 if the model was fitted to
            float32 data, else float64. A dataframe if the model was fitted to one and
            `set_output` or scikit-learn's option `transform_output` selects pandas or
            polars.
        component : ndarray of shape (n_samples,)
            Index, from 0, of the component that each sample was drawn from. Only
            returned if `return_component` is True.
        """
        check_is_fitted(self)
        if not isinstance(return_component, bool | np.bool_):
            rule = "True or False"
            raise invalid_argument(
                self, "sample", "return_component", rule, return_component
            )
        draws, component = self._sample(n_samples, random_state)
        return (draws, component) if return_component else draws

    def bic(self, X: MatrixLike, sample_weight: ArrayLike | None = None) -> float:
        r"""Return the Bayesian information criterion; lower is better.

        It is :math:`p \log n - 2 \log L` in nats, where :math:`p` is the number of free
        parameters, :math:`n` the number of rows and :math:`L` the likelihood of the
        rows (Schwarz, 1978).

        Parameters
        ----------
        X : array-like, Dask array or Dask dataframe of shape (n_samples, n_features)
            Training data.
        sample_weight : array-like or Dask array of shape (n_samples,), default=None
            Weights of the rows, as in `fit`: whole numbers count rows, and other
            weights are worth their effective number of rows. None gives every row a
            weight of 1.

        Returns
        -------
        float
            The criterion, for all rows together.
        """
        log_likelihood, n = self._log_likelihood(X, sample_weight)
        return self._n_parameters() * float(np.log(n)) - 2 * log_likelihood

    def aic(self, X: MatrixLike, sample_weight: ArrayLike | None = None) -> float:
        r"""Return Akaike's information criterion; lower is better.

        It is :math:`2 p - 2 \log L` in nats, where :math:`p` is the number of free
        parameters and :math:`L` the likelihood of the rows (Akaike, 1974).

        Parameters
        ----------
        X : array-like, Dask array or Dask dataframe of shape (n_samples, n_features)
            Training data.
        sample_weight : array-like or Dask array of shape (n_samples,), default=None
            Weights of the rows, as in `fit`: whole numbers count rows, and other
            weights are worth their effective number of rows. None gives every row a
            weight of 1.

        Returns
        -------
        float
            The criterion, for all rows together.
        """
        log_likelihood, _ = self._log_likelihood(X, sample_weight)
        return 2 * self._n_parameters() - 2 * log_likelihood

    def _check_mixture(self, covariance_types):
        """Raise for an invalid parameter that all mixtures have."""
        check_integer(self, "n_components", 1)
        check_choice(self, "covariance_type", tuple(covariance_types))
        check_nonnegative(self, "tol")
        check_nonnegative(self, "reg_covar")
        check_choice(self, "init_params", INIT_PARAMS)

    def _chosen_blocks(self, names, d):
        """Return the groups of `blocks` of "block", as indices of all d features."""
        if self.covariance_type != "block":
            return ()
        number = {name: i for i, name in enumerate(names or ())}
        try:
            blocks = [
                [] if isinstance(block, str) else [number.get(i, i) for i in block]
                for block in self.blocks
            ]
        except TypeError:  # no list of lists
            blocks = [[]]
        flat = [i for block in blocks for i in block]
        features = [i for i in flat if is_integer(i, 0) and i < d]
        if not all(blocks) or len(flat) != len(set(features)):
            rule = (
                "a list of lists of feature names or of indices from 0 to "
                f"{d - 1}, with each feature at most once, for covariance_type='block'"
            )
            raise invalid_parameter(self, "blocks", rule, self.blocks)
        blocks += [[i] for i in range(d) if i not in features]
        return tuple(sorted(tuple(sorted(map(int, block))) for block in blocks))

    def _check_rows(self, n_rows, weight):
        """Raise if there are too few rows, or too small weights, for the components."""
        name = type(self).__name__
        if n_rows < 2 and weight < 2:
            raise ValueError(
                f"The 'X' argument of {name} must have at least 2 rows with a "
                "positive weight. Got 1 sample instead."
            )
        # A weight of 2 is the row twice.
        n_samples = int(max(n_rows, min(weight, 2**62)))
        if n_samples < self.n_components:
            rule = (
                "at most the number of rows with a positive weight, "
                f"n_samples = {n_samples}"
            )
            raise invalid_parameter(self, "n_components", rule, self.n_components)

    def _check_columns(self, moments, method="fit"):
        """Raise if a column of the rows with given `ObservedMoments` has no value."""
        function = f"{type(self).__name__}.{method}"
        check_observed(function, moments.observed, column_names(self))

    def _in_data_units(self, weights, means, covariances, covariance, whitening):
        """Return the fitted attributes of a mixture in whitened coordinates, a dict."""
        covariances, factors = covariance.to_data(covariances, whitening)
        return {
            "weights_": weights,
            "means_": whitening.unwhiten(means),
            "covariances_": covariance.public(covariances),
            "precisions_": covariance.public(covariance.precisions(factors)),
            "precisions_cholesky_": covariance.public(factors),
        }

    def _warn_of(self, messages, at_floor):
        """Warn of what happened, {message: bool}, and of components at the floor (K,).

        The texts are equal in all fits of a search, which then prints each once.
        """
        for message, happened in messages.items():
            if happened:
                warn_user(message, ConvergenceWarning)
        if not at_floor.any():
            return
        least = (
            f"the minimum, reg_covar={self.reg_covar:g} times the variance of the data"
        )
        if self.reg_covar == 0:
            least = "the minimum that rounding allows (reg_covar=0)"
        # A higher `reg_covar` is no remedy: it raises more components to the minimum.
        # Outliers would widen the others of fewer components.
        warn_user(
            f"{'All' if at_floor.all() else 'Some'} components of "
            f"{type(self).__name__} collapsed (see covariances_): their variance in "
            f"some direction was raised to {least}. Leave out outliers and codes of "
            "missing values. If there are none, use fewer components, a simpler "
            "covariance_type, or skgen.dequantize if columns are tied.",
            ConvergenceWarning,
            kind="collapsed components",
        )

    def _n_parameters(self):
        """Return the number of free parameters."""
        K, d = self.means_.shape
        covariances = self._parameters.covariances
        return K - 1 + K * d + self._covariance.n_parameters(covariances)

    # The groups of features of "block"; () for other types.
    _fitted_blocks: tuple = ()

    # Name of the device that computes the densities.
    _answering_device = "cpu"

    @property
    def _covariance(self):
        # `covariance_type` may have been changed since the fit.
        return ALL_COVARIANCES[self._fitted_covariance_type].of(self._fitted_blocks)

    @property
    def _parameters(self):
        d, stacked = self.means_.shape[1], self._covariance.stacked
        covariances = stacked(self.covariances_, d)
        factors = stacked(self.precisions_cholesky_, d)
        return Parameters(self.weights_, self.means_, covariances, factors)

    def _log_density(self, X):
        return log_density(X, *self._mixture)

    def _posterior_mean(self, X):
        return posterior(X, *self._mixture)

    def _most_probable(self, X):
        return most_probable(X, *self._mixture)

    @property
    def _mixture(self):
        """Return the parameters, covariance type and device, for `log_density` etc."""
        return self._parameters, self._covariance, self._answering_device

    def _conditional_mean(self, Z):
        return Z @ self.means_

    # -- parts of rows -----------------------------------------------------------------

    def _part(self, observed):
        return MixturePart(*self._mixture, observed)

    def _marginal(self, features):
        parameters, covariance = restricted(
            self._parameters, self._covariance, features
        )
        return self._new_mixture(features, parameters, covariance)

    def _condition(self, row):
        observed = ~np.isnan(row)
        conditioned = self._part(observed).conditioned(row[observed])
        return self._new_mixture(np.flatnonzero(~observed), *conditioned)

    def _new_mixture(self, features, parameters, covariance):
        """Return a fitted mixture of some features of this one."""
        # Marginals of a linear type are of no linear type.
        kind = self._fitted_covariance_type
        if self._covariance.basis_of(1) is not None:
            kind = "full"
        new = new_model(self, features, covariance_type=kind, **self._without_start)
        if kind == "block":
            new.blocks = [list(block) for block in covariance.blocks]
        new.weights_, new.means_ = parameters.weights, parameters.means
        new.covariances_ = covariance.public(parameters.covariances)
        new.precisions_ = covariance.public(covariance.precisions(parameters.factors))
        new.precisions_cholesky_ = covariance.public(parameters.factors)
        new.converged_, new.n_iter_, new.lower_bounds_ = True, 0, []
        new._fitted_covariance_type, new._fitted_blocks = kind, covariance.blocks
        return new

    # Parameters of the constructor that belong to all features.
    _without_start: dict = {}  # noqa: RUF012 (read only)

    def _draw(self, n_samples, rng):
        return self._drawn(n_samples, rng)[0]

    def _drawn(self, n_samples, rng):
        """Return draws (n, d) and their components (n,)."""
        (K, d), factors = self.means_.shape, self._parameters.factors
        component = rng.choice(K, size=n_samples, p=self.weights_)
        X = rng.standard_normal((n_samples, d))
        for k in range(K):
            rows = component == k
            noise = self._covariance.colour(X[rows], factors, k)
            X[rows] = self.means_[k] + noise
        return X, component

    def _normal_components(self):
        """Return the weights (K,), means (K, d) and covariances (K, d, d)."""
        (K, d), factors = self.means_.shape, self._parameters.factors
        roots = [self._covariance.colour(np.eye(d), factors, k) for k in range(K)]
        return self.weights_, self.means_, np.stack([root.T @ root for root in roots])

    @property
    def _n_latent(self):
        return self.weights_.size

    @property
    def _n_features_out(self):
        return self.weights_.size

    @property
    def _bytes_per_row(self):
        K, d = self.means_.shape
        return 8 * (4 * K + 4 * d)
