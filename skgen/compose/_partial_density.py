"""Density of some features of a fitted model, given values of others."""

from __future__ import annotations

from copy import copy
from typing import Any, Self

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, clone

from skgen._checks import column_names, invalid_parameter, seed_of
from skgen._parts import (
    AbstractPart,
    PartialRows,
    PartOfPattern,
    incomplete_rows,
)
from skgen._typing import MatrixLike
from skgen.base import REFERENCE, GenerativeModel

# Address of the page about parts of models.
GUIDE = f"{REFERENCE.partition('/reference/')[0]}/guide/missing_values.html"


class PartialDensity(PartialRows, ClassNamePrefixFeaturesOutMixin, GenerativeModel):
    r"""Density of some features of a fitted model, given values of other features.

    `marginal` and `condition` return it for models whose marginals and conditionals are
    not of the same class. Features :math:`b` and given values :math:`a` have the
    log-density

    .. math:: \log p(b | a) = \log p(a, b) - \log p(a),

    both from the model. The latent is the latent of the model, and its conditional
    mean and its draws are those given the values :math:`a` and the row.

    Parameters
    ----------
    estimator : estimator
        The model. `fit` fits a clone of it to all features of `X`.

    Attributes
    ----------
    estimator_ : estimator
        The fitted model of all features.
    features_ : ndarray of shape (n_features,)
        Indices of the features in the model of all features.
    given_ : ndarray
        Row of the model of all features: the given values, and NaN for other features.
    log_given_ : float
        Log-density :math:`\log p(a)` of the given values; 0 without any.

    Notes
    -----
    Of a model that estimates its log-densities, both terms are estimates. `cdf` and
    `quantile` are of the features of the decoder given weighted codes, so that they
    differ from the integral of the density by the same error.

    Examples
    --------
    >>> import numpy as np
    >>> from skgen import VAE
    >>> X = np.random.RandomState(0).normal(size=(100, 3))
    >>> model = VAE(1, max_epochs=2, random_state=0).fit(X)
    >>> part = model.condition({0: 0.5})
    >>> part.score_samples(X[:4, 1:]).shape, part.marginal(1).quantile([0.1, 0.9]).shape
    ((4,), (2,))
    """

    estimator_: Any
    features_: Any
    given_: Any
    log_given_: float

    _doc_link_template = GUIDE

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    @classmethod
    def of(cls, model, features, row=None, like=None):
        """Return the density of features of a fitted model, given a row or nothing.

        `features` are indices; `like` is the model whose names and output it takes.
        """
        part, like = cls(copy(model)), model if like is None else like
        if column_names(model):
            part.feature_names_in_ = model.feature_names_in_[features]
        if hasattr(like, "_sklearn_output_config"):
            part._sklearn_output_config = dict(like._sklearn_output_config)
        part._fit_dtype = model._fit_dtype
        part.n_features_in_ = len(features)
        row = np.full(model.n_features_in_, np.nan) if row is None else row
        part._set(part.estimator, np.asarray(features), row)
        return part

    def _set(self, estimator, features, row):
        self.estimator_, self.features_, self.given_ = estimator, features, row
        self.log_given_ = 0.0
        if not np.isnan(row).all():
            self.log_given_ = float(estimator._log_densities(row[None])[0])

    def fit(self, X: MatrixLike, y: None = None) -> Self:
        """Fit a clone of the model to all features of `X`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The training data.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted model.
        """
        return self._learn(X)

    # -- hooks of GenerativeModel ----------------------------------------------------

    def _check_parameters(self):
        if not isinstance(self.estimator, PartialRows):
            rule = "a model that answers rows with missing values"
            raise invalid_parameter(self, "estimator", rule, self.estimator)

    def _fit(self, X, sample_weight, rng, task):
        estimator = clone(self.estimator).fit(X)
        d = X.shape[1]
        self._set(estimator, np.arange(d), np.full(d, np.nan))

    @property
    def _fits_incomplete(self):
        return self.estimator._fits_incomplete

    def _whole(self, X):
        """Return rows of the model of all features, with the given values."""
        rows = np.tile(self.given_, (X.shape[0], 1))
        rows[:, self.features_] = X
        return rows

    def _log_density(self, X):
        return self.estimator_._log_densities(self._whole(X)) - self.log_given_

    def _draw(self, n_samples, rng):
        row = self.given_[None]
        if np.isnan(row).all():
            return self.estimator_._draw(n_samples, rng)[:, self.features_]
        draws = self.estimator_._conditional_draws(row, n_samples, rng)
        return draws[:, 0, self.features_]

    def _posterior_mean(self, X):
        whole, model = self._whole(X), self.estimator_
        return model._by_chunks(model._posterior_mean, whole, "posterior_mean")

    def _conditional_mean(self, Z):
        return self.estimator_._conditional_mean(Z)[:, self.features_]

    # -- hooks of PartialRows --------------------------------------------------------

    def _part(self, observed):
        return PartOfPattern(_OtherFeatures(self), observed)

    def _incomplete(self, X, bytes_per_row):
        part = _OtherFeatures(self)
        for rows, values, missing in incomplete_rows(X, bytes_per_row):
            yield rows, part, values, missing

    def _marginal(self, features):
        features = self.features_[features]
        return PartialDensity.of(self.estimator_, features, self.given_, like=self)

    def _condition(self, row):
        given = self._whole(row[None])[0]
        features = self.features_[np.isnan(row)]
        return PartialDensity.of(self.estimator_, features, given, like=self)

    def _cdf(self, x):
        return self._distribution()[0](x)

    def _quantile(self, q):
        return self._distribution()[1](q)

    def _distribution(self):
        """Return the distribution function of the only feature, and its inverse."""
        return self.estimator_._distribution_given(self.given_, int(self.features_[0]))

    # -- of the model ------------------------------------------------------------------

    @property
    def _is_continuous(self):
        return self.estimator._is_continuous

    @property
    def _random_state(self):
        return seed_of(self.estimator)

    @property
    def _n_fit_tasks(self):
        return 1

    @property
    def _n_latent(self):
        return self.estimator_._n_latent

    _n_features_out = _n_latent

    @property
    def _bytes_per_row(self):
        return self.estimator_._bytes_per_row + 16 * self.given_.size


class _OtherFeatures(AbstractPart):
    """Features of rows (n, d) of a `PartialDensity` that are NaN, in their order."""

    def __init__(self, model):
        self._model = model

    def log_density(self, X):
        return self._model._log_density(X)

    def posterior_mean(self, X):
        return self._model._posterior_mean(X)

    def conditional_mean(self, X):
        rows = self._model._whole(X)
        self._model.estimator_._fill(rows)
        return rows[:, self._model.features_][np.isnan(X)]

    def draw(self, X, n_samples, rng):
        model, rows = self._model, self._model._whole(X)
        draws = model.estimator_._conditional_draws(rows, n_samples, rng)
        return draws[..., model.features_][:, np.isnan(X)]
