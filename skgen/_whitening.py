r"""Coordinates in which the data have unit variance, and the one shared floor.

Every model finds its latents and covariances in whitened coordinates :math:`z`,

.. math:: x = \mu + z A^\top, \qquad A A^\top = S,

so that the scale of the data does not matter. `S` is the covariance of the data,
its diagonal, or its mean variance times the identity, as the model's own
`covariance_type` has it: whitening never changes the family of the model.

A constant feature, or one that other features determine, has no variance to
scale by. Every model then takes the same normal density across that direction,
with the variance ``DEGENERATE_VARIANCE``, so that models stay comparable: the
floor adds the same constant to the score of each.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import DataDimensionalityWarning

from skgen._spread import spread_of
from skgen._ties import list_columns

# The variance given to a direction without any, as a fraction of the variance of
# the feature: for a constant feature, of the largest variance among the features.
DEGENERATE_VARIANCE = 1e-6

# Below this share of a feature's variance a direction is taken for rounding.
ROUNDING_VARIANCE = 1e-12

# A feature whose standard deviation is not this many rounding steps is constant.
ROUNDING_STEPS = 8


@dataclass(frozen=True)
class DiagonalWhitening:
    """Shift and scale each feature: ``x = mean + z * scale``."""

    mean: np.ndarray  # (d,)
    scale: np.ndarray  # (d,)
    degenerate: np.ndarray  # (d,) bool

    def whiten(self, X):
        return (X - self.mean) / self.scale

    def unwhiten(self, Z):
        return self.mean + Z * self.scale

    @property
    def log_det(self):
        """Return ``log |det dz/dx|``."""
        return -np.log(self.scale).sum()

    @property
    def covariance(self):
        return self.scale**2

    def rescaled(self, factor):
        """Return the coordinates in which `factor` of a unit is one unit.

        A degenerate direction keeps its floor, the same for every model.
        """
        scale = np.where(self.degenerate, self.scale, factor * self.scale)
        return DiagonalWhitening(self.mean, scale, self.degenerate)


@dataclass(frozen=True)
class FullWhitening:
    """Map linearly: ``x = mean + z @ factor.T``."""

    mean: np.ndarray  # (d,)
    factor: np.ndarray  # (d, d)
    inverse: np.ndarray  # (d, d)
    degenerate: np.ndarray  # (d,) bool, of the whitened coordinates

    def whiten(self, X):
        return (X - self.mean) @ self.inverse.T

    def unwhiten(self, Z):
        return self.mean + Z @ self.factor.T

    @property
    def log_det(self):
        """Return ``log |det dz/dx|``."""
        return np.linalg.slogdet(self.inverse)[1]

    @property
    def covariance(self):
        return self.factor @ self.factor.T

    def rescaled(self, factor):
        """Return the coordinates in which `factor` of a unit is one unit.

        A degenerate direction keeps its floor, the same for every model.
        """
        factors = np.where(self.degenerate, 1.0, factor)  # (d,)
        return FullWhitening(
            self.mean,
            self.factor * factors,
            self.inverse / factors[:, None],
            self.degenerate,
        )


def rounding_resolution(largest, dtype=np.float64):
    """Return what rounding leaves of the standard deviation of constants, (d,).

    `largest` (d,) is the largest magnitude of each feature.
    """
    return ROUNDING_STEPS * np.finfo(dtype).eps * largest


def estimate_whitening(
    X, sample_weight, covariance_type, *, ddof=0, dtype=np.float64, names=None
):
    """Find the coordinates in which the rows have unit variance.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        The rows.
    sample_weight : ndarray of shape (n_samples,)
        How many times each row counts.
    covariance_type : {"full", "diag", "spherical"}
        The whole covariance, a variance per feature, or their mean.
    ddof : int, default=0
        Subtracted from the sum of the weights where variances divide by it.
    dtype : numpy dtype, default=float64
        What the rows were stored in, which says how far they are rounded.
    names : list of str, default=None
        What a warning calls the features; None says their numbers.

    Returns
    -------
    DiagonalWhitening or FullWhitening
    """
    spread = spread_of(X, sample_weight, full=covariance_type == "full")
    return whitening_of(spread, covariance_type, ddof=ddof, dtype=dtype, names=names)


def whitening_of(spread, covariance_type, *, ddof=0, dtype=np.float64, names=None):
    """Find the coordinates in which rows of a given spread have unit variance.

    Parameters
    ----------
    spread : Spread
        The moments of all rows.
    covariance_type, ddof, dtype, names
        As in `estimate_whitening`.

    Returns
    -------
    DiagonalWhitening or FullWhitening
    """
    mean, variances = spread.mean, spread.variances
    resolution = rounding_resolution(spread.largest, dtype)
    constant = variances <= resolution**2
    variances = np.where(constant, 0.0, variances)
    unbiased = spread.weight / (spread.weight - ddof)
    if covariance_type == "spherical":
        scale = _spherical_scale(variances) * np.sqrt(unbiased)
        never = np.zeros(mean.size, dtype=bool)
        return DiagonalWhitening(mean, np.full(mean.size, scale), never)

    # The floor is the same for every model: it takes no notice of `ddof`.
    reference = variances.max() or 1.0
    if covariance_type == "diag":
        _warn_if_degenerate(constant, 0, names)
        floored = np.where(
            constant, DEGENERATE_VARIANCE * reference, variances * unbiased
        )
        return DiagonalWhitening(mean, np.sqrt(floored), constant)

    scale = np.sqrt(np.where(constant, reference, variances))
    correlation = spread.correlation(np.where(constant, np.inf, scale))
    noise = (resolution / scale) ** 2  # (d,)
    return _full_whitening(mean, scale, correlation, noise, unbiased, constant, names)


def _spherical_scale(variances):
    """Return the root of the mean variance; 1 where there is none at all."""
    if variances.max() > 0:
        return np.sqrt(variances.mean())
    warnings.warn(
        "Every feature is constant, so the data have no scale: a standard deviation "
        "of 1 is used.",
        DataDimensionalityWarning,
        stacklevel=2,
    )
    return 1.0


def _full_whitening(mean, scale, correlation, noise, unbiased, constant, names):
    """Whiten by the eigenvectors of the correlation, floored where it has no rank."""
    values, vectors = np.linalg.eigh(correlation)  # (d,), (d, d)
    threshold = np.maximum(ROUNDING_VARIANCE, noise @ vectors**2)  # (d,)
    degenerate = values <= np.minimum(threshold, DEGENERATE_VARIANCE)
    n_collinear = int(degenerate.sum() - constant.sum())
    _warn_if_degenerate(constant, n_collinear, names)
    roots = np.sqrt(np.where(degenerate, DEGENERATE_VARIANCE, values * unbiased))
    factor = scale[:, None] * vectors * roots  # (d, d)
    inverse = (vectors / roots).T / scale  # (d, d)
    return FullWhitening(mean, factor, inverse, degenerate)


def _warn_if_degenerate(constant, n_collinear, names):
    """Warn about constant features and directions without variance."""
    if constant.any():
        columns = list_columns(np.flatnonzero(constant), names)
        warnings.warn(
            f"Constant features have no density to estimate: {columns}. Across each, "
            f"the model is a normal density with {DEGENERATE_VARIANCE:g} of the "
            "largest variance. Leave them out to score the others alone.",
            DataDimensionalityWarning,
            stacklevel=2,
        )
    if n_collinear > 0:
        warnings.warn(
            "The rows span fewer dimensions than there are features that vary, by "
            f"{n_collinear}: some are duplicated or collinear, or the rows are too "
            "few. Across each missing dimension the model is a normal density with "
            f"{DEGENERATE_VARIANCE:g} of the variance of a feature.",
            DataDimensionalityWarning,
            stacklevel=2,
        )
