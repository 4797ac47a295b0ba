"""Conversion between the units of the data and the inputs of the networks."""

import numpy as np

from skgen._checks import InvalidParameterError, check_observed, column_names
from skgen._whitening import DiagonalWhitening, loss_offset, whitening_of
from skgen.mixture._central import ROWS, limits_of
from skgen.rows._moments import ObservedMoments


class Coordinates:
    """Scaling of the features: unit variance for "gaussian", else the identity.

    Estimated from the observed values of `TrainingRows` (n, d).
    """

    # Lowest and highest values without outliers; files of earlier versions have none.
    limits: tuple = (-np.inf, np.inf)

    # Fraction of the rows in which each feature is observed: (d,), or 1.
    observed: np.ndarray | float = 1.0

    def __init__(self, model, rows):
        self.owner = type(model).__name__
        self.likelihood = model.likelihood
        self.is_normal = model.likelihood == "gaussian"
        self.shared = model.noise_covariance == "spherical"
        d, moments = rows.shape[1], rows.moments if self.is_normal else None
        if rows.incomplete:
            moments = rows.moments
            self._set_observed(moments, column_names(model))
        if self.is_normal:
            whitening = whitening_of(
                moments,
                model.noise_covariance,
                dtype=model._fit_dtype,
                names=column_names(model),
            )
            few = rows.sample(ROWS, np.random.RandomState(0))
            self.whitening, self.limits = limits_of(whitening, few)
        else:
            never = np.zeros(d, dtype=bool)
            self.whitening = DiagonalWhitening(np.zeros(d), np.ones(d), never)
        # Constant features are left to the floor that all models share.
        self.varying = ~self.whitening.degenerate
        self.n_varying = int(self.varying.sum())

    def _set_observed(self, moments, names):
        """Set the fractions of observed values, and the means as inputs for NaN."""
        if not isinstance(moments, ObservedMoments):
            return
        self.observed = moments.observed / moments.weight
        check_observed(f"{self.owner}.fit", self.observed, names)
        if not self.is_normal:
            self.missing = moments.mean

    # Inputs of the encoder for NaN, in scaled units: (d,), or None for zeros.
    missing: np.ndarray | None = None

    def standardized(self, X):
        """Return rows (n, d) as inputs of the networks, with constant features at 0."""
        if not self.is_normal:
            return self.checked(X)
        U = self.whitening.whiten(X)
        U[:, ~self.varying] = 0.0
        return U

    def training_inputs(self, X):
        """Return what `standardized` does, of rows whose far outliers are moved.

        Far outliers would set the networks and the noise of all rows.
        """
        return self.standardized(np.clip(X, *self.limits))

    def checked(self, X):
        """Return rows unchanged; raise if a value lies outside [0, 1]."""
        low, high = np.fmin.reduce(X, axis=None), np.fmax.reduce(X, axis=None)
        if low < 0 or high > 1:
            raise InvalidParameterError(
                f"The 'X' argument of {self.owner} must lie in [0, 1] for "
                f"likelihood={self.likelihood!r}. Got values from {low:g} to "
                f"{high:g} instead."
            )
        return X

    def restored(self, varying, constant=0.0):
        """Return rows (n, d) in the units of the data.

        varying: (n, d') features that vary; constant: the other features.
        """
        U = np.empty((varying.shape[0], self.varying.size))
        U[:, self.varying] = varying
        U[:, ~self.varying] = constant
        return self.whitening.unwhiten(U)

    def log_rest(self, X):
        """Return log p(x) minus the log-density of scaled varying features: (n,).

        It is of the observed features where X has NaN.
        """
        if not self.is_normal:
            return np.zeros(X.shape[0])
        if np.isnan(X).any():
            Z, seen = self.whitening.whiten(X), ~np.isnan(X)
            terms = np.where(self.varying, 0.0, 0.5 * (Z**2 + np.log(2 * np.pi)))
            terms += np.log(self.whitening.scale)
            return -np.where(seen, terms, 0.0).sum(axis=1)
        constant = self.whitening.whiten(X)[:, ~self.varying]
        floor = 0.5 * (constant**2 + np.log(2 * np.pi)).sum(axis=1)
        return self.whitening.log_det - floor

    def log_normal(self, X):
        """Return the log-density of rows by a normal density with this scaling: (n,).

        Without a scaling, every row has a density of infinity.
        """
        if not self.is_normal:
            return np.full(X.shape[0], np.inf)
        Z = self.whitening.whiten(X)
        terms = 0.5 * (Z**2 + np.log(2 * np.pi))
        if np.isnan(Z).any():
            terms += np.log(self.whitening.scale)
            return -np.where(np.isnan(Z), 0.0, terms).sum(axis=1)
        return self.whitening.log_det - terms.sum(axis=1)

    @property
    def loss_offset(self):
        """Return the constant that converts a loss to nats in the units of the data."""
        if not self.is_normal:
            return 0.0
        if np.ndim(self.observed) == 0:
            return loss_offset(self.whitening)
        constant = np.where(self.varying, 0.0, 0.5 * np.log(2 * np.pi))
        return self.observed @ (constant + np.log(self.whitening.scale))

    def noise_variance(self, variance):
        """Return noise variances in the units of the data: (d,) or, if shared, one."""
        # A constant feature has variance 1 in its scaled units, which is the floor.
        full = np.ones(self.varying.size)
        full[self.varying] = variance
        full *= self.whitening.scale**2
        return float(full[0]) if self.shared else full
