"""Coordinates of a diffusion model: features become nearly normal and uncorrelated."""

from dataclasses import dataclass, replace

import numpy as np

from skgen._whitening import (
    DiagonalWhitening,
    FullWhitening,
    estimate_whitening,
    full_and_scaled,
    whitening_of,
)
from skgen.diffusion._marginals import MarginalSpline, fitted_spline
from skgen.mixture._central import ROWS, limits_of

# Maximum number of rows to which splines are fitted.
_SPLINE_ROWS = 20_000


@dataclass(frozen=True)
class DiffusionCoordinates:
    """Invertible map of rows (n, d) to coordinates of unit covariance (n, d').

    Features are scaled or whitened, mapped by splines if there are any, and whitened.
    Directions without variance are left out: they are the rest, (n, d - d').
    """

    scaling: DiagonalWhitening | FullWhitening
    shift: np.ndarray  # (d,) rounding error of the mean, in units of the scaling
    limits: tuple  # lowest and highest values (d,) without outliers
    splines: tuple[MarginalSpline, ...]  # of the d' features, or none
    whitening: FullWhitening | None  # of the values of the splines

    @property
    def varying(self):
        return ~self.scaling.degenerate

    def inside(self, X):
        """Return rows (n, d) whose outliers are moved to the other rows."""
        return np.clip(X, *self.limits)

    def of_rows(self, X):
        """Return coordinates (n, d') of rows (n, d), log-determinants and the rest."""
        U = self.scaling.whiten(X) - self.shift
        Z, rest = U[:, self.varying], U[:, ~self.varying]
        log_det = np.full(X.shape[0], self.scaling.log_det)
        if self.splines:
            mapped = [f(Z[:, j]) for j, f in enumerate(self.splines)]
            Z = self.whitening.whiten(np.column_stack([y for y, _ in mapped]))
            log_det += self.whitening.log_det + sum(log for _, log in mapped)
        return Z, log_det, rest

    def rows_of(self, Z, rest):
        """Return the rows (n, d) with coordinates (n, d') and the rest (n, d - d')."""
        if self.splines:
            Y = self.whitening.unwhiten(Z)
            Z = np.column_stack(
                [f.inverse(Y[:, j]) for j, f in enumerate(self.splines)]
            )
        return self.scaling.unwhiten(joined(Z, rest, self.varying) + self.shift)


def joined(Z, rest, varying):
    """Return (n, d) columns: Z (n, d') where they vary, and the rest (n, d - d')."""
    U = np.empty((Z.shape[0], varying.size))
    U[:, varying], U[:, ~varying] = Z, rest
    return U


def normal_log_density(coordinates, X):
    """Return the log-density (n,) of rows (n, d) whose coordinates are normal."""
    Z, log_det, rest = coordinates.of_rows(X)
    squares = (Z**2).sum(axis=1) + (rest**2).sum(axis=1)
    return log_det - 0.5 * (squares + X.shape[1] * np.log(2 * np.pi))


def image_coordinates(rows, dtype, names):
    """Return coordinates of `TrainingRows` along the principal directions of pixels."""
    options = {"dtype": dtype, "names": names}
    full = whitening_of(rows.moments, "full", projected=rows.projected, **options)
    varying = ~full.degenerate
    # Any rotation of whitened coordinates is white.
    _, _, rotation = np.linalg.svd(full.factor[:, varying], full_matrices=False)
    factor, inverse = full.factor.copy(), full.inverse.copy()
    factor[:, varying] = full.factor[:, varying] @ rotation.T
    inverse[varying] = rotation @ full.inverse[varying]
    full = replace(full, factor=factor, inverse=inverse)
    shift = full.whitened_difference(rows.moments.rounding) * varying
    infinite = np.full(varying.size, np.inf)
    return DiffusionCoordinates(full, shift, (-infinite, infinite), (), None)


@dataclass(frozen=True)
class FlowCoordinates:
    """Latents of a fitted `NormalizingFlow`, which are normal before training."""

    flow: object

    @property
    def varying(self):
        return self.flow._varying

    def inside(self, X):
        """Return rows (n, d) whose outliers are moved to the other rows."""
        return np.clip(X, *self.flow._limits)

    def of_rows(self, X):
        """Return coordinates (n, d') of rows (n, d), log-determinants and the rest."""
        Z, log_det = self.flow._latents_and_log_det(X)
        return Z[:, self.varying], log_det, Z[:, ~self.varying]

    def rows_of(self, Z, rest):
        """Return the rows (n, d) with coordinates (n, d') and the rest (n, d - d')."""
        return self.flow._conditional_mean(joined(Z, rest, self.varying))


def fitted_coordinates(rows, base, dtype, names, rng):
    """Return coordinates of `TrainingRows`.

    base: "spline" or "normal"; dtype: precision of the rows; names: of features.
    """
    moments, options = rows.moments, {"dtype": dtype, "names": names}
    full, scaled = full_and_scaled(moments, rows.projected, **options)
    few = rows.sample(ROWS, np.random.RandomState(0))
    full, limits = limits_of(full, few)
    shift = full.whitened_difference(moments.rounding) * ~full.degenerate
    linear = DiffusionCoordinates(full, shift, limits, (), None)
    # Splines of features would bend the plane of collinear features.
    collinear = full.degenerate.sum() > scaled.degenerate.sum()
    if base == "normal" or collinear or scaled.degenerate.all():
        return linear
    scaled, limits = limits_of(scaled, few)
    shift = scaled.whitened_difference(moments.rounding) * ~scaled.degenerate
    plain = DiffusionCoordinates(scaled, shift, limits, (), None)
    X = plain.inside(rows.sample(_SPLINE_ROWS, rng))
    U = plain.of_rows(X)[0]
    splines = tuple(fitted_spline(column, rng) for column in U.T)
    if all(f.x.size == 2 for f in splines):
        return linear
    Y = np.column_stack([f(column)[0] for f, column in zip(splines, U.T, strict=True)])
    whitening = estimate_whitening(Y, np.ones(len(Y)), "full")
    bent = replace(plain, splines=splines, whitening=whitening)
    if whitening.degenerate.any():
        return linear
    # Nearly collinear features can need a linear map more than splines. As in Akaike's
    # criterion, each knot has to gain one nat.
    gain = normal_log_density(bent, X) - normal_log_density(linear, X)
    return bent if gain.sum() > sum(f.x.size for f in splines) else linear
