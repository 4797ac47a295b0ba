"""Between rows in their own units and rows as the networks see them."""

import numpy as np

from skgen._parameters import InvalidParameterError
from skgen._validation import column_names
from skgen._whitening import DiagonalWhitening, estimate_whitening


class Coordinates:
    """Features of size 1 for normal noise; rows as they are for data in [0, 1].

    Parameters
    ----------
    model : AbstractAutoencoder
        Its `likelihood` and `noise_covariance` say which.
    X : ndarray of shape (n, d)
        The rows.
    """

    def __init__(self, model, X):
        self.owner = type(model).__name__
        self.likelihood = model.likelihood
        self.is_normal = model.likelihood == "gaussian"
        self.shared = model.noise_covariance == "spherical"
        d = X.shape[1]
        if self.is_normal:
            self.whitening = estimate_whitening(
                X,
                np.ones(X.shape[0]),
                model.noise_covariance,
                dtype=model._fit_dtype,
                names=column_names(model),
            )
        else:
            never = np.zeros(d, dtype=bool)
            self.whitening = DiagonalWhitening(np.zeros(d), np.ones(d), never)
        # Across a constant feature every model has the shared floor.
        self.varying = ~self.whitening.degenerate
        self.n_varying = int(self.varying.sum())

    def standardized(self, X):
        """Return rows in the coordinates of the networks, constants at 0."""
        if not self.is_normal:
            return self.inside(X)
        U = self.whitening.whiten(X)
        U[:, ~self.varying] = 0.0
        return U

    def inside(self, X):
        """Return rows as they are; raise where one leaves [0, 1]."""
        low, high = X.min(), X.max()
        if low < 0 or high > 1:
            raise InvalidParameterError(
                f"The 'X' argument of {self.owner} must lie in [0, 1] for "
                f"likelihood={self.likelihood!r}. Got values from {low:g} to "
                f"{high:g} instead."
            )
        return X

    def restored(self, varying, constant=0.0):
        """Return rows in their own units from the features of either kind."""
        U = np.empty((varying.shape[0], self.varying.size))
        U[:, self.varying] = varying
        U[:, ~self.varying] = constant
        return self.whitening.unwhiten(U)

    def log_rest(self, X):
        """Return what log p(x) has beyond that of the varying coordinates: (n,)."""
        if not self.is_normal:
            return np.zeros(X.shape[0])
        constant = self.whitening.whiten(X)[:, ~self.varying]
        floor = 0.5 * (constant**2 + np.log(2 * np.pi)).sum(axis=1)
        return self.whitening.log_det - floor

    @property
    def loss_offset(self):
        """Return what turns a loss of the networks into nats in the data's units."""
        if not self.is_normal:
            return 0.0
        n_constant = self.varying.size - self.n_varying
        return 0.5 * n_constant * np.log(2 * np.pi) - self.whitening.log_det

    def noise_variance(self, variance):
        """Return variances of the noise in the units of the data."""
        # The floor is 1 in the units of a constant feature.
        full = np.ones(self.varying.size)
        full[self.varying] = variance
        full *= self.whitening.scale**2
        return float(full[0]) if self.shared else full
