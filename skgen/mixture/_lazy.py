"""Answers for rows on Dask, before the answers for all others."""

from functools import partial

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skgen._blockwise import DaskRows, answers_on_dask, is_dask
from skgen.mixture._answers import log_density, posterior
from skgen.mixture._joint import Parameters


class DaskAnswersMixin:
    """Give a Gaussian mixture lazy answers for a Dask array or dataframe.

    It stands before the classes of scikit-learn, whose `set_output` would compute a
    Dask array to put it in a dataframe.
    """

    def score_samples(self, X):
        r"""Return the log-density of each row, in nats and in the units of `X`.

        Parameters
        ----------
        X : array-like, Dask array or Dask dataframe of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        ndarray or Dask array of shape (n_samples,)
            :math:`\log p(x)` of each row, the natural logarithm of a density that
            integrates to one over the space of the features. For rows on Dask, a
            Dask array that is not computed yet.
        """
        if is_dask(X):
            return self._lazy(X, log_density, ())
        return super().score_samples(X)

    def score(self, X, y=None, sample_weight=None):
        """Return the mean log-density of the rows, in nats per row.

        Parameters
        ----------
        X : array-like, Dask array or Dask dataframe of shape (n_samples, n_features)
            The rows, held out from fitting if the figure is to mean anything.
        y : None
            Ignored.
        sample_weight : array-like or Dask array of shape (n_samples,), default=None
            How many times each row counts. None counts each once.

        Returns
        -------
        float
            The weighted mean of ``score_samples(X)``: a mean for every model,
            unlike the sum of scikit-learn's ``KernelDensity``. For rows on Dask, it
            is computed where they are.
        """
        if is_dask(X):
            log_likelihood, n = self._log_likelihood(X, sample_weight)
            return log_likelihood / n
        return super().score(X, sample_weight=sample_weight)

    def transform(self, X):
        r"""Return the posterior mean of the latent, :math:`E[z | x]`.

        Parameters
        ----------
        X : array-like, Dask array or Dask dataframe of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        ndarray or Dask array of shape (n_samples, n_latent)
            The posterior mean for each row; a dataframe where ``set_output`` asks
            for one. For rows on Dask, a Dask array that is not computed yet, whatever
            ``set_output`` says.
        """
        if is_dask(X):
            return self._posterior(X)
        return super().transform(X)

    def fit_transform(self, X, y=None, **fit_params):
        """Fit the model and return the posterior mean of the latent of each row.

        Parameters
        ----------
        X : array-like, Dask array or Dask dataframe of shape (n_samples, n_features)
            The rows.
        y : None
            Ignored.
        **fit_params : dict
            Passed on to `fit`.

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
        """Return what a function of the fitted mixture answers, as a Dask array."""
        return answers_on_dask(self, X, self._frozen(function), shape, dtype)

    def _sums_on_dask(self, X, sample_weight):
        """Return the weighted sum of log-densities on Dask, and that of weights."""
        function = partial(_weighted, function=self._frozen(log_density))
        return tuple(map(float, DaskRows(self, X, sample_weight).total(function)))

    def _frozen(self, function):
        """Return a function of rows that a later fit does not change."""
        check_is_fitted(self)
        arrays = vars(self._parameters).items()
        parameters = Parameters(**{name: array.copy() for name, array in arrays})
        return partial(function, parameters=parameters, covariance=self._covariance)


def _weighted(X, sample_weight, *, function):
    return np.array([sample_weight @ function(X), sample_weight.sum()])
