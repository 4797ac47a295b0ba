"""What every Gaussian mixture answers, however it was fitted."""

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin
from sklearn.utils.validation import check_is_fitted

from skgen._blockwise import is_dask
from skgen._parameters import invalid_parameter
from skgen._validation import rows_to_answer
from skgen.base import GenerativeModel
from skgen.mixture._answers import log_density, most_probable, posterior
from skgen.mixture._joint import Parameters
from skgen.mixture._lazy import DaskAnswersMixin
from skgen.mixture._lowrank import ALL_COVARIANCES


class AbstractGaussianMixture(
    DaskAnswersMixin, ClassNamePrefixFeaturesOutMixin, GenerativeModel
):
    """The answers of a mixture with `weights_`, `means_` and `precisions_cholesky_`.

    Abstract: a model fills in how it is fitted, which sets those three and
    `covariances_`, `precisions_` and `_fitted_covariance_type`.
    """

    def predict(self, X):
        """Return the most probable component of each row.

        Parameters
        ----------
        X : array-like, Dask array or Dask dataframe of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        ndarray or Dask array of shape (n_samples,)
            The number of the component, from 0. For rows on Dask, a Dask array that
            is not computed yet.
        """
        check_is_fitted(self)
        if is_dask(X):
            return self._lazy(X, most_probable, (), np.intp)
        return self._by_chunks(self._most_probable, rows_to_answer(self, X))

    def predict_proba(self, X):
        """Return the probability of each component given each row.

        Parameters
        ----------
        X : array-like, Dask array or Dask dataframe of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        ndarray or Dask array of shape (n_samples, n_components)
            The responsibilities, as `transform` returns them.
        """
        return self._posterior(X)

    def bic(self, X, sample_weight=None):
        r"""Return the Bayesian information criterion; lower is better.

        It is :math:`p \log n - 2 \log L` with :math:`p` free parameters
        (Schwarz, 1978), in nats; :math:`n` is the sum of the weights.

        Parameters
        ----------
        X : array-like, Dask array or Dask dataframe of shape (n_samples, n_features)
            The rows that the mixture was fitted to.
        sample_weight : array-like or Dask array of shape (n_samples,), default=None
            How many times each row counts. None counts each once.

        Returns
        -------
        float
        """
        log_likelihood, n = self._log_likelihood(X, sample_weight)
        return self._n_parameters() * float(np.log(n)) - 2 * log_likelihood

    def aic(self, X, sample_weight=None):
        r"""Return Akaike's information criterion; lower is better.

        It is :math:`2 p - 2 \log L` with :math:`p` free parameters
        (Akaike, 1974), in nats.

        Parameters
        ----------
        X : array-like, Dask array or Dask dataframe of shape (n_samples, n_features)
            The rows that the mixture was fitted to.
        sample_weight : array-like or Dask array of shape (n_samples,), default=None
            How many times each row counts. None counts each once.

        Returns
        -------
        float
        """
        log_likelihood, _ = self._log_likelihood(X, sample_weight)
        return 2 * self._n_parameters() - 2 * log_likelihood

    def _check_rows(self, n_rows, weight):
        """Raise for too few rows, or weights of too small a sum, to fit anything."""
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

    def _collapsed(self, at_floor):
        """Return the sentence that warns of components at the floor."""
        least = f"reg_covar={self.reg_covar:g} of the variance of the data"
        if self.reg_covar == 0:
            least = "which is that of rounding for reg_covar=0"
        return (
            f"Components {np.flatnonzero(at_floor).tolist()} of {type(self).__name__} "
            "collapsed: their variance in some direction was raised to the floor, "
            f"{least}. Use fewer components, a higher reg_covar, or skgen.dequantize "
            "if columns are tied."
        )

    def _log_likelihood(self, X, sample_weight):
        """Return the log-likelihood of all rows, and how many they are."""
        if is_dask(X):
            return self._sums_on_dask(X, sample_weight)
        log_density, sample_weight = self._weighted_log_density(X, sample_weight)
        return float(sample_weight @ log_density), float(sample_weight.sum())

    def _n_parameters(self):
        """Return the number of free parameters: weights, means, covariances."""
        K, d = self.means_.shape
        return K - 1 + K * d + self._covariance.n_parameters(self.covariances_)

    # The name of the device that answers are computed on.
    _answering_device = "cpu"

    @property
    def _covariance(self):
        # Not `covariance_type`, which may have been set anew since the fit.
        return ALL_COVARIANCES[self._fitted_covariance_type]

    @property
    def _parameters(self):
        return Parameters(
            self.weights_, self.means_, self.covariances_, self.precisions_cholesky_
        )

    def _log_density(self, X):
        return log_density(X, *self._mixture)

    def _posterior_mean(self, X):
        return posterior(X, *self._mixture)

    def _most_probable(self, X):
        return most_probable(X, *self._mixture)

    @property
    def _mixture(self):
        """Return what free functions of rows take: parameters, shape and device."""
        return self._parameters, self._covariance, self._answering_device

    def _conditional_mean(self, Z):
        return Z @ self.means_

    def _draw(self, n_samples, rng):
        K, d = self.means_.shape
        component = rng.choice(K, size=n_samples, p=self.weights_)
        X = rng.standard_normal((n_samples, d))
        for k in range(K):
            rows = component == k
            X[rows] = self.means_[k] + self._covariance.colour(
                X[rows], self.precisions_cholesky_, k
            )
        return X

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
