"""Imputation of missing values by a density."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import TransformerMixin
from sklearn.frozen import FrozenEstimator
from sklearn.impute import MissingIndicator
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from skgen._checks import (
    InvalidParameterError,
    check_boolean,
    check_random_state_parameter,
    column_names,
    invalid_parameter,
    is_real,
    seed_of,
    validated_rows,
)
from skgen._columns import list_columns
from skgen._interop import framed
from skgen._lazy import lazy_module
from skgen._typing import ArrayLike, FloatArray, MatrixLike, NDArray, RandomState
from skgen._warnings import warn_user
from skgen.compose._wrapper import DensityWrapper, allows_nan

_mixture = lazy_module("skgen.mixture")


class GenerativeImputer(TransformerMixin, DensityWrapper):
    r"""Imputation of missing values by the conditional mean or by draws of a density.

    Missing values are replaced by their mean given the observed values of the row,
    :math:`E[x_\text{mis} | x_\text{obs}]`, or by a draw from the conditional density
    :math:`p(x_\text{mis} | x_\text{obs})` [1]_. The density is fitted to the incomplete
    rows by maximum likelihood of the observed values.

    Parameters
    ----------
    estimator : estimator, default=None
        Density, such as a mixture or a `GenerativePipeline`: an estimator with `fit`,
        and with `impute` or, if `sample` is True, `sample_conditional`. It is cloned.
        None is an `EMGaussianMixture` with one component, which imputes by linear
        regressions, as :class:`sklearn.impute.IterativeImputer` does.
    sample : bool, default=False
        Whether to draw missing values instead of imputing their mean. Draws have the
        variance of the data, and several seeds give multiple imputations [2]_.
    missing_values : float, int, np.nan or pandas.NA, default=np.nan
        The placeholder of missing values. Missing values of nullable dataframes are NaN
        as well. If it is a number, NaN is an error.
    add_indicator : bool, default=False
        Whether to append the output of a :class:`sklearn.impute.MissingIndicator`: one
        column for each feature with missing values in `fit`.
    keep_empty_features : bool, default=False
        Whether to keep features without observed values in `fit`. They are filled with
        0. If False, they are dropped.
    random_state : int, RandomState, Generator or None, default=None
        Seed of the draws if `sample` is True. An int gives the same draws in every call
        of `transform`. None uses the `random_state` of the density.

    Attributes
    ----------
    estimator_ : estimator
        The fitted density of the features with observed values.
    indicator_ : MissingIndicator or None
        The indicator of missing values. None if `add_indicator` is False.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if all names in `X` are strings.

    See Also
    --------
    EMGaussianMixture.impute : The same conditional mean, without a transformer.
    sklearn.impute.IterativeImputer : Imputation by a regression for each feature.
    sklearn.impute.KNNImputer : Imputation by the mean of the nearest rows.

    Notes
    -----
    The fit is unbiased if values are *missing at random*: given the observed values of
    a row, the probability that a value is missing does not depend on the value [1]_.

    The conditional mean has the smallest mean squared error, but imputed values vary
    less than the data. Statistics of the completed data, such as variances and
    correlations, need draws.

    References
    ----------
    .. [1] Little, R. J. A. and Rubin, D. B. (2019). Statistical Analysis with Missing
       Data, third edition. Wiley.
    .. [2] Rubin, D. B. (1987). Multiple Imputation for Nonresponse in Surveys. Wiley.

    Examples
    --------
    >>> import numpy as np
    >>> from skgen import GenerativeImputer
    >>> X = np.array([[1.0, 2.1], [2.0, 3.9], [3.0, 6.1], [4.0, 8.0], [5.0, np.nan]])
    >>> GenerativeImputer().fit_transform(X)[-1].round(1)
    array([ 5., 10.])
    """

    estimator_: Any
    indicator_: MissingIndicator | None
    n_features_in_: int
    feature_names_in_: NDArray[Any]

    def __init__(
        self,
        estimator: Any = None,
        *,
        sample: bool = False,
        missing_values: Any = np.nan,
        add_indicator: bool = False,
        keep_empty_features: bool = False,
        random_state: RandomState = None,
    ) -> None:
        self.estimator = estimator
        self.sample = sample
        self.missing_values = missing_values
        self.add_indicator = add_indicator
        self.keep_empty_features = keep_empty_features
        self.random_state = random_state

    @property
    def _density(self):
        if self.estimator is None:
            return _mixture.EMGaussianMixture()
        return self.estimator

    @property
    def _methods(self):
        return "fit", "sample_conditional" if self.sample else "impute"

    def fit(
        self, X: MatrixLike, y: None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Fit the density to the observed values.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The training data, with missing values.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row, which is passed to the density: whole numbers count
            rows, and only ratios of other weights matter. A weight of 0 leaves the row
            out. None gives every row a weight of 1.

        Returns
        -------
        self : object
            The fitted imputer. If fitting fails, the previous fit is kept.

        Raises
        ------
        ValueError
            If a parameter, `X` or `sample_weight` is invalid, no value is observed, or
            the density cannot be fitted to rows with missing values.
        """
        return self._learn(X, sample_weight)

    def _check_parameters(self):
        for name in ("sample", "add_indicator", "keep_empty_features"):
            check_boolean(self, name)
        if not (self._marks_by_nan or is_real(self.missing_values)):
            rule = "a finite number, np.nan or pandas.NA"
            raise invalid_parameter(self, "missing_values", rule, self.missing_values)
        check_random_state_parameter(self)

    def _rows_to_fit(self, X):
        return self._marked(X, "fit", reset=True)

    def _marked(self, X, method, *, reset=False):
        """Return unchecked rows (n, d) with NaN for missing values."""
        by_nan = self._marks_by_nan
        X = validated_rows(self, X, reset=reset, method=method, incomplete=by_nan)
        return X if by_nan else np.where(self.missing_values == X, np.nan, X)

    @property
    def _marks_by_nan(self):
        """Return whether NaN marks missing values."""
        value = self.missing_values
        if isinstance(value, (float, np.floating)):
            return bool(np.isnan(value))
        return type(value).__name__ == "NAType"  # of pandas

    def _fit(self, X, sample_weight):
        weights = self._weights(sample_weight, X.shape[0])
        seen = X if weights is None else X[weights > 0]
        observed = ~np.isnan(seen).all(axis=0)
        self._check_observed(observed)
        self._observed = np.flatnonzero(observed)
        if np.isnan(seen[:, self._observed]).any():
            self._check_fits_incomplete()
        task = self._init_callback_context(max_subtasks=1)
        task.call_on_fit_task_begin(estimator=self, X=X)
        rows = X[:, self._observed]
        self.estimator_ = self._fit_density(rows, weights, task, "fit-density")
        self.indicator_ = None
        if self.add_indicator:
            self.indicator_ = MissingIndicator(error_on_new=False).fit(X)
        task.call_on_fit_task_end(estimator=self, X=X)

    def _check_observed(self, observed):
        """Raise without observed features, a mask (d,); warn about dropped ones."""
        if not observed.any():
            raise InvalidParameterError(
                f"The 'X' argument of {type(self).__name__}.fit must have observed "
                "values. Got missing values only."
            )
        empty = np.flatnonzero(~observed)
        if empty.size and not self.keep_empty_features:
            warn_user(
                f"The columns {list_columns(empty, column_names(self))} have no "
                "observed values and are dropped. Set keep_empty_features=True to fill "
                "them with 0.",
                UserWarning,
            )

    def _check_fits_incomplete(self):
        """Raise if the density cannot be fitted to rows with missing values."""
        density = self._density
        if not (isinstance(density, FrozenEstimator) or allows_nan(density)):
            rule = (
                "a density that can be fitted to rows with missing values, such as "
                "EMGaussianMixture, or be fitted to complete rows and frozen by "
                "sklearn.frozen.FrozenEstimator"
            )
            raise invalid_parameter(self, "estimator", rule, density)

    def transform(self, X: MatrixLike) -> FloatArray:
        """Replace missing values.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The data, with missing values.

        Returns
        -------
        ndarray or dataframe of shape (n_samples, n_features_out)
            `X` with imputed values, without the features that are dropped, and with the
            columns of the indicator. Observed values are unchanged. A dataframe if
            `set_output` or scikit-learn's option `transform_output` selects one.
        """
        check_is_fitted(self)
        X = self._marked(X, "transform")
        filled = self._filled(X[:, self._observed])
        if self.keep_empty_features:
            whole = np.where(np.isnan(X), 0, X)
            whole[:, self._observed] = filled
            filled = whole
        if self.indicator_ is None:
            return filled
        return np.hstack([filled, self.indicator_.transform(X).astype(X.dtype)])

    def _filled(self, X):
        """Return rows (n, k) of the features of the density without missing values."""
        some = np.isnan(X).any(axis=1)
        if some.any():
            rows = self._handed(X[some])
            if self.sample:
                seed = self.random_state
                rows = self.estimator_.sample_conditional(rows, 1, random_state=seed)[0]
            else:
                rows = self.estimator_.impute(rows)
            X[some] = np.asarray(rows)
        return X

    def _handed(self, X):
        names = getattr(self, "feature_names_in_", None)
        names = None if names is None else names[self._observed]
        return framed(X, names, self._frame_kind)

    def get_feature_names_out(
        self, input_features: ArrayLike | None = None
    ) -> NDArray[np.object_]:
        """Return the names of the columns that `transform` returns.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the input features. None uses the names seen in `fit`.

        Returns
        -------
        ndarray of str objects
            Names of the features that are kept, then of the columns of the indicator:
            ``missingindicator_`` and the name of the feature.
        """
        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features)
        kept = names if self.keep_empty_features else names[self._observed]
        if self.indicator_ is None:
            return kept
        return np.concatenate([kept, self.indicator_.get_feature_names_out(names)])

    @property
    def _random_state(self):
        own = self.random_state
        return seed_of(self._density) if own is None else own

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan &= self._marks_by_nan
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.non_deterministic = bool(self.sample)
        return tags
