"""Constant features behind a scaler: the same floor as without one.

A constant feature has no scale to divide by, and scikit-learn's scalers divide it by 1.
A density takes a share of the largest variance for its floor, which is then a share of
other units than without the scaler: by the choice of units a scaler would gain or lose
nats for every constant feature. So these are divided by what makes the floors equal.
"""

import numpy as np
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    RobustScaler,
    StandardScaler,
)

_DIVIDE = StandardScaler, RobustScaler, MaxAbsScaler


def without_jitter(X, resolution):
    """Return rows in which features that vary by rounding alone are constant.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        The rows; they are copied where they change.
    resolution : ndarray of shape (n_features,)
        How far each feature is rounded.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
    constant : ndarray of bool of shape (n_features,)
    """
    constant = X.std(axis=0) <= resolution
    if (X[:, constant] != X[0, constant]).any():
        X = X.copy()
        X[:, constant] = X[0, constant]
    return X, constant


def scale_constants(step, X, constant):
    """Let a fitted scaler divide constant features by what makes the floors equal.

    Parameters
    ----------
    step : estimator
        Changed in place, if it is one of scikit-learn's scalers.
    X : ndarray of shape (n_samples, n_features)
        The rows that it was fitted to.
    constant : ndarray of bool of shape (n_features,)
        Which features are constant.
    """
    if not constant.any() or constant.all() or getattr(step, "scale_", None) is None:
        return
    largest = X.var(axis=0).max()
    if isinstance(step, _DIVIDE):
        scaled = (X.var(axis=0) / step.scale_**2)[~constant].max()
        step.scale_[constant] = np.sqrt(largest / scaled)
    elif isinstance(step, MinMaxScaler):
        scaled = (X.var(axis=0) * step.scale_**2)[~constant].max()
        step.scale_[constant] = np.sqrt(scaled / largest)
        step.min_[constant] = (step.feature_range[0] - step.data_min_ * step.scale_)[
            constant
        ]
