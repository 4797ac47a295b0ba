r"""Principal components: a density of the codes, and normal noise across them.

With fewer components than features, the rows are :math:`x = \mu + V^\top y +
\epsilon`, with normal noise of the variance `noise_variance_` in the complement of
the rows of `V`, as in probabilistic PCA (Tipping and Bishop, 1999).
"""

import math
import warnings

import numpy as np
from sklearn.decomposition import PCA, IncrementalPCA
from sklearn.exceptions import DataDimensionalityWarning

from skgen._frames import frame_kind, framed
from skgen._whitening import DEGENERATE_VARIANCE, ROUNDING_STEPS, ROUNDING_VARIANCE

CLASSES = PCA, IncrementalPCA


def log_det(step, X, Y):
    r"""Return log |det J|, plus the log-density of what the components leave over.

    .. math:: -\tfrac12 \sum_i \log s_i^2 - \tfrac{d - k}{2} \log(2 \pi \sigma^2)
              - \frac{|r|^2}{2 \sigma^2}, \qquad r = x - \mu - V^\top (s y)

    with the scales `s` of whitening, 1 without it.
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
    """Return the codes; components without variance are not scaled up."""
    codes = step.transform(X)
    if not (step.whiten and negligible(step).any()):
        return codes
    flat = negligible(step)
    values = np.array(codes, dtype=np.float64)
    V = step.components_[flat]
    values[:, flat] = (np.asarray(X) - step.mean_) @ V.T / whitening_scales(step)[flat]
    return framed(values, getattr(codes, "columns", None), frame_kind(codes))


def invert(step, Y):
    """Return the means of the rows that have these codes."""
    return step.mean_ + (Y * whitening_scales(step)) @ step.components_


def noise(step, n, rng):
    """Return (n, d) draws of the noise in the complement of the components."""
    V = step.components_  # (k, d)
    draws = rng.standard_normal((n, V.shape[1]))
    draws -= (draws @ V.T) @ V
    return math.sqrt(noise_variance(step)) * draws


def rounding(step, resolution):
    """Return how far the codes are rounded, and which are nothing else, (k,) each.

    `resolution` says how far each feature is rounded, (d,).
    """
    V = np.abs(step.components_)
    of_codes = V @ np.broadcast_to(resolution, V.shape[1])  # (k,)
    alone = negligible(step) | (step.explained_variance_ <= of_codes**2)
    return of_codes / whitening_scales(step), alone


def negligible(step):
    """Tell which components have no variance but that of rounding, (k,)."""
    variances = step.explained_variance_  # (k,)
    eps = np.finfo(variances.dtype).eps
    return variances <= ROUNDING_STEPS * eps * variances.max()


def whitening_scales(step):
    """Return what the codes are divided by, (k,).

    A component without variance has none to divide by, and takes the largest scale:
    the density of what is constant there then is as wide as the shared floor.
    """
    if not step.whiten:
        return np.ones(step.components_.shape[0])
    scales = np.sqrt(step.explained_variance_)
    return np.where(negligible(step), scales.max() or 1.0, scales)


def noise_variance(step):
    """Return the variance of the noise; where there is none, the shared floor."""
    reference = _largest_feature_variance(step)
    if step.noise_variance_ > ROUNDING_VARIANCE * reference:
        return float(step.noise_variance_)
    return DEGENERATE_VARIANCE * (reference or 1.0)


def _largest_feature_variance(step):
    """Return the largest variance of a feature, as the components tell it."""
    V = step.components_
    variances = step.explained_variance_ @ V**2  # (d,)
    left = 1 - np.einsum("ij,ij->j", V, V)  # the share of the complement, (d,)
    return float((variances + step.noise_variance_ * left.clip(min=0)).max())


def warn_without_noise(step):
    """Warn where the floor takes the place of a noise variance."""
    k, d = step.components_.shape
    if k < d and noise_variance(step) != step.noise_variance_:
        warnings.warn(
            f"{type(step).__name__} with {k} components leaves no variance to the "
            f"other {d - k} of {d} dimensions, for the rows are too few or "
            "collinear. Across each the model is a normal density with "
            f"{DEGENERATE_VARIANCE:g} of the largest variance of a feature.",
            DataDimensionalityWarning,
            stacklevel=2,
        )
