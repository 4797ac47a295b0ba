"""Lazy answers of Gaussian mixtures for Dask input."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skgen._typing import ArrayLike, FloatArray, MatrixLike
from skgen.mixture._answers import log_density, posterior
from skgen.mixture._covariance import Parameters
from skgen.rows._dask import DaskRows, answers_on_dask, is_dask

if TYPE_CHECKING:
    from skgen.base import GenerativeModel as _Model
else:
    _Model = object


class DaskAnswersMixin(_Model):
    """Lazy answers for Dask arrays and dataframes.

    It precedes scikit-learn's mixins: their `set_output` would compute a Dask array.
    """

    def score_samples(self, X: MatrixLike) -> FloatArray:
        r"""Return the log-density of each row, in nats and in the units of `X`.

        Parameters
        ----------
        X : array-like, Dask array or Dask dataframe of shape (n_samples, n_features)
            The data.

        Returns
        -------
        ndarray or Dask array of shape (n_samples,)
            :math:`\log p(x)` of each row: the natural logarithm of a density that
            integrates to one over the space of the features. For Dask input, a lazy
            Dask array.
        """
        if is_dask(X):
            return self._lazy(X, log_density, ())
        return super().score_samples(X)

    def score(
        self, X: MatrixLike, y: None = None, sample_weight: ArrayLike | None = None
    ) -> float:
        """Return the mean log-density of the data, in nats per row.

        Parameters
        ----------
        X : array-like, Dask array or Dask dataframe of shape (n_samples, n_features)
            The data. Scores of training data are too high: use held-out data to
            compare models.
        y : None
            Ignored.
        sample_weight : array-like or Dask array of shape (n_samples,), default=None
            Weight of each row: a weight of 2 counts the row twice. None gives every
            row a weight of 1.

        Returns
        -------
        float
            Weighted mean of ``score_samples(X)``. It is a mean for every model, and
            not the sum that scikit-learn's ``KernelDensity`` returns. For Dask input,
            the workers compute it immediately.
        """
        if is_dask(X):
            log_likelihood, n = self._log_likelihood(X, sample_weight)
            return log_likelihood / n
        return super().score(X, sample_weight=sample_weight)

    def transform(self, X: MatrixLike) -> FloatArray:
        r"""Return the posterior mean of the latent, :math:`E[z | x]`.

        Parameters
        ----------
        X : array-like, Dask array or Dask dataframe of shape (n_samples, n_features)
            The data.

        Returns
        -------
        ndarray, dataframe or Dask array of shape (n_samples, n_latent)
            Posterior mean of each row's latent. A dataframe if `set_output` or
            scikit-learn's option `transform_output` selects pandas or polars. For
            Dask input, always a lazy Dask array.
        """
        if is_dask(X):
            return self._posterior(X)
        return super().transform(X)

    def fit_transform(
        self, X: MatrixLike, y: None = None, **fit_params: Any
    ) -> FloatArray:
        """Fit the model and return the posterior mean of the latent of each row.

        Parameters
        ----------
        X : array-like, Dask array or Dask dataframe of shape (n_samples, n_features)
            Training data.
        y : None
            Ignored.
        **fit_params : dict
            Passed to `fit`.

        Returns
        -------
        ndarray or Dask array of shape (n_samples, n_latent)
            ``fit(X, **fit_params).transform(X)``.
        """
        if is_dask(X):
            return self.fit(X, y, **fit_params).transform(X)
        return super().fit_transform(X, y, **fit_params)

    def _posterior(self, X):
        if is_dask(X):
            check_is_fitted(self)
            return self._lazy(X, posterior, (self._n_latent,))
        return super()._posterior(X)

    def _lazy(self, X, function, shape, dtype=None):
        """Return `function` of the rows and the fitted mixture as a Dask array."""
        return answers_on_dask(self, X, self._frozen(function), shape, dtype)

    def _sums_on_dask(self, X, sample_weight):
        """Return the weighted sum of log-densities and the sum of the weights."""
        function = partial(_weighted, function=self._frozen(log_density))
        return tuple(map(float, DaskRows(self, X, sample_weight).total(function)))

    def _frozen(self, function):
        """Return `function` bound to a copy of the parameters."""
        check_is_fitted(self)
        arrays = vars(self._parameters).items()
        parameters = Parameters(**{name: array.copy() for name, array in arrays})
        return partial(function, parameters=parameters, covariance=self._covariance)


def _weighted(X, sample_weight, *, function):
    """Return the weighted sum of `function` (n,) and the sum of the weights."""
    return np.array([sample_weight @ function(X), sample_weight.sum()])
