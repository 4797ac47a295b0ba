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


def invert(step, Y, rng):
    """Return rows of codes, with noise in the complement of the components."""
    X = step.inverse_transform(Y)
    V = step.components_
    if V.shape[0] < V.shape[1]:
        noise = rng.standard_normal(X.shape)  # (n, d)
        noise -= (noise @ V.T) @ V
        X = X + math.sqrt(noise_variance(step)) * noise
    return X


def rounding(step, resolution):
    """Return how far the codes are rounded, and which are nothing else, (k,) each.

    `resolution` says how far each feature is rounded, (d,).
    """
    variances = step.explained_variance_  # (k,)
    V = np.abs(step.components_)
    of_codes = V @ np.broadcast_to(resolution, V.shape[1])  # (k,)
    eps = np.finfo(variances.dtype).eps
    least = np.maximum(ROUNDING_STEPS * eps * variances.max(), of_codes**2)
    return of_codes / whitening_scales(step), variances <= least


def whitening_scales(step):
    """Return what the codes are divided by, (k,)."""
    if not step.whiten:
        return np.ones(step.components_.shape[0])
    scales = np.sqrt(step.explained_variance_)
    return np.maximum(scales, np.finfo(scales.dtype).eps)  # as in scikit-learn


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
