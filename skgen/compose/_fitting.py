"""Fitting an estimator within the fit of another, under its callbacks."""

import warnings
from contextlib import contextmanager, nullcontext

import numpy as np
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.pipeline import Pipeline

from skgen._dequantize import TIES


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
        arguments = (X,) if y is None else (X, y)
        estimator.fit(*arguments, **params)
        subtask.call_on_fit_task_end(estimator=caller, X=X, y=y)
    return estimator


def innermost(step):
    """Return the last step of a scikit-learn pipeline, else the step itself."""
    while isinstance(step, Pipeline):
        step = step.steps[-1][1]
    return step


def is_continuous(density):
    """Return whether tied data make the likelihood of a density unbounded."""
    return getattr(innermost(density), "_is_continuous", True)


@contextmanager
def ties_told_of():
    """Silence warnings of densities about ties in data that were checked before."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", TIES, UndefinedMetricWarning)
        yield
