"""Sufficient statistics of rows under a mixture: one pass over blocks of rows."""

from dataclasses import dataclass

import numpy as np

from skgen.mixture._joint import Blocks, Joint, Parameters, normalise

# A mean so many standard deviations (squared) of its component from a point leaves
# too few digits of moments about it.
_FAR = 1e6


@dataclass(frozen=True)
class Statistics:
    """What a pass over the rows yields."""

    counts: np.ndarray  # (K,) sums of responsibilities
    first: np.ndarray  # (K, d)
    scatter: np.ndarray  # by type: second moments
    origins: np.ndarray  # (K, d): what the moments of each component are about
    log_likelihood: float  # weighted mean of log p
    lowest_row: int  # the row of the least density


class Moments:
    """Sums of weighted moments of rows, by products or by differences.

    Parameters
    ----------
    origins : ndarray of shape (K, d)
        What the moments by differences are about. Near the new means, they keep the
        moments free of cancellation.
    apart : ndarray of shape (K,)
        Whether the moments are taken by differences.
    covariance : AbstractCovariance
        The shape of the second moments.
    products : AbstractProducts or None
        None if all components are apart.
    """

    def __init__(self, origins, apart, covariance, products):
        self.origins, self.covariance, self.products = origins, covariance, products
        self.near, self.apart = np.flatnonzero(~apart), np.flatnonzero(apart)

    def zeros(self):
        """Return sums of no rows, for `add` to add to: a list of arrays."""
        K, d = self.origins.shape
        sums = [np.zeros(K), np.zeros((K, d)), self.covariance.empty_scatter(K, d)]
        if self.near.size:
            sums += self.products.zeros(self.near.size, d)
        return sums

    def add(self, sums, X, F, r):
        """Add rows (b, d) of features F (p, b) and weighted shares r (K, b)."""
        counts, first, scatter, *products = sums
        if self.near.size:
            near = r[self.near] if self.apart.size else r
            self.products.add(products, F, near, X.shape[1])
        for k in self.apart:
            difference = X - self.origins[k]  # (b, d)
            counts[k] += r[k].sum()
            first[k] += r[k] @ difference
            self.covariance.add_scatter(scatter, k, r[k], difference)

    def total(self, parts, shift):
        """Return counts, first, scatter and origins from the sums of all tasks.

        `shift` (d,) is what the features were about.
        """
        # In one order, whichever thread was the first.
        counts, first, scatter, *products = (
            sum(arrays[1:], start=arrays[0]) for arrays in zip(*parts, strict=True)
        )
        origins = self.origins.copy()
        if self.near.size:
            d = shift.size
            counts[self.near], first[self.near], rest = self.products.moments(
                products, d
            )
            origins[self.near] = shift
            scatter = self.products.merged(scatter, self.near, rest)
        return counts, first, scatter, origins


def statistics(X, sample_weight, parameters, covariance, products, loss, moved=None):
    """Return the statistics of all rows under the mixture.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        The rows.
    sample_weight : ndarray of shape (n,)
        How many times each row counts.
    parameters : Parameters
        The mixture.
    covariance : AbstractCovariance
        The shape of its covariances.
    products : AbstractProducts or None
        Takes the components that lose few digits by it; None goes by differences.
    loss : float
        What products may lose of a log-density, as a multiple of rounding.
    moved : tuple of ndarrays of shapes (K,) and (K, d), default=None
        Which components have means so far from here that their moments must be
        about other points, and the points.

    Returns
    -------
    Statistics
    """
    shift = np.zeros(X.shape[1])
    joint = Joint(parameters, covariance, products, shift, loss)

    def e_step(rows, F):
        r = joint(X[rows], F)  # (K, b)
        log_density, norm = normalise(r)
        r *= sample_weight[rows] / norm
        return r, log_density

    apart = np.ones(parameters.weights.size, dtype=bool)
    if products is not None:
        apart = far(parameters, covariance, products, shift)
    origins, apart = _about(parameters.means, apart, moved)
    if apart.all() and not joint.near.size:
        products = None  # features that nothing is made of
    moments = Moments(origins, apart, covariance, products)
    return _collected(X, sample_weight, e_step, moments, parameters.factors)


def statistics_of_shares(X, sample_weight, shares, K, covariance, products, moved=None):
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
    covariance, products, moved
        As in `statistics`.

    Returns
    -------
    Statistics
        Of likelihood 0.
    """
    d = X.shape[1]

    def e_step(rows, F):
        r = shares(rows).T * sample_weight[rows]  # (K, b)
        return r, np.zeros(r.shape[1])

    origins, apart = np.zeros((K, d)), np.full(K, products is None)
    moments = Moments(*_about(origins, apart, moved), covariance, products)
    factors = covariance.factors(covariance.unit(K, d))
    return _collected(X, sample_weight, e_step, moments, factors)


def _about(origins, apart, moved):
    """Return the origins and components of moments by differences, where moved."""
    if moved is None:
        return origins, apart
    return np.where(moved[0][:, None], moved[1], origins), apart | moved[0]


def _collected(X, sample_weight, e_step, moments, factors):
    """Return the statistics of shares that `e_step` finds block by block."""
    n, d = X.shape
    products, shift = moments.products, np.zeros(d)
    blocks = Blocks(n, d, moments.origins.shape[0], products)

    def collect(task):
        buffer, sums = blocks.buffer(), moments.zeros()
        total, lowest, lowest_row = 0.0, np.inf, 0
        for rows in task:
            F = products and products.features(X[rows], shift, factors, buffer)
            r, log_density = e_step(rows, F)  # (K, b), (b,)
            moments.add(sums, X[rows], F, r)
            total += sample_weight[rows] @ log_density
            worst = int(log_density.argmin())
            if log_density[worst] < lowest:
                lowest, lowest_row = log_density[worst], rows.start + worst
        return sums, total, lowest, lowest_row

    parts, totals, lowest, lowest_rows = zip(*blocks(collect), strict=True)
    mean = sum(totals) / sample_weight.sum()
    lowest_row = lowest_rows[int(np.argmin(lowest))]
    return Statistics(*moments.total(parts, shift), mean, lowest_row)


def far(parameters, covariance, products, origins):
    """Tell for which components moments about a point lose too many digits: (K,)."""
    move = np.abs(parameters.means - origins)  # (K, d)
    precisions = covariance.precisions(parameters.factors)
    return products.magnitudes(precisions, move) > _FAR


def maximise(collected, previous, covariance, floor, degenerate):
    """Return the parameters that maximise the expected log-likelihood (M-step).

    Parameters
    ----------
    collected : Statistics
        Its moments.
    previous : Parameters
        The means and covariances of components that no row belongs to.
    covariance : AbstractCovariance
        The shape of the covariances.
    floor : float
        The least variance in any direction.
    degenerate : ndarray of shape (d,)
        Whether the data lack variance along each coordinate.

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
    covariances, at_floor = covariance.from_scatter(
        collected.scatter, counts, shift, previous.covariances, floor, degenerate
    )
    means = np.where((counts > 0)[:, None], origins + shift, previous.means)
    factors = covariance.factors(covariances)
    return Parameters(counts / counts.sum(), means, covariances, factors), at_floor
