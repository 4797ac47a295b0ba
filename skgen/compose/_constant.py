"""Scaling of constant features, so that their floor is the same as without a scaler.

scikit-learn's scalers divide a constant feature by 1. The density then floors its
variance at a fraction of the largest variance of the scaled features, which is not the
floor in the units of the data: a scaler would gain or lose nats for every constant
feature. Constant features are therefore divided by the scale that makes both floors
equal.
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
    """Return (n, d) rows and the mask (d,) of constant features.

    Features that vary by no more than the rounding error `resolution` (d,) are made
    constant.
    """
    constant = X.std(axis=0) <= resolution
    if (X[:, constant] != X[0, constant]).any():
        X = X.copy()
        X[:, constant] = X[0, constant]
    return X, constant


def scale_constants(step, X, constant):
    """Change the scale of `constant` (d,) features of a fitted scaler in place.

    `X` (n, d) are the rows that the scaler was fitted to.
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
