"""Pipelines of transformers and a density, which score in the units of their input."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Self

import numpy as np
from sklearn import get_config
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import (
    check_is_fitted,
    check_memory,
)

from skgen._checks import (
    Described,
    InvalidParameterError,
    answers_with_nan,
    check_observed,
    column_names,
    float_type,
    invalid_argument,
    validated_rows,
    validated_weight,
)
from skgen._columns import label_of, non_finite_columns
from skgen._interop import (
    draw,
    frame_kind,
    framed,
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
from skgen.compose._steps import (
    Steps,
    fitted_step,
    is_passthrough,
    output_of,
    settled_output,
    unnested,
)
from skgen.compose._truncation import mass_inside, within
from skgen.compose._wrapper import (
    fit_within,
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


class GenerativePipeline(PartialRows, Steps, GenerativeModel):
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
                step = fitted_step(cached, step, codes, *more)
                for i, part in enumerate(unnested([step])):
                    scale_constants(part, codes, sample_weight, rounding.constant)
                    codes = settled_output(part, codes, rounding)
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
            codes = settled_output(part, codes, rounding)
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
            density = fitted_step(fit_within, density, codes, *more)
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
        return np.asarray(output_of(step, self._handed(step, X)), dtype=np.float64)

    @property
    def _bytes_per_row(self):
        widths = [self.n_features_in_]
        widths += [
            getattr(step, "n_features_in_", 0) for step in self._fitted_steps()[1:]
        ]
        return 8 * 4 * sum(widths)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        try:
            tags.input_tags.allow_nan = self._refusing_missing() is None
        except (AttributeError, TypeError, ValueError):  # no steps, or invalid steps
            tags.input_tags.allow_nan = False
        return tags


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
