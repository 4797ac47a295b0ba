"""The E-step: sufficient statistics of rows under a mixture, in one pass."""

from dataclasses import dataclass

import numpy as np
from sklearn.utils import gen_batches

# Bytes of rows and responsibilities in a block, so that a block stays in the cache.
_BLOCK_BYTES = 2**19


@dataclass(frozen=True)
class Parameters:
    """A mixture: `K` components in `d` dimensions."""

    weights: np.ndarray  # (K,)
    means: np.ndarray  # (K, d)
    covariances: np.ndarray  # by type
    factors: np.ndarray  # by type: U with U U^T the precision


@dataclass(frozen=True)
class Statistics:
    """What a pass over the rows yields; moments are about the means they used."""

    counts: np.ndarray  # (K,) sums of responsibilities
    first: np.ndarray  # (K, d)
    scatter: np.ndarray  # by type: second moments
    log_likelihood: float  # weighted mean of log p
    lowest_row: int  # the row of the least density


def log_joint(X, parameters, covariance):
    r"""Return :math:`\log \pi_k + \log \mathcal{N}(x; \mu_k, \Sigma_k)`.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        The rows.
    parameters : Parameters
        The mixture.
    covariance : AbstractCovariance
        The shape of its covariances.

    Returns
    -------
    ndarray of shape (n, K)
        The log-density of each row together with each component.
    """
    (n, d), K = X.shape, parameters.weights.size
    joint = np.empty((n, K))
    for k in range(K):
        y = covariance.standardise(X - parameters.means[k], parameters.factors, k)
        with np.errstate(over="ignore"):
            joint[:, k] = np.einsum("ij,ij->i", y, y)  # (n,)
    # So far away that squares overflow, all components are alike.
    np.minimum(joint, np.finfo(np.float64).max, out=joint)
    joint *= -0.5
    with np.errstate(divide="ignore"):  # a weight of 0 has the logarithm -inf
        log_weights = np.log(parameters.weights)  # (K,)
    log_det = covariance.log_det(parameters.factors, K, d)  # (K,)
    joint += log_weights + log_det - 0.5 * d * np.log(2 * np.pi)
    return joint


def log_sum_exp(a):
    """Return the logarithm of the sum of exponentials over columns: (n,)."""
    top = a.max(axis=1)
    return top + np.log(np.exp(a - top[:, None]).sum(axis=1))


def responsibilities(X, parameters, covariance):
    """Return the log-density of rows (n,), and their shares in components (n, K)."""
    joint = log_joint(X, parameters, covariance)
    top = joint.max(axis=1)
    joint -= top[:, None]
    np.exp(joint, out=joint)
    total = joint.sum(axis=1)
    joint /= total[:, None]
    return top + np.log(total), joint


def statistics(X, sample_weight, parameters, covariance):
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

    Returns
    -------
    Statistics
    """
    total, lowest, lowest_row = 0.0, np.inf, 0

    def shares(rows):
        nonlocal total, lowest, lowest_row
        log_density, r = responsibilities(X[rows], parameters, covariance)
        total += sample_weight[rows] @ log_density
        worst = int(log_density.argmin())
        if log_density[worst] < lowest:
            lowest, lowest_row = log_density[worst], rows.start + worst
        return r

    counts, first, scatter = moments(
        X, sample_weight, shares, parameters.means, covariance
    )
    mean = total / sample_weight.sum()
    return Statistics(counts, first, scatter, mean, lowest_row)


def moments(X, sample_weight, shares, origins, covariance):
    """Accumulate the moments of all rows about a point for each component.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        The rows.
    sample_weight : ndarray of shape (n,)
        How many times each row counts.
    shares : callable
        Maps a slice of rows to their (b, K) shares in the components.
    origins : ndarray of shape (K, d)
        The points. Near the new means, they keep the moments free of cancellation.
    covariance : AbstractCovariance
        The shape of the second moments.

    Returns
    -------
    counts : ndarray of shape (K,)
    first : ndarray of shape (K, d)
    scatter : ndarray, by type
    """
    (n, d), K = X.shape, origins.shape[0]
    counts, first = np.zeros(K), np.zeros((K, d))
    scatter = covariance.empty_scatter(K, d)
    for rows in gen_batches(n, max(1, _BLOCK_BYTES // (8 * (K + 2 * d)))):
        r = shares(rows) * sample_weight[rows, None]  # (b, K)
        counts += r.sum(axis=0)
        for k in range(K):
            diff = X[rows] - origins[k]  # (b, d)
            first[k] += r[:, k] @ diff
            covariance.add_scatter(scatter, k, r[:, k], diff)
    return counts, first, scatter


def maximise(counts, first, scatter, origins, previous, covariance, floor, degenerate):
    """Return the parameters that maximise the expected log-likelihood (M-step).

    Parameters
    ----------
    counts, first, scatter : ndarrays
        The moments about `origins`.
    origins : ndarray of shape (K, d)
        The points that the moments are about.
    previous : ndarray, by type
        Covariances for components that no row belongs to.
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
    total = counts.sum()
    # Shares below rounding are no rows at all.
    counts = np.where(counts > 10 * np.finfo(np.float64).eps * total, counts, 0.0)
    shift = first / np.where(counts > 0, counts, 1.0)[:, None]  # (K, d)
    shift[counts == 0] = 0.0
    covariances, at_floor = covariance.from_scatter(
        scatter, counts, shift, previous, floor, degenerate
    )
    parameters = Parameters(
        counts / counts.sum(),
        origins + shift,
        covariances,
        covariance.factors(covariances),
    )
    return parameters, at_floor
