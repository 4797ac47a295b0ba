"""Base class of estimators that hold densities."""

from abc import ABC, abstractmethod
from contextlib import nullcontext

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler, MinMaxScaler
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from skgen._checks import (
    Described,
    answers_with_nan,
    column_names,
    has_methods,
    invalid_argument,
    invalid_parameter,
    row_counts,
    validated_rows,
    validated_weight,
)
from skgen._dequantize import TIES, warn_about_ties
from skgen._interop import frame_kind, framed, log_density_of
from skgen._persistence import Persistent
from skgen._torch import undisturbed
from skgen._warnings import quiet
from skgen.base import DocumentationLinkMixin, restored_on_error


def fit_within(estimator, X, y, params, caller, subtask):
    """Fit an estimator in place, as a sub-task of the fit of `caller`; return it."""
    takes_callbacks = hasattr(estimator, "set_callbacks")
    within = (
        subtask.propagate_callback_context(estimator)
        if takes_callbacks
        else nullcontext()
    )
    # PCA divides by the total variance, which is 0 for constant data.
    with within, np.errstate(invalid="ignore"):
        subtask.call_on_fit_task_begin(estimator=caller, X=X, y=y)
        if not isinstance(estimator, FrozenEstimator):
            arguments = (X,) if y is None else (X, y)
            estimator.fit(*arguments, **params)
        subtask.call_on_fit_task_end(estimator=caller, X=X, y=y)
    return estimator


def innermost(step):
    """Return the last step of a scikit-learn pipeline, else the step itself."""
    while isinstance(step, Pipeline):
        step = step.steps[-1][1]
    return step


# Transformers that ignore how often a row occurs.
_WITHOUT_COUNTS = FrozenEstimator, FunctionTransformer, MaxAbsScaler, MinMaxScaler


def refusing_weights(estimator):
    """Return the part of an estimator that takes no sample weights, or None."""
    if isinstance(estimator, (str, *_WITHOUT_COUNTS)) or estimator is None:
        return None
    if not hasattr(estimator, "steps"):
        takes = has_fit_parameter(estimator, "sample_weight")
        return None if takes else estimator
    found = (refusing_weights(step) for _, step in estimator.steps)
    return next((part for part in found if part is not None), None)


def weights_of(estimator, sample_weight):
    """Return the arguments of `fit` that give each part of an estimator its weights."""
    if isinstance(estimator, Pipeline):
        return {
            f"{name}__{argument}": value
            for name, step in estimator.steps
            for argument, value in weights_of(step, sample_weight).items()
        }
    takes = hasattr(estimator, "steps") or (
        hasattr(estimator, "fit") and has_fit_parameter(estimator, "sample_weight")
    )
    return {"sample_weight": sample_weight} if takes else {}


def is_continuous(density):
    """Return whether tied data make the likelihood of a density unbounded."""
    return getattr(innermost(density), "_is_continuous", True)


def allows_nan(estimator):
    """Return whether an estimator takes NaN as a value that was not observed."""
    if isinstance(estimator, type) or not hasattr(estimator, "__sklearn_tags__"):
        return False
    return bool(get_tags(estimator).input_tags.allow_nan)


def without_tie_warnings():
    """Silence warnings of densities about ties in data that were checked before."""
    return quiet(UndefinedMetricWarning, TIES)


class DensityWrapper(
    DocumentationLinkMixin, Persistent, CallbackSupportMixin, BaseEstimator, ABC
):
    """An estimator that fits clones of the density in its parameter `estimator`.

    Subclasses implement ``_check_parameters`` and ``_fit``, and set ``_methods``, the
    names of the methods that the density must have.
    """

    @undisturbed()
    def _learn(self, X, *more):
        """Fit unchecked rows (n, d); on an error, restore the previous fit."""
        with restored_on_error(self):
            return self._learn_with_callbacks(X, *more)

    @with_callbacks
    def _learn_with_callbacks(self, X, *more):
        self._check_density()
        self._check_parameters()
        self._frame_kind = frame_kind(X)
        rows = self._rows_to_fit(X)
        with without_tie_warnings():
            self._fit(rows, *more)
        return self

    def _rows_to_fit(self, X):
        """Return checked rows (n, d) to fit, and warn about ties."""
        rows = validated_rows(self, X, reset=True, incomplete=self._answers_incomplete)
        if is_continuous(self._density):
            warn_about_ties(rows, column_names(self))
        return rows

    # Density to clone: the parameter `estimator`, or its default.
    @property
    def _density(self):
        return self.estimator

    # Whether NaN is a value that was not observed, as for the density.
    @property
    def _answers_incomplete(self):
        return allows_nan(self._density)

    @abstractmethod
    def _check_parameters(self):
        """Raise for a constructor parameter of the wrong type or value."""

    @abstractmethod
    def _fit(self, X, *more):
        """Set the fitted attributes from (n, d) rows and further arguments of `fit`."""

    def _check_density(self):
        """Raise unless the parameter `estimator` is a density."""
        density = self._density
        # scikit-learn's pipelines score in the units of the last step.
        if isinstance(density, Pipeline) or not has_methods(density, *self._methods):
            listed = " and ".join(repr(method) for method in self._methods)
            rule = f"a density, with {listed}"
            if isinstance(density, Pipeline):
                rule += "; a pipeline must be a GenerativePipeline"
            raise invalid_parameter(self, "estimator", rule, density)

    def _weights(self, sample_weight, n_samples):
        """Return checked weights (n,), or None if the density is to get none."""
        if sample_weight is None:
            return None
        refusing = refusing_weights(self._density)
        if refusing is not None:
            rule = f"None, because {type(refusing).__name__} takes no weights"
            got = Described("weights")
            raise invalid_argument(self, "fit", "sample_weight", rule, got)
        # Rescaled here, the weights are of one kind in all classes.
        return row_counts(validated_weight(self, sample_weight, n_samples))

    def _fit_density(self, X, sample_weight, task, name):
        """Return a clone of the density, fitted to (n, d) rows as the sub-task `name`.

        `sample_weight` (n,) can be None.
        """
        subtask = task.subcontext(task_name=name)
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        density = clone(self._density)
        return fit_within(density, self._handed(X), None, weights, self, subtask)

    def _scored(self, density, X):
        """Return the float64 log-densities (n,) of validated (n, d) rows."""
        if self._answers_incomplete:
            return log_density_of(density, X, self._handed)
        # Densities differ in what they make of NaN.
        return answers_with_nan(
            lambda rows: log_density_of(density, rows, self._handed), X
        )

    def _handed(self, X):
        """Return validated (n, d) rows as a dataframe if `fit` saw a dataframe."""
        return framed(X, getattr(self, "feature_names_in_", None), self._frame_kind)

    def _rows(self, X, method):
        """Return validated rows (n, d) for a method of the fitted estimator."""
        check_is_fitted(self)
        incomplete = self._answers_incomplete
        options = {"missing": True, "incomplete": incomplete}
        return validated_rows(self, X, method=method, **options)

    def _undoing(self):
        return lambda: None

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self._answers_incomplete
        return tags
