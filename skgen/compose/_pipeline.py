"""Pipelines of transformers and a density, which score in the units of their input."""

from __future__ import annotations

import math
from copy import deepcopy
from functools import partial
from typing import Any, Self

import numpy as np
from scipy.sparse import issparse
from sklearn import get_config
from sklearn.base import clone
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import Bunch
from sklearn.utils.metadata_routing import MetadataRouter, process_routing
from sklearn.utils.metaestimators import _BaseComposition, available_if
from sklearn.utils.validation import (
    _check_feature_names_in,
    check_is_fitted,
    check_memory,
)

from skgen._checks import (
    RANDOM_STATE_RULE,
    Described,
    InvalidParameterError,
    answers_with_nan,
    check_observed,
    column_names,
    float_type,
    has_methods,
    invalid_argument,
    invalid_parameter,
    is_random_state,
    seed_of,
    validated_rows,
    validated_weight,
)
from skgen._columns import label_of, non_finite_columns
from skgen._interop import (
    as_set_output,
    draw,
    frame_kind,
    framed,
    framed_like,
    log_density_of,
    normal_components,
)
from skgen._lazy import cached_property
from skgen._parts import PartialRows, new_model
from skgen._torch import undisturbed
from skgen._typing import ArrayLike, FloatArray, MatrixLike, NDArray
from skgen._whitening import known_errors
from skgen.base import GenerativeModel
from skgen.compose._changes import (
    PRINCIPAL,
    TiedQuantilesError,
    change_of,
    unknown_log_det,
    warn_without_noise,
)
from skgen.compose._constant import MOST_LOST, SCALERS, Rounding, scale_constants
from skgen.compose._pipeline_parts import (
    InexactPartsError,
    PipelinePart,
    inverted,
    on_features,
    one_feature_codes,
    one_feature_values,
    refusing_missing,
    split_of,
)
from skgen.compose._truncation import mass_inside, within
from skgen.compose._wrapper import (
    fit_within,
    innermost,
    is_continuous,
    refusing_weights,
    weights_of,
    without_tie_warnings,
)
from skgen.rows._dask import lazy_answers
from skgen.rows._source import is_dask

# Without a formula, the mass of a density in a range is estimated from samples, until
# its logarithm has this standard error in nats.
_ERROR_OF_MASS = 1e-3
_MOST_DRAWS, _DRAWS_AT_ONCE = 2**16, 2**13

# Minimum mass in the range: below this, the truncated density hardly resembles the fit.
_LEAST_MASS = 1e-3


def _last_has(method):
    """Return a check for `available_if` that the last step has a method."""

    def check(pipeline):
        getattr(pipeline[-1], method)  # the AttributeError names the last step
        return True

    return check


class GenerativePipeline(PartialRows, GenerativeModel, _BaseComposition):
    r"""Pipeline of transformers and a density, in the units of the input data.

    As in :class:`sklearn.pipeline.Pipeline`, data pass through transformers to the last
    step, which is a density. Samples of the density are transformed back, and its
    log-density becomes the log-density of the input data by the change of variables
    [1]_,

    .. math:: \log p(x) = \log p_y(T(x)) + \log |\det J_T(x)|,

    where :math:`T` is the composition of the transformers. Scores are therefore
    comparable between pipelines with different scalers, different numbers of principal
    components, or no transformers.

    Parameters
    ----------
    steps : list of tuple
        Pairs of a name and an estimator: transformers or ``"passthrough"``, followed by
        a density, which is an estimator with `fit`, `score_samples` and `sample`. The
        estimators are cloned.
    memory : str or object with the joblib.Memory interface, default=None
        Cache of fitted transformers. None disables caching.

    Attributes
    ----------
    steps_ : list of tuple
        Names and fitted estimators. `named_steps`, slices and items of the pipeline
        refer to these estimators after fitting, and to the parameter `steps` before.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if all names in `X` are strings.

    See Also
    --------
    make_generative_pipeline : Construct a pipeline from steps without names.
    register_log_det : Register the log-determinant of another transformer.
    sklearn.pipeline.Pipeline : Its `score_samples` is in the units of the transformed
        data, and it has no `sample`.

    Notes
    -----
    Log-densities are exact for `StandardScaler`, `MinMaxScaler`, `MaxAbsScaler`,
    `RobustScaler`, `PowerTransformer`, `QuantileTransformer`, `PCA`, `IncrementalPCA`,
    and a `FunctionTransformer` with a common function of NumPy or a function registered
    by :func:`~skgen.register_log_det`. If `PCA` has
    fewer components than features, the other directions have the density
    :math:`N(0, \sigma^2)`, as in probabilistic PCA [2]_, and `sample` adds this noise.
    The variance is what the components leave of the training rows, divided by the
    number of other directions. `fit` sets `noise_variance_` of the fitted step to it.
    If nothing is left, the variance is 1e-6 of the largest variance of a feature, and a
    :class:`~sklearn.exceptions.DataDimensionalityWarning` is given.

    Some transformers have a bounded range: a `PowerTransformer` by Yeo and Johnson with
    a power below 0 or above 2, a `QuantileTransformer`, and a `MinMaxScaler` or
    `MaxAbsScaler` that clips. The density of the next step is truncated to this range
    and renormalised. The mass in the range is exact for kernel densities and mixtures
    that follow the transformer directly. In other cases it is estimated from samples,
    up to 65,536, until its logarithm has a standard error of 0.001 nats. Rows outside
    the training range of quantiles or of clipping have a log-density of minus infinity.

    Rows with NaN are answered where this is exact. If each step acts on single features
    (scalers, `PowerTransformer` without bounds, functions) and the density supports
    missing values, the log-density of the observed values is the log-density of their
    transforms plus the logarithms of their slopes. `fit` takes NaN as well, except
    with steps whose range can be bounded, such as a `PowerTransformer`. If linear
    steps and `PCA` precede a mixture or a kernel density, the pipeline is a mixture of
    normals in the units of the data, of which `marginal` and `condition` return
    components. Nonlinear steps have draws of missing values, but no `impute`. Other
    pipelines raise an error that names the step.

    `transform` returns the latents of the last step. `inverse_transform` computes the
    conditional mean of the last step and transforms it back; the result is
    :math:`E[x | z]` if the transformers are linear. Without a `random_state`, `sample`
    uses the `random_state` of the last step.

    Metadata for a step is passed as ``name__parameter`` or by metadata routing, as in
    `Pipeline`.

    References
    ----------
    .. [1] Papamakarios, G., Nalisnick, E., Rezende, D. J., Mohamed, S. and
       Lakshminarayanan, B. (2021). Normalizing flows for probabilistic modeling and
       inference. JMLR 22.
    .. [2] Tipping, M. E. and Bishop, C. M. (1999). Probabilistic principal component
       analysis. Journal of the Royal Statistical Society B 61, 611-622.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from skgen import GaussianKDE, GenerativePipeline, dequantize
    >>> X = dequantize(load_iris().data, random_state=0)
    >>> model = GenerativePipeline([("pca", PCA(2)), ("kde", GaussianKDE())]).fit(X)
    >>> round(model.score(X), 2)
    -2.3
    >>> model.sample(3, random_state=0).shape
    (3, 4)
    """

    steps_: list[tuple[str, Any]]

    def __init__(self, steps: list[tuple[str, Any]], *, memory: Any = None) -> None:
        self.steps = steps
        self.memory = memory

    def fit(self, X: MatrixLike, y: ArrayLike | None = None, **params: Any) -> Self:
        """Fit the transformers one after the other, and then the density.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The training data.
        y : array-like of shape (n_samples,), default=None
            Targets, passed to the `fit` of every step.
        **params : dict
            Arguments for the `fit` of a step, as ``name__parameter``, and
            `sample_weight` of shape (n_samples,) for all steps: a weight of 2 is the
            row twice, a weight of 0 leaves it out. If metadata routing is enabled,
            arguments as scikit-learn routes them.

        Returns
        -------
        self : object
            The fitted pipeline. If fitting fails, the previous fit is kept.

        Raises
        ------
        ValueError
            If a parameter or `X` is invalid, a step takes no weights, or a transformer
            loses the values of a column. The message names the argument or the column.
        """
        is_routed = get_config()["enable_metadata_routing"]
        weights = None if is_routed else params.pop("sample_weight", None)
        if weights is not None and y is not None:  # as for rows of weight 0
            y = np.asarray(y)
            y = y[validated_weight(self, weights, y.shape[0]) > 0]
        more = {"params": params, "is_weighted": weights is not None}
        return self._learn(X, weights, y=y, kind=frame_kind(X), **more)

    def _check_parameters(self):
        rule = "a list of pairs of a name and an estimator"
        if not (isinstance(self.steps, list) and self.steps):
            raise invalid_parameter(self, "steps", rule, self.steps)
        for step in self.steps:
            if not (isinstance(step, tuple) and len(step) == 2):
                raise invalid_parameter(self, "steps", rule, step)
        self._validate_names([name for name, _ in self.steps])
        what = f"of {type(self).__name__} must be"
        for name, step in self.steps[:-1]:
            if not (is_passthrough(step) or has_methods(step, "fit", "transform")):
                raise InvalidParameterError(
                    f"The step {name!r} {what} a transformer, with 'fit' and "
                    f"'transform', or 'passthrough'. Got {step!r} instead."
                )
        last = innermost(self.steps[-1][1])
        if not has_methods(last, "fit", "score_samples", "sample"):
            raise InvalidParameterError(
                f"The last step {what} a density, with 'fit', 'score_samples' and "
                f"'sample'. Got {last!r} instead."
            )
        # A pipeline has no parameter `random_state` of its own.
        if isinstance(last, GenerativePipeline):
            last._check_parameters()
        elif not is_random_state(seed_of(last)):
            raise invalid_parameter(
                last, "random_state", RANDOM_STATE_RULE, seed_of(last)
            )

    def _routed(self, params):
        """Return the `fit` parameters of each step: a dict of dicts."""
        if get_config()["enable_metadata_routing"]:
            routed = process_routing(self, "fit", **params)
            # scikit-learn's router routes `fit_transform` of transformers.
            return {
                name: dict(
                    routed[name].get("fit_transform") or routed[name].get("fit", {})
                )
                for name, _ in self.steps
            }
        routed = {name: {} for name, _ in self.steps}
        for key, value in params.items():
            name, _, parameter = key.partition("__")
            if name not in routed or not parameter:
                raise InvalidParameterError(
                    f"The arguments of {type(self).__name__}.fit must be named "
                    f"'step__parameter' after one of its steps. Got {key!r} instead."
                )
            routed[name][parameter] = value
        return routed

    def _fit(self, X, sample_weight, rng, task, *, y, params, is_weighted, kind):
        self._frame_kind = kind
        routed = self._routed(params)
        if is_weighted:
            refusing = refusing_weights(self)
            if refusing is not None:
                rule = f"None, because the step {refusing!r} takes no weights"
                got = Described("weights")
                raise invalid_argument(self, "fit", "sample_weight", rule, got)
            for name, step in self.steps:
                routed[name] = {**weights_of(step, sample_weight), **routed[name]}
        cached = check_memory(self.memory).cache(
            fit_within, ignore=["caller", "subtask"]
        )
        missing = np.isnan(X)
        missing = missing if missing.any() else None
        self._check_fits_missing(X, missing)
        rounding = Rounding(X, self._fit_dtype)
        codes = framed(X, getattr(self, "feature_names_in_", None), kind)
        codes = rounding.made_constant(codes)
        parts = []
        self.steps_ = []
        for name, step in self.steps[:-1]:
            subtask = task.subcontext(task_name=f"fit {name}")
            if not is_passthrough(step):
                more = y, routed[name], self, subtask
                step = _fitted(cached, step, codes, *more)
                for i, part in enumerate(unnested([step])):
                    scale_constants(part, codes, sample_weight, rounding.constant)
                    codes = _settled(part, codes, rounding)
                    parts.append(part)
                    self._check_finite(parts, codes, missing)
                    unscaled = not isinstance(part, SCALERS)
                    rounding.follow(part, self._transformed, i > 0 and unscaled)
                    self._check_kept(parts, rounding.lost)
                    codes = rounding.made_constant(codes)
            self.steps_.append((name, step))
        with known_errors(rounding.errors):
            self._fit_last(codes, y, task, routed)
        # Within the last step, nothing was made constant before the next fit.
        *within_last, density = unnested([self.steps_[-1][1]])
        for i, part in enumerate(within_last):
            codes = _settled(part, codes, rounding)
            rounding.follow(part, self._transformed, fitted_to_errors=i > 0)
            self._check_kept([*parts, *within_last[: i + 1]], rounding.lost)
        if within_last and rounding.varies:
            rounding.divided_by = rounding.divided_by or type(density).__name__
        self._scaled_rounding = rounding.divided_by
        for part in [*parts, *within_last]:
            warn_without_noise(part)
        self._settle()

    def _check_fits_missing(self, X, missing):
        """Raise if a step cannot be fitted to rows with `missing` (n, d), or None."""
        if missing is None:
            return
        names = column_names(self)
        check_observed(f"{type(self).__name__}.fit", ~missing.all(axis=0), names)
        if (step := self._refusing_missing()) is None:
            return
        rows = X if names is None else framed(X, names, None)
        raise InvalidParameterError(
            f"Input X contains NaN in {non_finite_columns(rows, nan=True)}. "
            f"{type(self).__name__} cannot be fitted to missing values because of its "
            f"step {step!r}: impute them, for example with GenerativeImputer, or use "
            "steps that act on each feature alone, with an unbounded range, before a "
            "density that is fitted to missing values, such as EMGaussianMixture."
        )

    def _refusing_missing(self):
        """Return the step that cannot be fitted to missing values, or None."""
        *steps, last = unnested(step for _, step in self.steps)
        return refusing_missing(steps, last)

    def _check_finite(self, parts, codes, missing):
        """Raise unless the (n, k) output of the last of some transformers is finite.

        Values that are `missing` (n, k), or None, are NaN.
        """
        values = np.asarray(codes, dtype=np.float64)
        if not values.size:
            raise ValueError(
                f"{parts[-1]!r} returns no columns, which have no density."
            )
        if missing is not None and missing.shape == values.shape:
            values = np.where(missing & np.isnan(values), 0.0, values)
        if np.isfinite(values).all():
            return
        names = self._names_after(parts)
        if names is not None and len(names) == values.shape[1]:
            values = framed(values, names, self._frame_kind)
        nan = bool(np.isnan(values).any(axis=None))
        where = non_finite_columns(values, nan=nan)
        raise ValueError(
            f"{parts[-1]!r}, fitted to n_samples={codes.shape[0]}, returns "
            f"{'NaN' if nan else 'infinity'} in {where} of its output."
        )

    def _check_kept(self, parts, lost):
        """Raise if the last of some transformers has `lost` the values of columns."""
        if lost.size:
            names = self._names_after(parts[:-1])
            raise ValueError(
                f"{parts[-1]!r} loses column {label_of(lost[0], names)}: its inverse "
                f"transform does not return the training rows to {MOST_LOST:.1%} of "
                "their standard deviation. Either its output differs by rounding "
                "errors only, or the inverse is another function. Scale the column "
                "first, for example with StandardScaler."
            )

    def _fit_last(self, codes, y, task, routed):
        """Fit the density to the transformed rows (n, k)."""
        name, density = self.steps[-1]
        subtask = task.subcontext(task_name=f"fit {name}")
        with without_tie_warnings():  # the columns of X were checked
            more = y, routed[name], self, subtask
            density = _fitted(fit_within, density, codes, *more)
        self.steps_.append((name, density))

    def _settle(self):
        """Set the mass of the density in the range of the transformers."""
        steps = self._fitted_steps()[:-1]
        bounds = [change_of(step).bounds(step) for step in steps]
        mass = 1.0
        if any(bound is not None for bound in bounds):
            mass = None
            if all(bound is None for bound in bounds[:-1]):
                mass = mass_inside(self._fitted_steps()[-1], bounds[-1])
            if mass is None:
                mass = self._fraction_in_range()
            if mass < _LEAST_MASS:
                raise ValueError(
                    f"Only {mass:.2g} of the mass of the last step, {self[-1]!r}, is "
                    "in the range of the transformers before it."
                )
        self._mass = mass
        vars(self).pop("_split", None)

    # -- scores, samples and latents ----------------------------------------------

    def _log_density(self, X):
        *steps, last = self._fitted_steps()
        if self._scaled_rounding:
            raise ValueError(
                f"{self._scaled_rounding} divides components by a standard deviation "
                "that is only rounding error, so rows cannot be scored. Reduce the "
                "number of components."
            )
        answer = np.zeros(X.shape[0])
        for i, step in enumerate(steps):
            change = change_of(step)
            if change.log_det is None:
                # (Some transformers fail for a single row.)
                k = self._transformed(step, np.repeat(X[:1], 2, axis=0)).shape[1]
                raise unknown_log_det(step, type(self).__name__, X.shape[1], k)
            with np.errstate(divide="ignore", invalid="ignore"):
                Y = self._transformed(step, X)
                try:
                    answer += change.log_det(step, X, Y)
                except TiedQuantilesError as error:
                    names = self._names_after(steps[:i])
                    raise ValueError(error.message(names)) from None
            # Rows outside the domain of a function, such as log(-1), have no density.
            answer[~np.isfinite(Y).all(axis=1) | np.isnan(answer)] = -math.inf
            X = np.where(np.isfinite(Y), Y, 0.0)
        possible = answer > -math.inf
        if possible.any():
            handed = partial(self._handed, last)
            answer[possible] += log_density_of(last, X[possible], handed)
        return answer - math.log(self._mass)

    def _draw(self, n_samples, rng):
        drawn, missing = [], n_samples
        while missing:
            n = missing if self._mass == 1 else math.ceil(missing / self._mass * 1.1)
            rows = self._draw_once(n, rng)[:missing]
            drawn.append(rows)
            missing -= rows.shape[0]
        return np.concatenate(drawn)

    def _draw_once(self, n_samples, rng):
        """Return up to (n_samples, d) samples, without those outside of a range."""
        *steps, last = self._fitted_steps()
        X = draw(last, n_samples, rng)
        for step in reversed(steps):
            change = change_of(step)
            bounds = change.bounds(step)
            if bounds is not None:
                X = X[within(X, bounds)]
            if not X.shape[0]:
                return np.empty((0, self.n_features_in_))
            X = inverted(step, X)
            if change.noise is not None:
                X += change.noise(step, X.shape[0], rng)
        return X

    def _fraction_in_range(self):
        """Return the fraction of samples within the range of the transformers."""
        rng = np.random.RandomState(0)
        drawn = found = 0
        while drawn < _MOST_DRAWS:
            found += self._draw_once(_DRAWS_AT_ONCE, rng).shape[0]
            drawn += _DRAWS_AT_ONCE
            # The logarithm of a fraction p of n samples has variance (1 - p) / (p n).
            if found and (drawn - found) / (found * drawn) < _ERROR_OF_MASS**2:
                break
        return found / drawn

    def _posterior_mean(self, X):
        return np.asarray(self._last_answers("transform", X), dtype=np.float64)

    def _conditional_mean(self, Z):
        *steps, last = self._fitted_steps()
        X = np.asarray(last.inverse_transform(Z), dtype=np.float64)
        for step in reversed(steps):
            X = inverted(step, X)
        return X

    # In contrast to `get_feature_names_out`, it does not depend on the transformers.
    @property
    def _n_latent(self):
        return len(self._last_with("inverse_transform").get_feature_names_out())

    # -- parts of rows -----------------------------------------------------------------

    # `_fit` names the step that cannot be fitted to missing values.
    _fits_incomplete = True

    # Errors of answers name the step. `assume_finite` answers such rows with NaN.
    @property
    def _answers_incomplete(self):
        if not get_config()["assume_finite"]:
            return True
        try:
            return self._split is not None
        except InexactPartsError:
            return False

    @cached_property
    def _split(self):
        """Return steps that act on each feature, and the density after them."""
        *steps, last = self._fitted_steps()
        return split_of(steps, last)

    def _parts(self):
        """Return the split; raise an error that names the step that prevents it."""
        try:
            return self._split
        except InexactPartsError as error:
            raise error.explained(self) from None

    def _part(self, observed):
        return PipelinePart(self, *self._parts(), observed)

    def _refuses_latents(self):
        """Return whether latents of incomplete rows are NaN, or raise an error."""
        # scikit-learn asks models that are not fitted to NaN to refuse it in
        # `transform` and `predict`.
        step = self._refusing_missing()
        if step is None or get_config()["assume_finite"]:
            return step is not None
        raise InvalidParameterError(
            "Input X contains NaN. Latents and labels of incomplete rows are not known "
            f"behind {step!r}, which cannot be fitted to missing values."
        )

    def _marginal(self, features):
        steps, density = self._parts()
        return self._of_features(steps, density._marginal(features), features)

    def _condition(self, row):
        steps, density = self._parts()
        observed = ~np.isnan(row)
        codes = row.copy()
        codes[observed] = self._part(observed).through(row[None, observed])[0][0]
        others = np.flatnonzero(~observed)
        return self._of_features(steps, density._condition(codes), others)

    def _of_features(self, steps, density, features):
        """Return a fitted pipeline of some features, or the density without steps."""
        if not steps:
            if hasattr(self, "feature_names_in_"):
                density.feature_names_in_ = self.feature_names_in_[features]
            density._fit_dtype = self._fit_dtype
            return density
        fitted = [on_features(step, features) for step in steps]
        fitted = make_pipeline(*fitted, density).steps
        new = new_model(self, features, steps=[(n, clone(s)) for n, s in fitted])
        new.steps_ = fitted
        new._frame_kind, new._scaled_rounding = self._frame_kind, self._scaled_rounding
        new._settle()
        return new

    def _cdf(self, x):
        steps, density = self._parts()
        codes = one_feature_codes(steps, x, self._transformed)
        finite = np.isfinite(codes)
        answers = np.where(codes > 0, 1.0, 0.0)
        answers[np.isnan(x)] = np.nan
        answers[finite] = density._cdf(codes[finite])
        return answers

    def _quantile(self, q):
        steps, density = self._parts()
        return one_feature_values(steps, density._quantile(q))

    def _normal_components(self):
        """Return the components of the density, or None behind a transformer."""
        *steps, last = self._fitted_steps()
        return None if steps else normal_components(last)

    # -- further methods of the last step -------------------------------------------

    @available_if(_last_has("predict"))
    def predict(self, X: MatrixLike) -> NDArray[Any]:
        """Return the predictions of the last step.

        Parameters
        ----------
        X : array-like, Dask array or Dask dataframe of shape (n_samples, n_features)
            The data.

        Returns
        -------
        ndarray or Dask array of shape (n_samples,)
            Prediction for each row: for a mixture, its most probable component.
        """
        return self._predicted("predict", X)

    @available_if(_last_has("predict_proba"))
    def predict_proba(self, X: MatrixLike) -> FloatArray:
        """Return the probabilities that the last step predicts.

        Parameters
        ----------
        X : array-like, Dask array or Dask dataframe of shape (n_samples, n_features)
            The data.

        Returns
        -------
        ndarray or Dask array of shape (n_samples, n_classes)
            Probabilities for each row: for a mixture, its responsibilities.
        """
        return self._predicted("predict_proba", X)

    @undisturbed()
    def _predicted(self, method, X):
        check_is_fitted(self)
        if is_dask(X):
            last = self._last_with(method)
            example = self._handed(last, draw(last, 1, np.random.RandomState(0)))
            answer = getattr(last, method)(example)
            dtype = None if method == "predict_proba" else answer.dtype
            return lazy_answers(self, method, X, answer.shape[1:], dtype)
        X = validated_rows(self, X, missing=True, incomplete=True)
        dtype, X = float_type(X.dtype), X.astype(np.float64, copy=False)
        answer = partial(self._last_answers, method)
        if np.isnan(X).any() and self._refuses_latents():
            answer = partial(answers_with_nan, answer)
        found = answer(X)  # labels keep their type
        return found.astype(dtype) if method == "predict_proba" else found

    def _last_answers(self, method, X):
        """Return what a method of the density returns for (n, d) rows."""
        last = self._last_with(method)
        for step in self._fitted_steps()[:-1]:
            X = self._transformed(step, X)
        return getattr(last, method)(self._handed(last, X))

    def _last_with(self, method):
        """Return the density; raise AttributeError unless it has a method."""
        last = self._fitted_steps()[-1]
        if not hasattr(last, method):
            raise AttributeError(f"The last step {last!r} has no {method!r}.")
        return last

    def _transformed(self, step, X):
        """Return the float64 output (n, k) of a fitted transformer for an array."""
        forward = change_of(step).forward
        if forward is not None:
            return forward(step, X)
        return np.asarray(_transformed(step, self._handed(step, X)), dtype=np.float64)

    @property
    def _bytes_per_row(self):
        widths = [self.n_features_in_]
        widths += [
            getattr(step, "n_features_in_", 0) for step in self._fitted_steps()[1:]
        ]
        return 8 * 4 * sum(widths)

    # -- the steps -----------------------------------------------------------------

    @property
    def _served(self):
        """Return the fitted steps; before a fit, the parameter `steps`."""
        return self.__dict__.get("steps_", self.steps)

    @property
    def named_steps(self) -> Bunch:
        """The steps by name. After a fit, these are the fitted steps."""
        return Bunch(**dict(self._served))

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int | str | slice) -> Any:
        if not isinstance(index, slice):
            return (
                self.named_steps[index]
                if isinstance(index, str)
                else self._served[index][1]
            )
        steps = self._served[index]
        if index.step not in (None, 1):
            raise ValueError("Slices of a pipeline have a step of 1.")
        if not steps or steps[-1][0] != self.steps[-1][0]:
            return Pipeline(steps, memory=self.memory)
        part = type(self)(self.steps[index], memory=self.memory)
        if "_sklearn_output_config" in vars(self):
            part._sklearn_output_config = self._sklearn_output_config.copy()
        if "steps_" in self.__dict__:
            part._take_over(self, steps)
        return part

    def _take_over(self, whole, steps):
        """Set the fitted attributes to the last `steps` of a fitted pipeline."""
        first = steps[0][1]
        self.steps_ = steps
        self.n_features_in_ = getattr(first, "n_features_in_", whole.n_features_in_)
        if hasattr(first, "feature_names_in_"):
            self.feature_names_in_ = first.feature_names_in_
        for name in ("_fit_dtype", "_frame_kind", "_scaled_rounding"):
            setattr(self, name, getattr(whole, name))
        self._settle()

    def _fitted_steps(self):
        """Return the fitted steps, without nested pipelines."""
        return list(unnested(step for _, step in self.steps_))

    def _handed(self, step, X):
        """Return (n, d) rows as a dataframe if the step was fitted to a dataframe."""
        names = getattr(step, "feature_names_in_", None)
        return framed(X, names, self._frame_kind)

    # -- scikit-learn --------------------------------------------------------------

    # Seed of `sample`. A public attribute would suggest a parameter `random_state`.
    @property
    def _random_state(self):
        return seed_of(innermost(self._served[-1][1]))

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters of the pipeline and of its steps.

        Parameters
        ----------
        deep : bool, default=True
            Whether to include the steps and their parameters as ``name__parameter``.

        Returns
        -------
        dict
            Parameter names and values.
        """
        return self._get_params("steps", deep=deep)

    def set_params(self, **params: Any) -> Self:
        """Set parameters of the pipeline and of its steps.

        Parameters
        ----------
        **params : dict
            Parameter names and values: the name of a step replaces the step, and
            ``name__parameter`` sets one of its parameters.

        Returns
        -------
        self : object
            The pipeline. Fit it again for the parameters to take effect.
        """
        self._set_params("steps", **params)
        return self

    def set_output(self, *, transform: str | None = None) -> Self:
        """Set the output container of the pipeline and of its steps.

        Parameters
        ----------
        transform : {"default", "pandas", "polars"}, default=None
            Container that `transform` returns. If the pipeline was fitted to a
            dataframe, `sample` and `inverse_transform` return it too. "default" is a
            NumPy array. None leaves the setting unchanged.

        Returns
        -------
        self : object
            The pipeline.
        """
        super().set_output(transform=transform)
        fitted = self.__dict__.get("steps_", [])
        for _, step in [*self.steps, *fitted]:
            if hasattr(step, "set_output"):
                step.set_output(transform=transform)
        return self

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
            Names of the latents of the last step.
        """
        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features)
        *steps, last = self._fitted_steps()
        for step in steps:
            names = names_out(step, names)
        return last.get_feature_names_out(names)

    def _names_after(self, steps):
        """Return the names of the columns after fitted steps; None if unknown."""
        names = column_names(self)
        if names is None:
            return None
        try:
            for step in steps:
                names = names_out(step, names)
        except (AttributeError, TypeError, ValueError):  # from a custom transformer
            return None
        return None if names is None else list(names)

    def get_metadata_routing(self) -> MetadataRouter:
        """Return the metadata routing of the pipeline.

        Returns
        -------
        sklearn.utils.metadata_routing.MetadataRouter
            Routing of a scikit-learn pipeline with the same steps.
        """
        return Pipeline(self.steps).get_metadata_routing()

    def _sk_visual_block_(self):
        return Pipeline(self._served)._sk_visual_block_()

    # Whether tied data make the likelihood of the last step unbounded.
    @property
    def _is_continuous(self):
        return is_continuous(self.steps[-1][1])

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        try:
            tags.input_tags.allow_nan = self._refusing_missing() is None
        except (AttributeError, TypeError, ValueError):  # no steps, or invalid steps
            tags.input_tags.allow_nan = False
        return tags

    @property
    def _n_fit_tasks(self):
        return len(self.steps)


def names_out(step, names):
    """Return the names of the columns that a fitted transformer returns, or None.

    `names` (d,) are the names of its input columns, or None.
    """
    if hasattr(step, "get_feature_names_out"):
        return step.get_feature_names_out(names)
    # NumPy's universal functions transform every value on its own.
    elementwise = isinstance(step, FunctionTransformer) and (
        step.func is None or isinstance(step.func, np.ufunc)
    )
    return names if elementwise else None


def unnested(steps):
    """Yield steps, and the steps of scikit-learn's pipelines, without "passthrough"."""
    for step in steps:
        if isinstance(step, Pipeline):
            yield from unnested(inner for _, inner in step.steps)
        elif not is_passthrough(step):
            yield step


def is_passthrough(step):
    """Return whether a step is a placeholder for no transformer."""
    return step is None or (isinstance(step, str) and step == "passthrough")


def _fitted(fit, step, codes, *more):
    """Return a clone of a step that ``fit(step, rows, *more)`` fits to codes (n, k)."""
    rows, centre = _spared(step, codes), 0.0
    # The solvers of principal components square the rows, which are centred before.
    if isinstance(next(unnested([step]), None), PRINCIPAL):
        values = np.asarray(codes, dtype=np.float64)
        centre = values.mean(axis=0)
        rows = framed_like(codes, values - centre)
    step = clone(step)
    # scikit-learn's check of an inverse takes NaN for a difference, and warns.
    spared = isinstance(step, FunctionTransformer) and step.check_inverse
    spared = spared and np.isnan(np.asarray(rows, dtype=np.float64)).any()
    if spared:
        step.check_inverse = False
    step = fit(step, rows, *more)
    if spared:
        step.check_inverse = True
    first = next(unnested([step]), None)
    if isinstance(first, PRINCIPAL):
        first.mean_ = first.mean_ + centre
    return step


def _settled(step, codes, rounding):
    """Correct the attributes of a step that was fitted to codes; return its output."""
    values = np.asarray(codes, dtype=np.float64)
    change_of(step).settle(step, values, rounding.errors)
    return _transformed(step, codes)


def _transformed(step, codes):
    """Return the output (n, k) of a fitted transformer, an array or a dataframe."""
    forward = change_of(step).forward
    if forward is not None:
        values = forward(step, np.asarray(codes, dtype=np.float64))
        return as_set_output(step, values, codes, step.get_feature_names_out)
    codes = step.transform(_spared(step, codes))
    return codes.toarray() if issparse(codes) else codes


def _spared(step, codes):
    """Return rows (n, k), copied if the step may overwrite its input."""
    return deepcopy(codes) if getattr(step, "copy", True) is False else codes


def make_generative_pipeline(*steps: Any, memory: Any = None) -> GenerativePipeline:
    """Construct a `GenerativePipeline` from steps without names.

    Parameters
    ----------
    *steps : estimators
        Transformers, followed by a density.
    memory : str or object with the joblib.Memory interface, default=None
        Cache of fitted transformers. None disables caching.

    Returns
    -------
    GenerativePipeline
        The pipeline. Its steps are named after their classes in lower case, as by
        :func:`sklearn.pipeline.make_pipeline`.

    Raises
    ------
    ValueError
        If no steps are given.

    Notes
    -----
    See `GenerativePipeline` for how scores are computed in the units of the data [1]_.

    References
    ----------
    .. [1] Papamakarios, G., Nalisnick, E., Rezende, D. J., Mohamed, S. and
       Lakshminarayanan, B. (2021). Normalizing flows for probabilistic modeling and
       inference. JMLR 22.

    Examples
    --------
    >>> from sklearn.decomposition import PCA
    >>> from skgen import GaussianKDE, make_generative_pipeline
    >>> [name for name, _ in make_generative_pipeline(PCA(2), GaussianKDE()).steps]
    ['pca', 'gaussiankde']
    """
    if not steps:
        raise InvalidParameterError(
            "make_generative_pipeline must be given at least a density. Got no steps."
        )
    return GenerativePipeline(make_pipeline(*steps).steps, memory=memory)
