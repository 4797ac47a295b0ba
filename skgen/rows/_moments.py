r"""Moments of blocks of rows, which add up to the moments of all rows.

Means :math:`m` and centred sums of squares :math:`S` of two blocks combine to (Chan,
Golub and LeVeque, 1983)

.. math:: S = S_a + S_b + \frac{w_a w_b}{w_a + w_b} \delta \delta^\top,
          \qquad \delta = m_b - m_a,

without the cancellation of sums about the origin. Sums are stored in units of the range
of each feature, so that no square overflows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from skgen._checks import weight_sums


@dataclass(frozen=True)
class Moments:
    """Weighted moments of rows; ``+`` combines the moments of disjoint rows."""

    weight: float  # the sum of the weights
    n_rows: int
    centre: np.ndarray  # (d,) a row
    offset: np.ndarray  # (d,) mean minus centre, which keeps more digits
    scatter: np.ndarray  # (d, d) or (d,), sum of centred squares in units
    units: np.ndarray  # (d,) powers of two, 0 for a constant feature
    mean_weight: float = 1.0  # of the rows by their weights
    whole: bool = True  # whether all weights are whole numbers

    def __add__(self, other):
        if isinstance(other, ObservedMoments):
            return self.by_feature() + other
        weight = self.weight + other.weight
        apart = (other.centre - self.centre) + (other.offset - self.offset)
        units = np.maximum(
            np.maximum(self.units, other.units), _power_of_two(np.abs(apart))
        )
        difference = _over(apart, units)
        moved = self.weight * (other.weight / weight)
        return Moments(
            weight,
            self.n_rows + other.n_rows,
            self.centre,
            self.offset + apart * (other.weight / weight),
            self._scatter_in(units)
            + other._scatter_in(units)
            + moved * _squares(difference, self.scatter.ndim),
            units,
            self.mean_weight
            + (other.mean_weight - self.mean_weight) * (other.weight / weight),
            self.whole and other.whole,
        )

    def _scatter_in(self, units):
        ratio = _over(self.units, units)
        return self.scatter * _squares(ratio, self.scatter.ndim)

    def rescaled(self, factor):
        """Return the moments with all weights multiplied by a factor."""
        return replace(self, weight=self.weight * factor, scatter=self.scatter * factor)

    def by_feature(self):
        """Return the moments of each feature alone."""
        scatter = self.scatter if self.scatter.ndim == 1 else np.diagonal(self.scatter)
        observed = np.full(scatter.size, self.weight)
        values = {**vars(self), "scatter": scatter, "observed": observed}
        return ObservedMoments(**values)

    @property
    def weight_sums(self):
        """Return the `weight_sums` of all rows."""
        return self.weight, self.mean_weight, self.whole

    @property
    def mean(self):
        """Return the mean of each feature: (d,)."""
        return self.centre + self.offset

    @property
    def rounding(self):
        """Return the mean of the rows minus the rounded `mean`: (d,)."""
        return self.offset - (self.mean - self.centre)

    @property
    def variances(self):
        """Return the variance of each feature: (d,)."""
        squares = self.scatter if self.scatter.ndim == 1 else np.diagonal(self.scatter)
        return squares / self.weight * self.units**2

    @property
    def magnitudes(self):
        """Return the root mean square of each feature: (d,)."""
        return np.hypot(self.mean, np.sqrt(self.variances))

    def correlation(self, scale):
        """Return the covariance divided by the scales (d,) of the features: (d, d)."""
        ratio = self.units / scale
        return self.scatter / self.weight * _squares(ratio, 2)


@dataclass(frozen=True, kw_only=True)
class ObservedMoments(Moments):
    """Moments of each feature of incomplete rows, over the rows that have it."""

    observed: np.ndarray  # (d,) the weight of these rows

    def __add__(self, other):
        other = other if isinstance(other, ObservedMoments) else other.by_feature()
        observed = self.observed + other.observed  # (d,)
        fraction = _over(other.observed, observed)
        neither = (self.observed == 0) | (other.observed == 0)
        apart = (other.centre - self.centre) + (other.offset - self.offset)
        apart = np.where(neither, 0.0, apart)
        units = np.maximum(
            np.maximum(self.units, other.units), _power_of_two(np.abs(apart))
        )
        moved = self.observed * fraction * _over(apart, units) ** 2
        own, weight = self.observed > 0, self.weight + other.weight
        more = (other.mean_weight - self.mean_weight) * (other.weight / weight)
        return ObservedMoments(
            weight,
            self.n_rows + other.n_rows,
            np.where(own, self.centre, other.centre),
            np.where(own, self.offset + apart * fraction, other.offset),
            self._scatter_in(units) + other._scatter_in(units) + moved,
            units,
            self.mean_weight + more,
            self.whole and other.whole,
            observed=observed,
        )

    def by_feature(self):
        return self

    def rescaled(self, factor):
        moments = super().rescaled(factor)
        return replace(moments, observed=factor * self.observed)

    @property
    def variances(self):
        return _over(self.scatter, self.observed) * self.units**2


def observed_moments_of(X, sample_weight):
    """Return the `ObservedMoments` of rows (n, d), NaN where they are not observed."""
    seen = ~np.isnan(X)
    observed = sample_weight @ seen  # (d,)
    first = seen.argmax(axis=0)
    centre = np.where(observed > 0, X[first, np.arange(X.shape[1])], 0.0)
    centred = np.where(seen, X - centre, 0.0)
    offset = _over(sample_weight @ centred, observed)
    centred = np.where(seen, centred - offset, 0.0)
    units = _power_of_two(np.abs(centred).max(axis=0))
    centred = _over(centred, units)
    scatter = np.einsum("i,ij,ij->j", sample_weight, centred, centred)
    total, *kind = weight_sums(sample_weight)
    sums = total, X.shape[0], centre, offset, scatter, units, *kind
    return ObservedMoments(*sums, observed=observed)


def moments_of(X, sample_weight, *, full):
    """Return the moments of rows (n, d): all products of features, or only squares."""
    # Centring first keeps the digits that a large offset would cost.
    centred = X - X[0]
    offset = np.average(centred, axis=0, weights=sample_weight)
    centred -= offset
    units = _power_of_two(np.abs(centred).max(axis=0))
    centred = _over(centred, units)
    if full:
        scatter = (centred * sample_weight[:, None]).T @ centred
    else:
        scatter = np.einsum("i,ij,ij->j", sample_weight, centred, centred)
    total, *kind = weight_sums(sample_weight)
    return Moments(total, X.shape[0], X[0], offset, scatter, units, *kind)


def projected_moments(X, sample_weight, *, mean, matrix):
    """Return the moments of linear functionals (m, d) of rows (n, d) less a mean."""
    return moments_of((X - mean) @ matrix.T, sample_weight, full=True)


def moments_from(weight, mean, covariance):
    """Return the moments of rows with a mean (d,) and a covariance (d, d)."""
    units = _power_of_two(np.sqrt(np.diagonal(covariance)))
    scatter = weight * _over(_over(covariance, units).T, units)
    return Moments(weight, 0, mean, np.zeros_like(mean), scatter, units)


def _power_of_two(lengths):
    """Return the smallest powers of two above the lengths; 0 for 0."""
    return np.where(lengths > 0, np.ldexp(1.0, np.frexp(lengths)[1]), 0.0)


def _over(lengths, units):
    return np.divide(lengths, units, out=np.zeros_like(lengths), where=units > 0)


def _squares(lengths, ndim):
    return lengths**2 if ndim == 1 else np.outer(lengths, lengths)
