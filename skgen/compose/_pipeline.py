"""Pipelines that end in a density, and answer in the units of their input."""

import math
from copy import deepcopy

import numpy as np
from sklearn.base import clone
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import (
    check_is_fitted,
    check_memory,
)

from skgen._drawing import draw
from skgen._frames import frame_kind, framed
from skgen._parameters import InvalidParameterError
from skgen._validation import validated_rows
from skgen._whitening import rounding_resolution
from skgen.compose import _principal
from skgen.compose._constants import scale_constants, without_jitter
from skgen.compose._fitting import fit_within, ties_told_of
from skgen.compose._log_det import change_of
from skgen.compose._range import inside, mass_inside
from skgen.compose._rounding import RoundingTrace
from skgen.compose._steps import AbstractPipeline, flat, passes

# Draws say how much of a density lies in a range where no formula does, until the
# logarithm of that, in nats, is known with this standard error.
_ERROR_OF_MASS = 1e-3
_MOST_DRAWS, _DRAWS_AT_ONCE = 2**16, 2**13

# With less of it in the range, what is scored and drawn is hardly what was fitted.
_LEAST_MASS = 1e-3


def _last_has(method):
    """Return a check whether the last step has a method."""

    def check(pipeline):
        getattr(pipeline[-1], method)  # raises an AttributeError that says who has not
        return True

    return check


class GenerativePipeline(AbstractPipeline):
    r"""A scikit-learn pipeline that ends in a density and samples and scores data.

    As in :class:`sklearn.pipeline.Pipeline`, rows run through transformers to the
    last step, here a density. Its draws run back through them, and its log-density
    becomes that of the rows themselves by the change of variables [1]_,

    .. math:: \log p(x) = \log p_y(T(x)) + \log |\det J_T(x)|,

    with :math:`T` the transformers together. So scores of pipelines with other
    scalers, other numbers of principal components or none at all can be compared.

    Parameters
    ----------
    steps : list of tuple
        Pairs of a name and an estimator: transformers or ``"passthrough"``, then a
        density, which is any estimator with `fit`, `score_samples` and `sample`.
        Fitting fits clones of them.
    memory : str or object with the joblib.Memory interface, default=None
        Where fitted transformers are cached; None caches nothing.

    Attributes
    ----------
    steps_ : list of tuple
        The names and the fitted estimators. `named_steps`, slices and items of the
        pipeline serve these once it is fitted, and `steps` before.
    n_features_in_ : int
        The number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        The names of the features, where `X` has string names for all.

    See Also
    --------
    make_generative_pipeline : The same, with the names of the steps made up.
    register_log_det : Say how a transformer of your own changes a density.
    sklearn.pipeline.Pipeline : Its `score_samples` is that of the last step, in the
        units of what the transformers return, and it has no `sample`.

    Notes
    -----
    Exact for `StandardScaler`, `MinMaxScaler`, `MaxAbsScaler`, `RobustScaler`,
    `PowerTransformer`, `QuantileTransformer`, `FunctionTransformer` of a common or
    registered function, `PCA` and `IncrementalPCA`. With fewer components than
    features, what `PCA` leaves over has the density :math:`N(0, \sigma^2)` in each
    direction, with `noise_variance_` for :math:`\sigma^2`, as in probabilistic PCA
    [2]_, and `sample` adds it back. Where that is 0, for want of rows, it is the
    shared floor of 1e-6 of the largest variance of a feature, and a
    :class:`~sklearn.exceptions.DataDimensionalityWarning` says so.

    A transformer that reaches a bounded range only (Yeo and Johnson's for powers below
    0 or above 2, a `QuantileTransformer`, a `MinMaxScaler` that clips) cuts the
    density of the next step, which is renormalised: by a formula for kernel densities
    and mixtures right after it, else by the share of draws inside, known to 0.001 nats
    or that of 65,536 draws. Rows outside the quantiles or the clipped range have a
    log-density of minus infinity.

    `transform` passes rows on to the latent of the last step, and `inverse_transform`
    takes its mean back through the transformers: :math:`E[x | z]` where these are
    linear. Draws are seeded by `random_state`, or else by that of the last step.

    Metadata for a step is passed as ``name__parameter`` or by routing, as in
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

    def __init__(self, steps, *, memory=None):
        self.steps = steps
        self.memory = memory

    def fit(self, X, y=None, **params):
        """Fit clones of the transformers, one after the other, then of the density.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.
        y : array-like of shape (n_samples,), default=None
            Passed on to the steps.
        **params : dict
            Passed on to the `fit` of steps: ``name__parameter``, or by metadata
            routing where that is enabled.

        Returns
        -------
        self : object
            The fitted pipeline. Where fitting fails, what an earlier `fit` had
            learned is still there.

        Raises
        ------
        ValueError
            If a parameter or `X` is not what it must be; the message names it.
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
        self.steps_ = []
        for name, step in self.steps[:-1]:
            subtask = task.subcontext(task_name=f"fit {name}")
            if not passes(step):
                step = cached(
                    clone(step), _spared(step, codes), y, routed[name], self, subtask
                )
                for part in flat([step]):
                    if constant is not None:  # the first of all transformers
                        scale_constants(part, X, constant)
                        constant = None
                    trace.follow(part)
                    codes = _finite(part, _transformed(part, codes))
            self.steps_.append((name, step))
        self._fit_last(trace.constant(codes), y, task, routed)
        for part in list(flat([self.steps_[-1][1]]))[:-1]:
            trace.follow(part)
        self._scaled_rounding = trace.scaled
        self._settle()

    def _fit_last(self, codes, y, task, routed):
        """Fit the density to what the transformers return."""
        name, density = self.steps[-1]
        subtask = task.subcontext(task_name=f"fit {name}")
        with ties_told_of():  # in the columns of X
            density = fit_within(clone(density), codes, y, routed[name], self, subtask)
        self.steps_.append((name, density))

    def _settle(self):
        """Find out how much of the density lies in the range of the transformers."""
        steps = self._flat_steps()[:-1]
        for step in steps:
            if isinstance(step, _principal.CLASSES):
                _principal.warn_without_noise(step)
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
                    f"Only {mass:.2g} of the mass of the last step, {self[-1]!r}, lies "
                    "in the range of the transformers before it."
                )
        self._mass = mass

    # -- the four answers --------------------------------------------------------

    def _log_density(self, X):
        *steps, last = self._flat_steps()
        if self._scaled_rounding:
            raise ValueError(
                f"{self._scaled_rounding} yields components without any variance but "
                "that of rounding, and they are divided by it: no density can be "
                "scored. Ask for fewer components."
            )
        answer = np.zeros(X.shape[0])
        for step in steps:
            change = change_of(step)
            if change.log_det is None:
                raise InvalidParameterError(
                    f"The log-determinant of the Jacobian of {step!r} is not known, so "
                    f"{type(self).__name__} cannot score in the units of its input. "
                    "Say it with skgen.register_log_det."
                )
            with np.errstate(divide="ignore", invalid="ignore"):
                Y = self._transformed(step, X)
                answer += change.log_det(step, X, Y)
            # What a function is not defined for, such as log(-1), is never drawn.
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
        """Return draws run back through the transformers, without those outside."""
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
        """Return the share of draws that the transformers can be run back on."""
        rng = np.random.RandomState(0)
        drawn = found = 0
        while drawn < _MOST_DRAWS:
            found += self._draw_once(_DRAWS_AT_ONCE, rng).shape[0]
            drawn += _DRAWS_AT_ONCE
            # The variance of the logarithm of a share p of n is (1 - p) / (p n).
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

    # -- what the last step answers besides ----------------------------------------

    @available_if(_last_has("predict"))
    def predict(self, X):
        """Return what the last step predicts.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            For a mixture, the most probable component of each row.
        """
        return self._of_last("predict", X)

    @available_if(_last_has("predict_proba"))
    def predict_proba(self, X):
        """Return the probabilities that the last step predicts.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            For a mixture, the probability of each component given the row.
        """
        return self._of_last("predict_proba", X)

    def _of_last(self, method, X):
        check_is_fitted(self)
        X = validated_rows(self, X).astype(np.float64, copy=False)
        last = self._flat_steps()[-1]
        return getattr(last, method)(self._handed(last, self._codes(X)))

    def _codes(self, X):
        """Return what the transformers make of (n, d) rows."""
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
    """Return what a fitted transformer makes of rows, an array or a dataframe."""
    return change_of(step).forward(step, _spared(step, codes))


def _inverted(step, codes):
    """Return the rows that a transformer maps to codes, in a new array."""
    if not hasattr(step, "inverse_transform"):
        raise InvalidParameterError(
            f"Nothing can be mapped back through {step!r}, which has no "
            "'inverse_transform'."
        )
    return np.array(change_of(step).invert(step, codes), dtype=np.float64)


def _finite(step, codes):
    """Return what a transformer made of the rows of a fit, if these are numbers."""
    if codes.shape[0] and not np.isfinite(np.asarray(codes, dtype=np.float64)).all():
        raise ValueError(
            f"{step!r}, fitted to n_samples={codes.shape[0]}, returns values that are "
            "NaN or infinite."
        )
    return codes


def _spared(step, codes):
    """Return rows that a step may overwrite, where it is told to."""
    return deepcopy(codes) if getattr(step, "copy", True) is False else codes
