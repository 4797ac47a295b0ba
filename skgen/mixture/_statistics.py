"""Sufficient statistics of rows under a mixture: one pass over blocks of rows.

One primitive serves rows in memory, in a mapped file, on the workers of a cluster and
on a GPU: what to sum (`Expectation`), sums that add up (`Sums`), and what follows from
them (`Statistics`).
"""

from dataclasses import dataclass

import numpy as np

from skgen._block import added
from skgen.mixture._covariance import AbstractEstimatedCovariance
from skgen.mixture._joint import Blocks, Joint, Parameters, normalise
from skgen.mixture._moments import Collector, Moments
from skgen.mixture._precision import DOUBLE
from skgen.mixture._products import AbstractProducts

# Shares of a row that need not count, as a multiple of a component's weight and of what
# products may lose. Its rows would be some hundred variances away, and one in hundreds
# has a share just so small: moments change by less than products may lose.
_NEGLIGIBLE = 0.1 * np.finfo(np.float64).eps


@dataclass(frozen=True)
class Family:
    """The mixtures that are fitted to whitened rows."""

    covariance: AbstractEstimatedCovariance
    products: AbstractProducts | None  # None goes by differences
    floor: float  # the least variance
    degenerate: np.ndarray  # (d,) whether the rows lack variance along a coordinate


@dataclass(frozen=True)
class Sums:
    """What a pass over some of the rows yields; sums of all rows add up."""

    moments: list  # of arrays, by `Moments`
    log_likelihood: float  # the sum of weight times log p
    weight: float
    lowest: float  # the least log p of a row, the row (d,), and its weight
    lowest_row: np.ndarray
    lowest_weight: float

    def __add__(self, other):
        lower = self if self.lowest <= other.lowest else other
        return Sums(
            [a + b for a, b in zip(self.moments, other.moments, strict=True)],
            self.log_likelihood + other.log_likelihood,
            self.weight + other.weight,
            lower.lowest,
            lower.lowest_row,
            lower.lowest_weight,
        )


@dataclass(frozen=True)
class Statistics:
    """What a pass over all rows yields."""

    counts: np.ndarray  # (K,) sums of responsibilities
    first: np.ndarray  # (K, d)
    scatter: np.ndarray  # by type: second moments
    origins: np.ndarray  # (K, d): what the moments of each component are about
    log_likelihood: float  # weighted mean of log p
    lowest_row: np.ndarray  # (d,): the row of the least density
    lowest_share: float  # its weight, as a share of all


class Expectation:
    """What to sum of every row in an E-step. It travels to where the rows are.

    Parameters
    ----------
    parameters : Parameters
        The mixture.
    family : Family
        The shape of its covariances, and the products that serve the rows.
    loss : float
        What products may lose of a log-density, as a multiple of rounding.
    moved : tuple of ndarrays of shapes (K,) and (K, d), default=None
        Which components have means so far from here that their moments must be
        about other points, and the points.
    """

    # Of the arithmetic.
    precision = DOUBLE

    def __init__(self, parameters, family, loss, moved=None):
        d = parameters.means.shape[1]
        covariance, products = family.covariance, family.products
        self.parameters, self.shift = parameters, np.zeros(d)
        loss = self.precision.allowed(loss)
        self.joint = Joint(parameters, covariance, products, self.shift, loss)
        apart = np.ones(parameters.weights.size, dtype=bool)
        if products is not None:
            most = self.precision.far
            apart = far(parameters, covariance, products, self.shift, most)
        origins, apart = _about(parameters.means, apart, moved)
        if apart.all() and not self.joint.near.size:
            products = None  # features that nothing is made of
        least = _NEGLIGIBLE * loss * parameters.weights
        self.moments = Moments(origins, apart, covariance, products, least)

    def sums(self, X, sample_weight):
        """Return the sums over rows (n, d) of weights (n,), in threads."""

        def e_step(rows, F):
            r = self.joint(X[rows], F)  # (K, b)
            log_density, norm = normalise(r)
            r *= sample_weight[rows] / norm
            return r, log_density

        factors = self.parameters.factors
        return _collected(X, sample_weight, e_step, self.moments, factors)

    def statistics(self, sums):
        """Return the statistics that the sums over all rows make."""
        return _statistics(self.moments, sums, self.shift)


def statistics_of_shares(X, sample_weight, shares, K, family, moved=None):
    """Return the statistics of rows whose shares in the components are given.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        The rows.
    sample_weight : ndarray of shape (n,)
        How many times each row counts.
    shares : callable
        Maps a slice of rows to their (b, K) shares.
    K : int
        The number of components.
    family, moved
        As `Expectation` takes them.

    Returns
    -------
    Statistics
        Of likelihood 0.
    """
    d, covariance, products = X.shape[1], family.covariance, family.products

    def e_step(rows, F):
        r = shares(rows).T * sample_weight[rows]  # (K, b)
        return r, np.zeros(r.shape[1])

    origins, apart = np.zeros((K, d)), np.full(K, products is None)
    origins, apart = _about(origins, apart, moved)
    moments = Moments(origins, apart, covariance, products, np.zeros(K))
    factors = covariance.factors(covariance.unit(K, d))
    sums = _collected(X, sample_weight, e_step, moments, factors)
    return _statistics(moments, sums, np.zeros(d))


def _about(origins, apart, moved):
    """Return the origins and components of moments by differences, where moved."""
    if moved is None:
        return origins, apart
    return np.where(moved[0][:, None], moved[1], origins), apart | moved[0]


def _collected(X, sample_weight, e_step, moments, factors):
    """Return the sums of shares that `e_step` finds block by block."""
    n, d = X.shape
    products, shift = moments.products, np.zeros(d)
    blocks = Blocks(n, d, moments.origins.shape[0], products)

    def collect(task):
        buffer, n_rows = blocks.buffer(), task[-1].stop - task[0].start
        collector = Collector(moments, X, sample_weight, n_rows)
        total, lowest, lowest_row = 0.0, np.inf, 0
        for rows in task:
            F = products and products.features(X[rows], shift, factors, buffer)
            r, log_density = e_step(rows, F)  # (K, b), (b,)
            collector.add(rows, F, r)
            total += sample_weight[rows] @ log_density
            worst = int(log_density.argmin())
            if log_density[worst] < lowest:
                lowest, lowest_row = log_density[worst], rows.start + worst
        weight = sample_weight[task[0].start : task[-1].stop].sum()
        # A copy: a part of `X` would keep all of it.
        worst = X[lowest_row].copy(), sample_weight[lowest_row]
        return Sums(collector.finish(), total, weight, lowest, *worst)

    # In one order, whichever thread was the first.
    return added(blocks(collect))


def _statistics(moments, sums, shift):
    """Return the statistics that sums over all rows make."""
    return Statistics(
        *moments.total(sums.moments, shift),
        sums.log_likelihood / sums.weight,
        sums.lowest_row,
        sums.lowest_weight / sums.weight,
    )


def far(parameters, covariance, products, origins, most=DOUBLE.far):
    """Tell for which components moments about a point lose too many digits: (K,)."""
    move = np.abs(parameters.means - origins)  # (K, d)
    precisions = covariance.precisions(parameters.factors)
    return products.magnitudes(precisions, move) > most


def maximise(collected, previous, family):
    """Return the parameters that maximise the expected log-likelihood (M-step).

    Parameters
    ----------
    collected : Statistics
        Its moments.
    previous : Parameters
        The means and covariances of components that no row belongs to.
    family : Family
        The shape of the covariances, their floor, and where rows do not vary.

    Returns
    -------
    parameters : Parameters
    at_floor : ndarray of shape (K,)
        Whether the covariance had to be raised to the floor.
    """
    counts, origins = collected.counts, collected.origins
    # Shares below rounding are no rows at all.
    least = 10 * np.finfo(np.float64).eps * counts.sum()
    counts = np.where(counts > least, counts, 0.0)
    shift = collected.first / np.where(counts > 0, counts, 1.0)[:, None]  # (K, d)
    shift[counts == 0] = 0.0
    covariances, at_floor = family.covariance.from_scatter(
        collected.scatter,
        counts,
        shift,
        previous.covariances,
        family.floor,
        family.degenerate,
    )
    means = np.where((counts > 0)[:, None], origins + shift, previous.means)
    factors = family.covariance.factors(covariances)
    return Parameters(counts / counts.sum(), means, covariances, factors), at_floor
