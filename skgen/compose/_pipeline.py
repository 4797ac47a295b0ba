"""Pipelines of transformers and a density, which score in the units of their input."""

from __future__ import annotations

import math
from copy import deepcopy
from typing import Any, Self

import numpy as np
from sklearn.base import clone
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import (
    check_is_fitted,
    check_memory,
)

from skgen._checks import InvalidParameterError, validated_rows
from skgen._columns import non_finite_columns
from skgen._interop import draw, frame_kind, framed
from skgen._typing import ArrayLike, FloatArray, MatrixLike, NDArray
from skgen._whitening import rounding_resolution
from skgen.compose import _principal
from skgen.compose._changes import change_of
from skgen.compose._constant import scale_constants, without_jitter
from skgen.compose._fitting import fit_within, ties_told_of
from skgen.compose._quantiles import TiedQuantilesError
from skgen.compose._rounding import RoundingTrace
from skgen.compose._steps import AbstractPipeline, flat, passes
from skgen.compose._truncation import inside, mass_inside
from skgen.rows._dask import is_dask, lazy_answers

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


class GenerativePipeline(AbstractPipeline):
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
    :math:`N(0, \sigma^2)` with the variance `noise_variance_`, as in probabilistic PCA
    [2]_, and `sample` adds this noise. If the rows are too few to estimate the
    variance, it is 1e-6 of the largest variance of a feature, and a
    :class:`~sklearn.exceptions.DataDimensionalityWarning` is given.

    Some transformers have a bounded range: a `PowerTransformer` by Yeo and Johnson with
    a power below 0 or above 2, a `QuantileTransformer`, and a `MinMaxScaler` that
    clips. The density of the next step is truncated to this range and renormalised. The
    mass in the range is exact for kernel densities and mixtures that follow the
    transformer directly. In other cases it is estimated from samples, up to 65,536,
    until its logarithm has a standard error of 0.001 nats. Rows outside the quantiles
    or the clipped range have a log-density of minus infinity.

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
            Arguments for the `fit` of a step, as ``name__parameter``; if metadata
            routing is enabled, as scikit-learn routes them.

        Returns
        -------
        self : object
            The fitted pipeline. If fitting fails, the previous fit is kept.

        Raises
        ------
        ValueError
            If a parameter or `X` is invalid. The message names the argument.
        """
        return self._learn(X, y=y, params=params, kind=frame_kind(X))

    def _fit(self, X, sample_weight, rng, task, *, y, params, kind):
        self._frame_kind = kind
        routed = self._routed(params)
        cached = check_memory(self.memory).cache(
            fit_within, ignore=["caller", "subtask"]
        )
        resolution = rounding_resolution(np.abs(X).max(axis=0), self._fit_dtype)
        X, constant = without_jitter(X, resolution)
        codes = framed(X, getattr(self, "feature_names_in_", None), kind)
        trace = RoundingTrace(resolution)
        parts = []
        self.steps_ = []
        for name, step in self.steps[:-1]:
            subtask = task.subcontext(task_name=f"fit {name}")
            if not passes(step):
                step = cached(
                    clone(step), _spared(step, codes), y, routed[name], self, subtask
                )
                for part in flat([step]):
                    if constant is not None:  # the first transformer
                        scale_constants(part, X, constant)
                        constant = None
                    trace.follow(part)
                    codes = _transformed(part, codes)
                    parts.append(part)
                    self._check_finite(parts, codes)
            self.steps_.append((name, step))
        self._fit_last(trace.constant(codes), y, task, routed)
        for part in list(flat([self.steps_[-1][1]]))[:-1]:
            trace.follow(part)
        self._scaled_rounding = trace.scaled
        for part in self._flat_steps()[:-1]:
            if isinstance(part, _principal.CLASSES):
                _principal.warn_without_noise(part)
        self._settle()

    def _check_finite(self, parts, codes):
        """Raise unless the (n, k) output of the last of some transformers is finite."""
        values = np.asarray(codes, dtype=np.float64)
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

    def _fit_last(self, codes, y, task, routed):
        """Fit the density to the transformed rows (n, k)."""
        name, density = self.steps[-1]
        subtask = task.subcontext(task_name=f"fit {name}")
        with ties_told_of():  # the columns of X were checked
            density = fit_within(clone(density), codes, y, routed[name], self, subtask)
        self.steps_.append((name, density))

    def _settle(self):
        """Set the mass of the density in the range of the transformers."""
        steps = self._flat_steps()[:-1]
        bounds = [change_of(step).bounds(step) for step in steps]
        mass = 1.0
        if any(bound is not None for bound in bounds):
            mass = None
            if all(bound is None for bound in bounds[:-1]):
                mass = mass_inside(self._flat_steps()[-1], bounds[-1])
            if mass is None:
                mass = self._share_of_draws_inside()
            if mass < _LEAST_MASS:
                raise ValueError(
                    f"Only {mass:.2g} of the mass of the last step, {self[-1]!r}, is "
                    "in the range of the transformers before it."
                )
        self._mass = mass

    # -- scores, samples and latents ----------------------------------------------

    def _log_density(self, X):
        *steps, last = self._flat_steps()
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
                raise InvalidParameterError(
                    f"The log-determinant of the Jacobian of {step!r} is not known, so "
                    f"{type(self).__name__} cannot score in the units of its input. "
                    "Register it with skgen.register_log_det."
                )
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
            answer[possible] += last.score_samples(self._handed(last, X[possible]))
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
        *steps, last = self._flat_steps()
        X = draw(last, n_samples, rng)
        for step in reversed(steps):
            change = change_of(step)
            bounds = change.bounds(step)
            if bounds is not None:
                X = X[inside(X, bounds)]
            if not X.shape[0]:
                return np.empty((0, self.n_features_in_))
            X = _inverted(step, X)
            if change.noise is not None:
                X += change.noise(step, X.shape[0], rng)
        return X

    def _share_of_draws_inside(self):
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
        last = self._flat_steps()[-1]
        self._check_last_has("transform", last)
        codes = self._handed(last, self._codes(X))
        return np.asarray(last.transform(codes), dtype=np.float64)

    def _conditional_mean(self, Z):
        *steps, last = self._flat_steps()
        self._check_last_has("inverse_transform", last)
        X = np.asarray(last.inverse_transform(Z), dtype=np.float64)
        for step in reversed(steps):
            X = _inverted(step, X)
        return X

    def _check_last_has(self, method, last):
        if not hasattr(last, method):
            raise AttributeError(f"The last step {last!r} has no {method!r}.")

    # In contrast to `get_feature_names_out`, it does not depend on the transformers.
    @property
    def _n_latent(self):
        last = self._flat_steps()[-1]
        self._check_last_has("inverse_transform", last)
        return len(last.get_feature_names_out())

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
        return self._of_last("predict", X)

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
        return self._of_last("predict_proba", X)

    def _of_last(self, method, X):
        check_is_fitted(self)
        last = self._flat_steps()[-1]
        if is_dask(X):
            example = self._handed(last, draw(last, 1, np.random.RandomState(0)))
            answer = getattr(last, method)(example)
            return lazy_answers(self, method, X, answer.shape[1:], answer.dtype)
        X = validated_rows(self, X).astype(np.float64, copy=False)
        return getattr(last, method)(self._handed(last, self._codes(X)))

    def _codes(self, X):
        """Return the transformed rows (n, k) of (n, d) rows."""
        for step in self._flat_steps()[:-1]:
            X = self._transformed(step, X)
        return X

    def _transformed(self, step, X):
        return np.asarray(_transformed(step, self._handed(step, X)), dtype=np.float64)

    @property
    def _bytes_per_row(self):
        widths = [self.n_features_in_]
        widths += [
            getattr(step, "n_features_in_", 0) for step in self._flat_steps()[1:]
        ]
        return 8 * 4 * sum(widths)


def _transformed(step, codes):
    """Return the output (n, k) of a fitted transformer, an array or a dataframe."""
    return change_of(step).forward(step, _spared(step, codes))


def _inverted(step, codes):
    """Return the rows (n, d) whose transforms are `codes` (n, k), in a new array."""
    if not hasattr(step, "inverse_transform"):
        raise InvalidParameterError(
            f"Samples cannot be transformed back by {step!r}, which has no "
            "'inverse_transform'."
        )
    return np.array(change_of(step).invert(step, codes), dtype=np.float64)


def _spared(step, codes):
    """Return rows (n, k), copied if the step may overwrite its input."""
    return deepcopy(codes) if getattr(step, "copy", True) is False else codes
