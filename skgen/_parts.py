"""Parts of rows: the observed features, and the other features given them.

NaN means "not observed". A model answers one pattern of observed features at a time:
its hook `_part` returns an `AbstractPart`, which has the marginal density of the
observed features and the conditional density of the missing features. All public
methods about parts are defined here, once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri
from sklearn.utils.validation import check_is_fitted

from skgen._checks import (
    Described,
    column_names,
    float_type,
    generator_of_draws,
    invalid_argument,
    is_integer,
    rows_to_answer,
)
from skgen._interop import as_set_output, frame_kind
from skgen._threads import working_memory
from skgen._torch import undisturbed
from skgen._typing import ArrayLike, FloatArray, MatrixLike, RandomState
from skgen.rows._dask import lazy_on_dask

# Maximum number of steps of a quantile: each halves an interval of floats at least.
_MOST_STEPS = 200

# Maximum number of values times components of a distribution function at a time.
_CHUNK = 2**20


class AbstractPart(ABC):
    """Density of some features `o` of a model, and of the other features `m`."""

    @abstractmethod
    def log_density(self, X):
        """Return log p(x_o) of (n, o) rows: (n,)."""

    @abstractmethod
    def posterior_mean(self, X):
        """Return E[z | x_o] of (n, o) rows: (n, n_latent)."""

    @abstractmethod
    def conditional_mean(self, X):
        """Return E[x_m | x_o] of (n, o) rows: (n, m)."""

    @abstractmethod
    def draw(self, X, n_samples, rng):
        """Return draws of x_m given x_o of (n, o) rows: (n_samples, n, m)."""


class PartOfPattern(AbstractPart):
    """One pattern, a mask (d,), of a part that takes rows (n, d) of all patterns."""

    def __init__(self, part, observed):
        self._part, self._observed = part, observed

    def _whole(self, X):
        """Return rows (n, o) as rows (n, d) with NaN."""
        rows = np.full((len(X), self._observed.size), np.nan)
        rows[:, self._observed] = X
        return rows

    def log_density(self, X):
        return self._part.log_density(self._whole(X))

    def posterior_mean(self, X):
        return self._part.posterior_mean(self._whole(X))

    def conditional_mean(self, X):
        return self._part.conditional_mean(self._whole(X)).reshape(len(X), -1)

    def draw(self, X, n_samples, rng):
        drawn = self._part.draw(self._whole(X), n_samples, rng)
        return drawn.reshape(n_samples, len(X), -1)


def patterns(X):
    """Return the patterns of NaN in (n, d) rows: pairs of rows (r,) and observed (d,).

    `rows` are sorted indices, `observed` a mask. Patterns have a fixed order.
    """
    observed = ~np.isnan(X)
    packed = np.ascontiguousarray(np.packbits(observed, axis=1))
    keys = packed.view(np.dtype((np.void, packed.shape[1]))).ravel()
    _, first, label = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(label.ravel(), kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(label.ravel()))[:-1])
    return [(rows, observed[i]) for rows, i in zip(groups, first, strict=True)]


# -- distribution functions ------------------------------------------------------------


def mixture_cdf(x, weights, means, deviations):
    """Return the distribution function of a normal mixture in one dimension: (n,).

    `x` is (n,), and the parameters of C components are (C,).
    """
    answers = np.empty(x.size)
    step = max(1, _CHUNK // weights.size)
    for start in range(0, x.size, step):
        rows = slice(start, start + step)
        answers[rows] = ndtr((x[rows, None] - means) / deviations) @ weights
    return np.minimum(answers, 1.0)  # rounding of the sum


def mixture_quantile(q, weights, means, deviations):
    """Return the quantiles of a normal mixture in one dimension at q (n,): (n,)."""
    some = weights > 0
    weights, means, deviations = weights[some], means[some], deviations[some]
    # A quantile lies between the smallest and the largest quantile of a component.
    with np.errstate(invalid="ignore"):
        ends = ndtri(q)
        low = means[:, None] + deviations[:, None] * ends  # (C, n)
    return inverse_of(
        lambda x: mixture_cdf(x, weights, means, deviations),
        *(q, low.min(axis=0), low.max(axis=0)),
    )


def inverse_of(cdf, q, low, high):
    """Return where an increasing function of (n,) points is q (n,), by bisection.

    The solutions lie between `low` and `high` (n,), which may be infinite.
    """
    low, high = low.copy(), high.copy()
    for _ in range(_MOST_STEPS):
        middle = 0.5 * low + 0.5 * high
        going = (middle > low) & (middle < high)
        if not going.any():
            break
        below = np.zeros(q.size, dtype=bool)
        below[going] = cdf(middle[going]) < q[going]
        low = np.where(going & below, middle, low)
        high = np.where(going & ~below, middle, high)
    return high


# -- public methods --------------------------------------------------------------------


class PartialRows:
    r"""Mixin of models that answer rows with missing values.

    A model implements the hooks ``_part``, ``_marginal`` and ``_condition``.
    """

    n_features_in_: int
    _log_densities: Callable[..., Any]  # of GenerativeModel
    _normal_components: Callable[..., Any]
    _bytes_per_row: int

    # NaN in rows to answer means "not observed".
    _answers_incomplete = True

    @lazy_on_dask(lambda model: model.n_features_in_)
    def impute(self, X: MatrixLike) -> FloatArray:
        r"""Replace missing values by their conditional mean.

        Parameters
        ----------
        X : array-like, Dask array or Dask dataframe of shape (n_samples, n_features)
            The data, with NaN for missing values.

        Returns
        -------
        ndarray, dataframe or Dask array of shape (n_samples, n_features)
            `X` with :math:`E[x_\text{mis} | x_\text{obs}]` in the place of NaN.
            Observed values are returned unchanged. A dataframe if the model was fitted
            to one and `set_output` or scikit-learn's option `transform_output` selects
            pandas or polars. For Dask input, a lazy Dask array.
        """
        check_is_fitted(self)
        rows, X = X, rows_to_answer(self, X, "impute")
        filled = np.array(X, dtype=float_type(X.dtype), order="C")
        self._fill(filled)
        return as_set_output(self, filled, like=rows)

    @undisturbed()
    def _fill(self, X):
        """Replace NaN in (n, d) rows in place by their conditional mean."""
        for _, part, given, missing in self._incomplete(X, self._bytes_per_row):
            X[missing] = part.conditional_mean(given)

    @undisturbed()
    def sample_conditional(
        self,
        X: MatrixLike,
        n_samples: int = 1,
        *,
        random_state: RandomState = None,
    ) -> FloatArray:
        r"""Draw the missing values of rows given their observed values.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            The data, with NaN for missing values.
        n_samples : int, default=1
            Number of samples for each row.
        random_state : int, RandomState, Generator or None, default=None
            Seed of the samples, as in `sample`.

        Returns
        -------
        ndarray of shape (n_samples, n_rows, n_features)
            Copies of `X` with independent draws from
            :math:`p(x_\text{mis} | x_\text{obs})` in the place of NaN. Observed values
            are returned unchanged. A row without observed values is a draw from the
            density itself.
        """
        check_is_fitted(self)
        X = rows_to_answer(self, X, "sample_conditional")
        rng = generator_of_draws(self, "sample_conditional", n_samples, random_state)
        return self._conditional_draws(X, int(n_samples), rng)

    def _conditional_draws(self, X, n_samples, rng):
        """Return copies (n_samples, n, d) of rows with draws in the place of NaN."""
        draws = np.empty((n_samples, *X.shape), dtype=float_type(X.dtype))
        draws[:] = X
        bytes_per_row = self._bytes_per_row + n_samples * 8 * X.shape[1]
        for _, part, values, missing in self._incomplete(X, bytes_per_row):
            draws[:, *missing] = part.draw(values, n_samples, rng)
        return draws

    @lazy_on_dask(lambda model: model.n_features_in_)
    def conditional_score_samples(self, X: MatrixLike) -> FloatArray:
        r"""Return the log-density of each value given the other values of its row.

        Parameters
        ----------
        X : array-like, Dask array or Dask dataframe of shape (n_samples, n_features)
            The data, with NaN for missing values.

        Returns
        -------
        ndarray or Dask array of shape (n_samples, n_features)
            :math:`\log p(x_j | x_{-j}) = \log p(x) - \log p(x_{-j})` in nats, where
            :math:`x_{-j}` are the other observed values of the row; NaN for missing
            values. The lowest value of a row is in the column that the other columns
            explain worst. For Dask input, a lazy Dask array.
        """
        check_is_fitted(self)
        X = rows_to_answer(self, X, "conditional_score_samples")
        X = X.astype(float_type(X.dtype), copy=False)
        whole, (n, d) = self._log_densities(X), X.shape
        answers = np.empty(X.shape, dtype=X.dtype)
        chunk = max(1, working_memory() // (d * (self._bytes_per_row + 16 * d)))
        for start in range(0, n, chunk):
            rows = slice(start, start + chunk)
            # All columns at once, so that each pattern is answered once.
            hidden = np.where(np.eye(d, dtype=bool), np.nan, X[rows, None])
            others = self._log_densities(hidden.reshape(-1, d).astype(X.dtype))
            with np.errstate(invalid="ignore", over="ignore"):
                answers[rows] = whole[rows, None] - others.reshape(-1, d)
        answers[np.isnan(X)] = np.nan
        return answers

    def marginal(self, features: Any) -> Any:
        r"""Return the marginal density of some features as a fitted model.

        Parameters
        ----------
        features : int, str or list of them
            Indices or names of the features, in the order of the new model.

        Returns
        -------
        estimator
            A fitted model whose `score_samples` returns
            :math:`\log p(x_\text{features})`: of the same class for mixtures, and a
            `PartialDensity` of the model otherwise.

        Raises
        ------
        ValueError
            If `features` are not different features of the model.
        """
        check_is_fitted(self)
        return self._marginal(feature_indices(self, features))

    def condition(self, given: Any) -> Any:
        r"""Return the density of the other features given values, as a fitted model.

        Parameters
        ----------
        given : dict or array-like of shape (n_features,)
            The values: a dictionary from names or indices of features to values, or a
            row with NaN for the other features.

        Returns
        -------
        estimator
            A fitted model of the other features, in their order, whose `score_samples`
            returns :math:`\log p(x_\text{others} | x_\text{given})`: of the same class
            for mixtures, and a `PartialDensity` of the model otherwise.

        Raises
        ------
        ValueError
            If `given` has unknown features, no feature or every feature.
        """
        check_is_fitted(self)
        return self._condition(given_row(self, given))

    @lazy_on_dask()
    def cdf(self, X: MatrixLike) -> FloatArray:
        r"""Return the distribution function of a model of one feature.

        Parameters
        ----------
        X : array-like, Dask array or Dask dataframe of shape (n_samples, 1)
            The data, with NaN for missing values.

        Returns
        -------
        ndarray or Dask array of shape (n_samples,)
            :math:`P(x' \le x)` of each row; NaN for missing values. For Dask input, a
            lazy Dask array.

        Raises
        ------
        ValueError
            If the model has more than one feature: `marginal` and `condition` return
            models of one feature.
        """
        self._check_one_feature("cdf")
        X = rows_to_answer(self, X, "cdf")
        answers = self._cdf(X[:, 0].astype(np.float64))
        return answers.astype(float_type(X.dtype), copy=False)

    def quantile(self, q: ArrayLike) -> Any:
        r"""Return quantiles of a model of one feature.

        Parameters
        ----------
        q : float or array-like
            Probabilities from 0 to 1.

        Returns
        -------
        float or ndarray of the shape of `q`
            The inverse of `cdf` at `q`, to rounding.

        Raises
        ------
        ValueError
            If the model has more than one feature, or `q` is not from 0 to 1.
        """
        self._check_one_feature("quantile")
        try:
            values = np.asarray(q, dtype=np.float64)
            valid = bool(((values >= 0) & (values <= 1)).all())
        except (TypeError, ValueError):
            valid = False
        if not valid:
            rule = "a probability from 0 to 1, or an array of them"
            raise invalid_argument(self, "quantile", "q", rule, q)
        return self._quantile(values.ravel()).reshape(values.shape)[()]

    def _check_one_feature(self, method):
        """Raise unless the model is fitted and has one feature."""
        check_is_fitted(self)
        if self.n_features_in_ != 1:
            raise ValueError(
                f"{type(self).__name__}.{method} is defined for one feature. The model "
                f"has {self.n_features_in_}: use marginal(feature).{method} or "
                f"condition(given).{method}."
            )

    # -- hooks -------------------------------------------------------------------------

    @abstractmethod
    def _part(self, observed):
        """Return the `AbstractPart` of the observed features, a mask (d,)."""

    def _incomplete(self, X, bytes_per_row, among=None):
        """Yield parts of the model that answer rows of X (n, d), by default incomplete.

        Each comes with the indices of its rows (r,) `among` (m,), the rows that it
        takes, and the index of their missing values in X, which `conditional_mean`
        returns. Models that answer all patterns together override this method.
        """
        for rows, observed, values in incomplete_parts(X, bytes_per_row, among):
            missing = rows[:, None], np.flatnonzero(~observed)
            yield rows, self._part(observed), values, missing

    @abstractmethod
    def _marginal(self, features):
        """Return the fitted model of features, given by their indices."""

    @abstractmethod
    def _condition(self, row):
        """Return the fitted model of the features that are NaN in a row (d,)."""

    def _distribution_given(self, row, feature):
        """Return the distribution function of a feature given a row, and its inverse.

        Needed by models whose parts are of another class. The row (d,) has NaN for
        features that are not given.
        """
        raise NotImplementedError

    def _cdf(self, x):
        """Return the distribution function of the only feature at x (n,): (n,)."""
        return mixture_cdf(x, *self._components_of_one_feature())

    def _quantile(self, q):
        """Return the quantiles of the only feature at q (n,): (n,)."""
        return mixture_quantile(q, *self._components_of_one_feature())

    def _components_of_one_feature(self):
        """Return weights, means and standard deviations of normal components: (C,)."""
        weights, means, covariances = self._normal_components()
        deviations = np.broadcast_to(np.sqrt(covariances[:, 0, 0]), weights.shape)
        return weights, means[:, 0], deviations

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def incomplete_parts(X, bytes_per_row, among=None):
    """Yield the incomplete rows of X (n, d) by pattern, a chunk of rows at a time.

    Each is the indices of rows (r,), the observed features (d,), and their float64
    values (r, o). `among` (m,) are indices of incomplete rows, by default of all.
    """
    incomplete = incomplete_indices(X) if among is None else among
    if not len(incomplete):
        return
    chunk = max(1, working_memory() // bytes_per_row)
    for rows, observed in patterns(X[incomplete]):
        for start in range(0, rows.size, chunk):
            some = incomplete[rows[start : start + chunk]]
            values = X[np.ix_(some, observed)]
            yield some, observed, np.ascontiguousarray(values, np.float64)


def incomplete_rows(X, bytes_per_row, among=None):
    """Yield the incomplete rows of X (n, d), a chunk of rows at a time.

    Each is the indices of rows (r,), their float64 values (r, d) with NaN, and the
    index of their missing values in X, in the order of rows. `among` is as above.
    """
    incomplete = incomplete_indices(X) if among is None else among
    chunk = max(1, working_memory() // bytes_per_row)
    for start in range(0, len(incomplete), chunk):
        rows = incomplete[start : start + chunk]
        values = X[rows].astype(np.float64)
        row, feature = np.nonzero(np.isnan(values))
        yield rows, values, (rows[row], feature)


def incomplete_indices(X):
    """Return the indices of the rows of X (n, d) with NaN: (m,)."""
    none = np.empty(0, dtype=np.intp)
    return np.flatnonzero(np.isnan(X).any(axis=1)) if X.dtype.kind == "f" else none


# -- features --------------------------------------------------------------------------


def feature_indices(model, features):
    """Return the indices of the argument `features` of `marginal`."""
    scalar = isinstance(features, str) or is_integer(features, 0)
    listed = [features] if scalar else features
    try:
        found = [_index_of(model, feature) for feature in listed]
    except TypeError:  # no list
        found = [None]
    if not found or None in found or len(set(found)) < len(found):
        rule = f"{_features_rule(model)}, each at most once"
        raise invalid_argument(model, "marginal", "features", rule, features)
    return np.array(found)


def given_row(model, given):
    """Return the argument `given` of `condition` as a row (d,) with NaN for others."""
    d = model.n_features_in_
    if isinstance(given, Mapping):
        row = np.full(d, np.nan)
        for feature, value in given.items():
            index = _index_of(model, feature)
            if index is None:
                rule = f"a dictionary whose keys are {_features_rule(model)}"
                raise invalid_argument(model, "condition", "given", rule, given)
            row[index] = _number(model, feature, value)
    else:
        if frame_kind(given) is None and np.ndim(given) == 1:
            given = np.asarray(given)[None]
        # Rows are checked as rows to answer are.
        rows = rows_to_answer(model, given, "condition")
        if len(rows) != 1:
            got = Described(f"{len(rows)} rows")
            raise invalid_argument(model, "condition", "given", "one row", got)
        row = rows[0].astype(np.float64)
    n_given = int(np.sum(~np.isnan(row)))
    if not 0 < n_given < d:
        rule = f"the values of at least one and of fewer than all {d} features"
        raise invalid_argument(
            model, "condition", "given", rule, Described(f"{n_given} values")
        )
    return row


def _number(model, feature, value):
    """Return a value of `condition` as a finite float; raise for other values."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.inf
    if not np.isfinite(number):
        rule = f"a dictionary of finite numbers, as the value of {feature!r}"
        raise invalid_argument(model, "condition", "given", rule, value)
    return number


def _index_of(model, feature):
    """Return the index of a feature given by its name or index; None if unknown."""
    names = column_names(model)
    if isinstance(feature, str):
        return names.index(feature) if names and feature in names else None
    known = is_integer(feature, 0) and feature < model.n_features_in_
    return int(feature) if known else None


def _features_rule(model):
    names = "names or " if column_names(model) else ""
    return f"{names}indices of features, from 0 to {model.n_features_in_ - 1}"


def new_model(model, features, **parameters):
    """Return a model of some features of `model` without fitted parameters.

    It has the parameters of the constructor, except for the given `parameters`.
    """
    new = type(model)(**{**model.get_params(deep=False), **parameters})
    new.n_features_in_, new._fit_dtype = len(features), model._fit_dtype
    if column_names(model):
        new.feature_names_in_ = model.feature_names_in_[features]
    if hasattr(model, "_sklearn_output_config"):
        new._sklearn_output_config = dict(model._sklearn_output_config)
    return new
