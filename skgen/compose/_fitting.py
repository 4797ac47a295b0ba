"""Fitting an estimator within the fit of another, under its callbacks."""

import warnings
from contextlib import contextmanager, nullcontext

import numpy as np
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.pipeline import Pipeline

from skgen._ties import TIES


def fit_within(estimator, X, y, params, caller, subtask):
    """Return an estimator, fitted as a sub-task of its caller's fit.

    Parameters
    ----------
    estimator : estimator
        What to fit, in place.
    X : array-like of shape (n_samples, n_features)
        The rows.
    y : array-like of shape (n_samples,) or None
        The targets; None gives none.
    params : dict
        Further arguments of `fit`.
    caller : estimator
        Whose fit this is a part of.
    subtask : sklearn.callback.CallbackContext
        The context of this part.

    Returns
    -------
    estimator
    """
    takes_callbacks = hasattr(estimator, "set_callbacks")
    within = (
        subtask.propagate_callback_context(estimator)
        if takes_callbacks
        else nullcontext()
    )
    # A table of constants has no share of variance for PCA to explain.
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
    """Tell whether a density is one of rows that ties let grow without bound."""
    return getattr(innermost(density), "_is_continuous", True)


@contextmanager
def ties_told_of():
    """Silence what densities say about ties, where their holder has said it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", TIES, UndefinedMetricWarning)
        yield
