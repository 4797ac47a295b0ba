r"""Principal components as a change of variables, with noise in the other directions.

With fewer components than features, rows are :math:`x = \mu + V^\top y + \epsilon`.
The noise :math:`\epsilon` is normal with the variance `noise_variance_` in the
orthogonal complement of the rows of `V` (probabilistic PCA; Tipping and Bishop, 1999).
"""

import math

import numpy as np
from sklearn.decomposition import PCA, IncrementalPCA
from sklearn.exceptions import DataDimensionalityWarning

from skgen._interop import frame_kind, framed
from skgen._warnings import warn_user
from skgen._whitening import DEGENERATE_VARIANCE, ROUNDING_STEPS, ROUNDING_VARIANCE

CLASSES = PCA, IncrementalPCA


def log_det(step, X, Y):
    r"""Return log |det J| plus the log-density of the noise: (n,).

    .. math:: -\sum_i \log s_i - \tfrac{d - k}{2} \log(2 \pi \sigma^2)
              - \frac{|r|^2}{2 \sigma^2}, \qquad r = x - \mu - V^\top (s y)
    """
    V = step.components_  # (k, d)
    scales = whitening_scales(step)  # (k,)
    n_left = V.shape[1] - V.shape[0]
    answer = np.full(X.shape[0], -np.log(scales).sum())
    if n_left:
        residual = X - step.mean_ - (Y * scales) @ V  # (n, d)
        variance = noise_variance(step)
        answer -= 0.5 * n_left * math.log(2 * math.pi * variance)
        answer -= 0.5 * np.einsum("ij,ij->i", residual, residual) / variance
    return answer


def forward(step, X):
    """Return the components (n, k) of (n, d) rows, or a dataframe."""
    codes = step.transform(X)
    # scikit-learn divides components of rounding errors by their size.
    if not (step.whiten and negligible(step).any()):
        return codes
    flat = negligible(step)
    values = np.array(codes, dtype=np.float64)
    V = step.components_[flat]
    values[:, flat] = (np.asarray(X) - step.mean_) @ V.T / whitening_scales(step)[flat]
    return framed(values, getattr(codes, "columns", None), frame_kind(codes))


def invert(step, Y):
    """Return the mean rows (n, d) of components (n, k)."""
    return step.mean_ + (Y * whitening_scales(step)) @ step.components_


def noise(step, n, rng):
    """Return (n, d) samples of the noise in the complement of the components."""
    V = step.components_  # (k, d)
    draws = rng.standard_normal((n, V.shape[1]))
    draws -= (draws @ V.T) @ V
    return math.sqrt(noise_variance(step)) * draws


def rounding(step, resolution):
    """Return the rounding error of components, and which are only rounding, (k,) each.

    `resolution` (d,) is the rounding error of the features.
    """
    V = np.abs(step.components_)
    of_codes = V @ np.broadcast_to(resolution, V.shape[1])  # (k,)
    alone = negligible(step) | (step.explained_variance_ <= of_codes**2)
    return of_codes / whitening_scales(step), alone


def negligible(step):
    """Return which components have no variance except for rounding errors: (k,)."""
    variances = step.explained_variance_  # (k,)
    eps = np.finfo(variances.dtype).eps
    return variances <= ROUNDING_STEPS * eps * variances.max()


def whitening_scales(step):
    """Return the scales by which components are divided: (k,)."""
    # Components without variance are divided by the largest scale. The density of a
    # constant column is then as wide as the shared floor.
    if not step.whiten:
        return np.ones(step.components_.shape[0])
    scales = np.sqrt(step.explained_variance_)
    return np.where(negligible(step), scales.max() or 1.0, scales)


def noise_variance(step):
    """Return the variance of the noise, or the shared floor if it is 0."""
    reference = _largest_feature_variance(step)
    if step.noise_variance_ > ROUNDING_VARIANCE * reference:
        return float(step.noise_variance_)
    return DEGENERATE_VARIANCE * (reference or 1.0)


def _largest_feature_variance(step):
    """Return the largest variance of a feature, estimated from the components."""
    V = step.components_
    variances = step.explained_variance_ @ V**2  # (d,)
    left = 1 - np.einsum("ij,ij->j", V, V)  # fraction in the complement, (d,)
    return float((variances + step.noise_variance_ * left.clip(min=0)).max())


def warn_without_noise(step):
    """Warn if the floor replaces the variance of the noise."""
    k, d = step.components_.shape
    if k < d and noise_variance(step) != step.noise_variance_:
        warn_user(
            f"The components of {type(step).__name__} leave no variance to the other "
            "dimensions, because there are too few rows or features are collinear. "
            "Across each of these dimensions the model is a normal density with "
            f"{DEGENERATE_VARIANCE:g} of the largest variance of a feature.",
            DataDimensionalityWarning,
        )
