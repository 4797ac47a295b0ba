r"""Where rows lie and how far they spread: moments of blocks of rows that add up.

Means and centred sums of squares of two blocks make those of both (Chan, Golub and
LeVeque, 1983),

.. math:: S = S_a + S_b + \frac{w_a w_b}{w_a + w_b} \delta \delta^\top,
          \qquad \delta = m_b - m_a,

without the cancellation of sums about the origin. Sums are kept in units of each
feature's range, so that no square leaves the range of numbers.
"""

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Spread:
    """Moments of some rows; those of all rows add up with ``+``."""

    weight: float  # the sum of the weights
    n_rows: int
    centre: np.ndarray  # (d,) one of the rows
    offset: np.ndarray  # (d,) the mean less the centre: digits that the mean loses
    scatter: np.ndarray  # (d, d) or (d,), the sum of centred squares over units
    units: np.ndarray  # (d,) powers of two, 0 for a constant feature
    largest: np.ndarray  # (d,) the largest magnitude

    def __add__(self, other):
        weight = self.weight + other.weight
        apart = (other.centre - self.centre) + (other.offset - self.offset)
        units = np.maximum(
            np.maximum(self.units, other.units), _power_of_two(np.abs(apart))
        )
        difference = _over(apart, units)
        moved = self.weight * (other.weight / weight)
        return Spread(
            weight,
            self.n_rows + other.n_rows,
            self.centre,
            self.offset + apart * (other.weight / weight),
            self._scatter_in(units)
            + other._scatter_in(units)
            + moved * _squares(difference, self.scatter.ndim),
            units,
            np.maximum(self.largest, other.largest),
        )

    def _scatter_in(self, units):
        ratio = _over(self.units, units)
        return self.scatter * _squares(ratio, self.scatter.ndim)

    def rescaled(self, factor):
        """Return the moments of the rows with all weights times a factor."""
        return replace(self, weight=self.weight * factor, scatter=self.scatter * factor)

    @property
    def mean(self):
        """Return the mean of each feature: (d,)."""
        return self.centre + self.offset

    @property
    def variances(self):
        """Return the variance of each feature: (d,)."""
        squares = self.scatter if self.scatter.ndim == 1 else np.diagonal(self.scatter)
        return squares / self.weight * self.units**2

    def correlation(self, scale):
        """Return the covariance over the scales (d,) of the features: (d, d).

        A feature of infinite scale has none.
        """
        ratio = self.units / scale
        return self.scatter / self.weight * _squares(ratio, 2)


def spread_of(X, sample_weight, *, full):
    """Return the moments of a block of rows.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        The rows.
    sample_weight : ndarray of shape (n,)
        How many times each counts; not all zero.
    full : bool
        Whether to take the products of features, not only their squares.

    Returns
    -------
    Spread
    """
    # Differences keep the digits that an offset of 1e8 would cost.
    centred = X - X[0]
    offset = np.average(centred, axis=0, weights=sample_weight)
    centred -= offset
    units = _power_of_two(np.abs(centred).max(axis=0))
    centred = _over(centred, units)
    if full:
        scatter = (centred * sample_weight[:, None]).T @ centred
    else:
        scatter = np.einsum("i,ij,ij->j", sample_weight, centred, centred)
    largest = np.abs(X).max(axis=0)
    total = sample_weight.sum()
    return Spread(total, X.shape[0], X[0], offset, scatter, units, largest)


def weighted_mean(X, sample_weight):
    """Return the mean of the rows, exact also on data far from the origin."""
    # Summing differences keeps the digits that an offset of 1e8 would cost.
    return X[0] + np.average(X - X[0], axis=0, weights=sample_weight)


def _power_of_two(lengths):
    """Return the powers of two above some lengths; 0 for 0."""
    return np.where(lengths > 0, np.ldexp(1.0, np.frexp(lengths)[1]), 0.0)


def _over(lengths, units):
    return np.divide(lengths, units, out=np.zeros_like(lengths), where=units > 0)


def _squares(lengths, ndim):
    return lengths**2 if ndim == 1 else np.outer(lengths, lengths)
