"""Pipelines that end in a density, and answer in the units of their input."""

import math

import numpy as np
from sklearn import get_config
from sklearn.base import clone
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils import Bunch
from sklearn.utils.metadata_routing import process_routing
from sklearn.utils.metaestimators import _BaseComposition, available_if
from sklearn.utils.validation import (
    _check_feature_names_in,
    check_is_fitted,
    check_memory,
)

from skgen._drawing import draw
from skgen._frames import frame_kind, framed
from skgen._parameters import InvalidParameterError, invalid_parameter
from skgen._validation import validated_rows
from skgen._whitening import rounding_resolution
from skgen.base import GenerativeModel
from skgen.compose import _principal
from skgen.compose._constants import scale_constants, without_jitter
from skgen.compose._fitting import fit_within, innermost, is_continuous, ties_told_of
from skgen.compose._log_det import change_of
from skgen.compose._range import inside, mass_inside
from skgen.compose._rounding import RoundingTrace

# Draws that say how much of a density lies in a range where no formula does.
_DRAWS, _DRAWS_AT_ONCE = 2**16, 2**13


def _last_has(method):
    """Return a check whether the last step has a method."""

    def check(pipeline):
        getattr(pipeline[-1], method)  # raises an AttributeError that says who has not
        return True

    return check


class GenerativePipeline(GenerativeModel, _BaseComposition):
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
    and mixtures right after it, else by the share of 65,536 draws. Rows outside the
    quantiles or the clipped range have a log-density of minus infinity.

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
            if not (_passes(step) or _has(step, "fit", "transform")):
                raise InvalidParameterError(
                    f"The step {name!r} {what} a transformer, with 'fit' and "
                    f"'transform', or 'passthrough'. Got {step!r} instead."
                )
        last = innermost(self.steps[-1][1])
        if not _has(last, "fit", "score_samples", "sample"):
            raise InvalidParameterError(
                f"The last step {what} a density, with 'fit', 'score_samples' and "
                f"'sample'. Got {last!r} instead."
            )

    def _fit(self, X, sample_weight, rng, task, *, y, params, kind):
        self._frame_kind = kind
        routed = self._routed(params)
        cached = check_memory(self.memory).cache(
            fit_within, ignore=["caller", "subtask"]
        )
        resolution = rounding_resolution(X, self._fit_dtype)
        X, constant = without_jitter(X, resolution)
        codes = framed(X, getattr(self, "feature_names_in_", None), kind)
        trace = RoundingTrace(resolution)
        self.steps_ = []
        for name, step in self.steps[:-1]:
            subtask = task.subcontext(task_name=f"fit {name}")
            if not _passes(step):
                step = cached(
                    clone(step), _spared(step, codes), y, routed[name], self, subtask
                )
                for part in _flat([step]):
                    if constant is not None:  # the first of all transformers
                        scale_constants(part, X, constant)
                        constant = None
                    trace.follow(part)
                    codes = _finite(part, _transformed(part, codes))
            self.steps_.append((name, step))
        self._fit_last(trace.constant(codes), y, task, routed)
        for part in list(_flat([self.steps_[-1][1]]))[:-1]:
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

    def _routed(self, params):
        """Return what each step's `fit` is given: a dict of dicts."""
        if get_config()["enable_metadata_routing"]:
            routed = process_routing(self, "fit", **params)
            # A pipeline asks transformers for both at once.
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
            Y = self._transformed(step, X)
            answer += change.log_det(step, X, Y)
            X = Y
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
            if not hasattr(step, "inverse_transform"):
                raise InvalidParameterError(
                    f"Draws cannot be mapped back through {step!r}, which has no "
                    "'inverse_transform'."
                )
            X = np.asarray(change.invert(step, X, rng), dtype=np.float64)
        return X

    def _share_of_draws_inside(self):
        """Return the share of draws that the transformers can be run back on."""
        rng = np.random.RandomState(0)
        parts = [
            self._draw_once(_DRAWS_AT_ONCE, rng).shape[0]
            for _ in range(_DRAWS // _DRAWS_AT_ONCE)
        ]
        if not any(parts):
            raise ValueError(
                "No draw of the last step lies in the range of the transformers."
            )
        return sum(parts) / _DRAWS

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
            X = np.asarray(step.inverse_transform(X), dtype=np.float64)
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

    # -- the steps -----------------------------------------------------------------

    @property
    def _served(self):
        """Return the fitted steps, and those to fit before there are any."""
        return self.__dict__.get("steps_", self.steps)

    @property
    def named_steps(self):
        """The steps by their names, the fitted ones once there are any."""
        return Bunch(**dict(self._served))

    def __len__(self):
        return len(self.steps)

    def __getitem__(self, index):
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
        part = GenerativePipeline(self.steps[index], memory=self.memory)
        if "steps_" in self.__dict__:
            first = steps[0][1]
            part.steps_ = steps
            part.n_features_in_ = getattr(first, "n_features_in_", self.n_features_in_)
            if hasattr(first, "feature_names_in_"):
                part.feature_names_in_ = first.feature_names_in_
            for name in ("_fit_dtype", "_frame_kind", "_scaled_rounding"):
                setattr(part, name, getattr(self, name))
            part._settle()
        return part

    def _flat_steps(self):
        """Return the fitted steps, those of pipelines within one by one."""
        return list(_flat(step for _, step in self.steps_))

    def _codes(self, X):
        """Return what the transformers make of (n, d) rows."""
        for step in self._flat_steps()[:-1]:
            X = self._transformed(step, X)
        return X

    def _transformed(self, step, X):
        X = _spared(step, X)
        return np.asarray(_transformed(step, self._handed(step, X)), dtype=np.float64)

    def _handed(self, step, X):
        """Return rows as a step saw them when it was fitted: with names or without."""
        names = getattr(step, "feature_names_in_", None)
        return framed(X, names, self._frame_kind)

    # -- scikit-learn --------------------------------------------------------------

    @property
    def random_state(self):
        """The `random_state` of the last step, which seeds `sample`."""
        return getattr(innermost(self._served[-1][1]), "random_state", None)

    def get_params(self, deep=True):
        """Return the parameters, and those of the steps.

        Parameters
        ----------
        deep : bool, default=True
            Whether to return those of the steps as well, as ``name__parameter``.

        Returns
        -------
        dict
            The names of the parameters and their values.
        """
        return self._get_params("steps", deep=deep)

    def set_params(self, **params):
        """Set parameters: steps by their names, and theirs by ``name__parameter``.

        Parameters
        ----------
        **params : dict
            The names of the parameters and their values.

        Returns
        -------
        self : object
            The pipeline, to be fitted again.
        """
        self._set_params("steps", **params)
        return self

    def set_output(self, *, transform=None):
        """Say what `transform` returns, here and in every step.

        Parameters
        ----------
        transform : {"default", "pandas", "polars"}, default=None
            The container; None changes nothing.

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

    def get_feature_names_out(self, input_features=None):
        """Return the names of the latents of the last step.

        Parameters
        ----------
        input_features : array-like of str, default=None
            The names of the features; None takes those seen in `fit`.

        Returns
        -------
        ndarray of str
            A name for each column that `transform` returns.
        """
        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features)
        for step in self._flat_steps():
            names = step.get_feature_names_out(names)
        return names

    def get_metadata_routing(self):
        """Return how metadata are routed to the steps.

        Returns
        -------
        sklearn.utils.metadata_routing.MetadataRouter
            As of a scikit-learn pipeline of the same steps.
        """
        return Pipeline(self.steps).get_metadata_routing()

    def _sk_visual_block_(self):
        return Pipeline(self._served)._sk_visual_block_()

    # Whether the density that is fitted last is one of continuous rows.
    @property
    def _is_continuous(self):
        return is_continuous(self.steps[-1][1])

    @property
    def _n_fit_tasks(self):
        return len(self.steps)

    @property
    def _n_latent(self):
        return len(self.get_feature_names_out())

    @property
    def _bytes_per_row(self):
        widths = [self.n_features_in_]
        widths += [
            getattr(step, "n_features_in_", 0) for step in self._flat_steps()[1:]
        ]
        return 8 * 4 * sum(widths)


def make_generative_pipeline(*steps, memory=None):
    """Return a `GenerativePipeline` whose steps are named after their classes.

    Parameters
    ----------
    *steps : estimators
        Transformers, then a density.
    memory : str or object with the joblib.Memory interface, default=None
        Where fitted transformers are cached; None caches nothing.

    Returns
    -------
    GenerativePipeline
        The steps' names are those of :func:`sklearn.pipeline.make_pipeline`.

    Raises
    ------
    ValueError
        If there are no steps.

    Notes
    -----
    See `GenerativePipeline` for how scores come to be in the units of the data.

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


def _flat(steps):
    """Yield steps, those of scikit-learn's pipelines among them one by one."""
    for step in steps:
        if isinstance(step, Pipeline):
            yield from _flat(inner for _, inner in step.steps)
        elif not _passes(step):
            yield step


def _passes(step):
    """Tell whether a step stands for no transformer."""
    return step is None or (isinstance(step, str) and step == "passthrough")


def _has(step, *methods):
    """Tell whether a step is an estimator that has these methods."""
    return not isinstance(step, type) and all(hasattr(step, name) for name in methods)


def _transformed(step, codes):
    """Return what a fitted transformer makes of rows, an array or a dataframe."""
    return change_of(step).forward(step, _spared(step, codes))


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
    in_place = getattr(step, "copy", True) is False
    return np.array(codes) if in_place and isinstance(codes, np.ndarray) else codes
