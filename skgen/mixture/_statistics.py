"""Sufficient statistics of rows under a mixture: one pass over blocks of rows.

The same classes serve rows in memory, in a memory map, on the workers of a cluster and
on a GPU: `Expectation` computes `Sums`, which are additive, and turns their total into
`Statistics`.
"""

from dataclasses import dataclass

import numpy as np

from skgen.mixture._covariance import AbstractEstimatedCovariance
from skgen.mixture._joint import Blocks, Joint, Parameters, normalise
from skgen.mixture._moments import Collector, Moments
from skgen.mixture._precision import DOUBLE
from skgen.mixture._products import AbstractProducts
from skgen.rows._source import added

# Responsibilities below this multiple of the component weight, times the allowed
# rounding error, are ignored. The error that this causes is smaller than the rounding
# error of the matrix products.
_NEGLIGIBLE = 0.1 * np.finfo(np.float64).eps


@dataclass(frozen=True)
class Family:
    """The family of mixtures that is fitted to whitened rows."""

    covariance: AbstractEstimatedCovariance
    products: AbstractProducts | None  # None computes differences only
    floor: float  # minimum variance
    degenerate: np.ndarray  # (d,) whether all rows have the same coordinate


@dataclass(frozen=True)
class Sums:
    """Sums over some of the rows; sums over disjoint rows are added."""

    moments: list  # of arrays, see `Moments`
    log_likelihood: float  # sum of weight times log p
    weight: float
    lowest: float  # the lowest log p of a row, the row (d,), and its weight
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
    """Sufficient statistics of all rows."""

    counts: np.ndarray  # (K,) sums of responsibilities
    first: np.ndarray  # (K, d) first moments about the origins
    scatter: np.ndarray  # second moments about the origins; shape depends on the type
    origins: np.ndarray  # (K, d)
    log_likelihood: float  # weighted mean of log p
    lowest_row: np.ndarray  # (d,) the row of lowest density
    lowest_share: float  # its fraction of the total weight


class Expectation:
    """The E-step of one pass. Pickled and sent to workers that hold the rows.

    `loss` is the allowed rounding error of products, as a multiple of machine epsilon;
    `moved` holds a mask of components (K,) that need other origins, and these (K, d).
    """

    # Limits of the floating-point type.
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
            products = None  # no component uses the features
        least = _NEGLIGIBLE * loss * parameters.weights
        self.moments = Moments(origins, apart, covariance, products, least)

    def sums(self, X, sample_weight):
        """Return the `Sums` of rows (n, d) with weights (n,), computed in threads."""

        def e_step(rows, F):
            r = self.joint(X[rows], F)  # (K, b)
            log_density, norm = normalise(r)
            r *= sample_weight[rows] / norm
            return r, log_density

        factors = self.parameters.factors
        return _collected(X, sample_weight, e_step, self.moments, factors)

    def statistics(self, sums):
        """Return the `Statistics` of the total `Sums`."""
        return _statistics(self.moments, sums, self.shift)


def statistics_of_shares(X, sample_weight, shares, K, family, moved=None):
    """Return the `Statistics` of rows (n, d) for given responsibilities.

    `shares` maps a slice of rows to responsibilities (b, K). The likelihood is 0.
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
    """Return `origins` (K, d) and `apart` (K,) with the moved components replaced."""
    if moved is None:
        return origins, apart
    return np.where(moved[0][:, None], moved[1], origins), apart | moved[0]


def _collected(X, sample_weight, e_step, moments, factors):
    """Return the `Sums` of responsibilities that `e_step` computes block by block."""
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
        # A copy, because a view would keep all of X in memory.
        worst = X[lowest_row].copy(), sample_weight[lowest_row]
        return Sums(collector.finish(), total, weight, lowest, *worst)

    # In a fixed order, whichever thread finishes first.
    return added(blocks(collect))


def _statistics(moments, sums, shift):
    """Return the `Statistics` of the total `Sums`, with features about `shift` (d,)."""
    return Statistics(
        *moments.total(sums.moments, shift),
        sums.log_likelihood / sums.weight,
        sums.lowest_row,
        sums.lowest_weight / sums.weight,
    )


def far(parameters, covariance, products, origins, most=DOUBLE.far):
    """Return for which components moments about origins lose too many digits: (K,)."""
    move = np.abs(parameters.means - origins)  # (K, d)
    precisions = covariance.precisions(parameters.factors)
    return products.magnitudes(precisions, move) > most


def maximise(collected, previous, family):
    """Return the `Parameters` of the M-step, and which covariances hit the floor (K,).

    Empty components keep their `previous` mean and covariance.
    """
    counts, origins = collected.counts, collected.origins
    # Counts below the rounding error mean an empty component.
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
