r"""Whitening, and the variance floor that all models share.

Every model estimates latents and covariances in whitened coordinates :math:`z`,

.. math:: x = \mu + z A^\top, \qquad A A^\top = S,

so that the scale of the data does not matter. `S` is the covariance of the data, its
diagonal, or its mean variance times the identity, depending on the `covariance_type`
of the model: whitening never changes the family of the model.

Constant and collinear features have directions without variance. Across such a
direction every model is the same normal density with the variance
``DEGENERATE_VARIANCE``. This floor adds the same constant to the score of every model,
so scores stay comparable.
"""

import math
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial

import numpy as np
from sklearn.exceptions import DataDimensionalityWarning

from skgen._columns import ROUNDING_STEPS, list_columns
from skgen._warnings import quiet, warn_user
from skgen.rows._moments import moments_of, projected_moments

# Variance of a direction without variance, as a fraction of the feature's variance. For
# a constant feature, it is a fraction of the largest variance of a feature.
DEGENERATE_VARIANCE = 1e-6

# Eigenvalues of a correlation above this fraction of the largest one are accurate.
_ACCURATE = 1e-8


@dataclass(frozen=True)
class DiagonalWhitening:
    """Shift and scale of each feature: ``x = mean + z * scale``."""

    mean: np.ndarray  # (d,)
    scale: np.ndarray  # (d,)
    degenerate: np.ndarray  # (d,) bool

    def whiten(self, X):
        return self.whitened_difference(X - self.mean)

    def whitened_difference(self, differences):
        """Return differences of rows (..., d) in whitened coordinates."""
        return differences / self.scale

    def unwhiten(self, Z):
        return self.mean + self.displacements(Z)

    def displacements(self, Z):
        return Z * self.scale

    @property
    def log_det(self):
        """Return ``log |det dz/dx|``."""
        return -np.log(self.scale).sum()

    @property
    def covariance(self):
        return self.scale**2

    def rescaled(self, factor):
        """Multiply the scale by `factor`, except in degenerate directions."""
        scale = np.where(self.degenerate, self.scale, factor * self.scale)
        return DiagonalWhitening(self.mean, scale, self.degenerate)


@dataclass(frozen=True)
class FullWhitening:
    """Affine map: ``x = mean + z @ factor.T``."""

    mean: np.ndarray  # (d,)
    factor: np.ndarray  # (d, d)
    inverse: np.ndarray  # (d, d)
    degenerate: np.ndarray  # (d,) bool, of the whitened coordinates

    def whiten(self, X):
        return self.whitened_difference(X - self.mean)

    def whitened_difference(self, differences):
        """Return differences of rows (..., d) in whitened coordinates."""
        return differences @ self.inverse.T

    def unwhiten(self, Z):
        return self.mean + self.displacements(Z)

    def displacements(self, Z):
        return Z @ self.factor.T

    @property
    def log_det(self):
        """Return ``log |det dz/dx|``."""
        return np.linalg.slogdet(self.inverse)[1]

    @property
    def covariance(self):
        return self.factor @ self.factor.T

    def rescaled(self, factor):
        """Multiply the scale by `factor`, except in degenerate directions."""
        factors = np.where(self.degenerate, 1.0, factor)  # (d,)
        return FullWhitening(
            self.mean,
            self.factor * factors,
            self.inverse / factors[:, None],
            self.degenerate,
        )


def lower_triangular(roots):
    """Return lower triangular `L` with ``L L^T = root root^T`` of roots (..., f, d)."""
    # By QR, because the product would square the condition number.
    upper = np.linalg.qr(np.swapaxes(roots, -1, -2), mode="r")
    diagonal = np.diagonal(upper, axis1=-2, axis2=-1)
    signs = np.where(diagonal < 0, -1.0, 1.0)
    return np.swapaxes(upper * signs[..., None], -1, -2)


def loss_offset(whitening, observed=None):
    """Return nats in the units of the data minus a loss in coordinates that vary.

    `observed` (d,) are the fractions of observed values, None for complete rows.
    """
    if observed is None:
        n_missing = np.count_nonzero(whitening.degenerate)
        return 0.5 * n_missing * np.log(2 * np.pi) - whitening.log_det
    constant = 0.5 * np.log(2 * np.pi) * whitening.degenerate  # (d,)
    return observed @ (constant + np.log(whitening.scale))


# Rounding errors (d,) of rows that transformers computed, see `known_errors`.
_ERRORS: ContextVar = ContextVar("errors", default=None)


@contextmanager
def known_errors(errors):
    """Whiten rows in the body as rows with the rounding errors (d,)."""
    token = _ERRORS.set(errors)
    try:
        yield
    finally:
        _ERRORS.reset(token)


def rounding_resolution(moments, dtype=np.float64):
    """Return the standard deviations (d,) up to which features are constant."""
    errors = _ERRORS.get()
    resolution = ROUNDING_STEPS * np.finfo(dtype).eps * moments.magnitudes
    if errors is None or errors.shape != resolution.shape:
        return resolution
    return np.maximum(resolution, errors)


def constant_features(moments, dtype):
    """Return which features are constant up to rounding errors: (d,)."""
    resolution = rounding_resolution(moments, dtype)
    return are_constant(np.sqrt(moments.variances), resolution)


def are_constant(deviations, resolution):
    """Return which features with these standard deviations are constant: (d,).

    They vary by rounding errors alone, `resolution` (d,), which the floor covers: in
    single precision, the error of a time in seconds since 1970 is a minute.
    """
    constant = deviations <= resolution
    reference = deviations[~constant].max(initial=0.0) or 1.0
    return constant & (deviations <= math.sqrt(DEGENERATE_VARIANCE) * reference)


def estimate_whitening(X, sample_weight, covariance_type, **options):
    """Return the whitening of (n, d) rows with (n,) weights.

    `covariance_type` is "full", "diag" or "spherical"; options are of `whitening_of`.
    """
    moments = moments_of(X, sample_weight, full=covariance_type == "full")
    projected = partial(projected_moments, X, sample_weight)
    return whitening_of(moments, covariance_type, projected=projected, **options)


def full_and_scaled(moments, projected, **options):
    """Return the "full" and the "diag" `whitening_of` rows, which warn once."""
    full = whitening_of(moments, "full", projected=projected, **options)
    with quiet():
        return full, whitening_of(moments, "diag", **options)


def whitening_of(
    moments,
    covariance_type,
    *,
    ddof=0,
    dtype=np.float64,
    names=None,
    blocks=(),
    projected=None,
):
    """Return the whitening of rows with given moments, as `estimate_whitening` does.

    `dtype` is the precision to which the rows are rounded. With `blocks`, groups of all
    features, "full" whitens each group alone. For nearly collinear features, "full"
    needs `projected`, the other arguments of `projected_moments` for all rows.
    """
    mean, variances = moments.mean, moments.variances
    resolution = rounding_resolution(moments, dtype)
    constant = constant_features(moments, dtype)
    variances = np.where(constant, 0.0, variances)
    unbiased = moments.weight / (moments.weight - ddof)
    if covariance_type == "spherical":
        scale = _spherical_scale(variances) * np.sqrt(unbiased)
        never = np.zeros(mean.size, dtype=bool)
        return DiagonalWhitening(mean, np.full(mean.size, scale), never)

    # The floor is the same for every model: it does not depend on `ddof`.
    reference = variances.max() or 1.0
    _warn_if_constant(constant, names)
    if covariance_type == "diag":
        floored = np.where(
            constant, DEGENERATE_VARIANCE * reference, variances * unbiased
        )
        return DiagonalWhitening(mean, np.sqrt(floored), constant)

    scale = np.sqrt(np.where(constant, reference, variances))
    divisors = np.where(constant, np.inf, scale)
    blocks = [list(block) for block in blocks or [range(mean.size)]]
    values, functionals = _eigen_by_block(moments.correlation(divisors), blocks)
    vectors, noise = functionals.T, (resolution / scale) ** 2  # (d, d), (d,)
    least = (ROUNDING_STEPS * np.finfo(np.float64).eps) ** 2 * mean.size
    if (values < _ACCURATE).any():

        def covariance_of(functionals):
            """Return the covariance (m, m) of functionals (m, d) of the scaled rows."""
            found = projected(mean=mean, matrix=functionals / divisors)
            return found.correlation(np.ones(len(functionals)))

        eigen = values, functionals, np.maximum(least, noise)
        values, functionals = _refined(*eigen, blocks, covariance_of)
        vectors = np.linalg.inv(functionals)
    threshold = np.maximum(least, functionals**2 @ noise)  # (d,)
    degenerate = values <= np.minimum(threshold, DEGENERATE_VARIANCE)
    _warn_if_collinear(int(degenerate.sum() - constant.sum()))
    roots = np.sqrt(np.where(degenerate, DEGENERATE_VARIANCE, values * unbiased))
    factor = scale[:, None] * vectors * roots  # (d, d)
    inverse = functionals / roots[:, None] / scale  # (d, d)
    return FullWhitening(mean, factor, inverse, degenerate)


def _spherical_scale(variances):
    """Return the root mean variance of (d,) variances; 1 if all of them are 0."""
    if variances.max() > 0:
        return np.sqrt(variances.mean())
    warn_user(
        "All features are constant, so the data have no scale: a standard deviation of "
        "1 is used.",
        DataDimensionalityWarning,
    )
    return 1.0


def _eigen_by_block(correlation, blocks):
    """Return eigenvalues (d,) and eigenvectors in rows (d, d), each of one block."""
    values, functionals = np.empty(len(correlation)), np.zeros(correlation.shape)
    for block in blocks:
        square = np.ix_(block, block)
        values[block], vectors = np.linalg.eigh(correlation[square])
        functionals[square] = vectors.T
    return values, functionals


def _refined(values, functionals, noise, blocks, covariance_of):
    """Return eigenvalues (d,) and functionals (d, d), accurate for small eigenvalues.

    Rounding of a correlation is as large as the variance of directions in which rows
    hardly vary. The variances of these directions are computed from the rows, until
    they are accurate or below the `noise` (d,) of the features.
    """
    values, functionals = values.copy(), functionals.copy()
    small = values < _ACCURATE  # the largest eigenvalue is at least 1
    while small.any():
        covariance = covariance_of(functionals)
        left = np.zeros_like(small)
        for block in map(np.array, blocks):
            few, rest = block[small[block]], block[~small[block]]
            if not few.size:
                continue
            # Without what the accurate directions contribute by rounding.
            within = covariance[np.ix_(rest, rest)]
            slopes = np.linalg.solve(within, covariance[np.ix_(rest, few)]).T
            functionals[few] -= slopes @ functionals[rest]
            remaining = covariance[np.ix_(few, few)]
            remaining = remaining - slopes @ covariance[np.ix_(rest, few)]
            values[few], vectors = np.linalg.eigh(remaining)
            functionals[few] = vectors.T @ functionals[few]
            left[few] = values[few] < _ACCURATE * values[few].max()
            left[few] &= values[few].max() > functionals[few] ** 2 @ noise
        small = left
    return values, functionals


def _warn_if_collinear(n_missing):
    """Warn if rows span fewer dimensions than there are varying features."""
    if n_missing > 0:
        warn_user(
            f"The rows span {n_missing} fewer dimensions than there are varying "
            "features: some features are duplicated or collinear, or there are too few "
            "rows. Across each missing dimension the model is a normal density with "
            f"{DEGENERATE_VARIANCE:g} of the variance of a feature.",
            DataDimensionalityWarning,
            kind="collinear features",
        )


def _warn_if_constant(constant, names):
    """Warn if features are constant; `constant` (d,) marks them."""
    if constant.any():
        columns = list_columns(np.flatnonzero(constant), names)
        warn_user(
            f"Constant features have no density to estimate: {columns}. Across each, "
            f"the model is a normal density with {DEGENERATE_VARIANCE:g} of the "
            "largest variance. Leave constant features out to score the other features "
            "alone.",
            DataDimensionalityWarning,
            kind="constant features",
        )
