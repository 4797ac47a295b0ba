"""Fitting an estimator within the fit of another, under its callbacks."""

from contextlib import nullcontext

import numpy as np


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
