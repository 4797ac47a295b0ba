"""Where gradient descent starts: clusters of some of the rows."""

import numpy as np
from sklearn.utils.extmath import randomized_svd

from skgen.mixture._covariance import COVARIANCES
from skgen.mixture._init import initial_shares
from skgen.mixture._problem import Problem
from skgen.mixture._rows import canonical_rows

# Rows that the clusters are looked for in: so many, and so many a component.
_ROWS, _ROWS_PER_COMPONENT = 20_000, 400


def start_rows(n, n_components, rng):
    """Return the numbers of the rows to look for clusters in."""
    most = max(_ROWS, _ROWS_PER_COMPONENT * n_components)
    return np.arange(n) if n <= most else np.sort(rng.choice(n, most, replace=False))


def first_values(X, n_components, covariance_type, rank, method, floor, rng):
    """Return the weights, means and covariances of clusters of rows.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Rows in whitened coordinates. No coordinate is constant.
    n_components : int
        The number `K` of components.
    covariance_type : {"full", "tied", "diag", "spherical", "lowrank"}
        The shape of their covariances.
    rank : int
        The number `r` of directions of "lowrank".
    method : {"kmeans", "k-means++", "random", "random_from_data"}
        As `initial_shares` takes it.
    floor : float
        The least variance in any direction.
    rng : RandomState
        Where random choices come from.

    Returns
    -------
    weights : ndarray of shape (K,)
    means : ndarray of shape (K, d)
    covariances : ndarray, by type
    """
    K, (n, d) = n_components, X.shape
    if d == 0:  # nothing varies
        shape = {"full": (K, 0, 0), "tied": (0, 0), "lowrank": (K, 0, rank + 1)}
        covariances = np.zeros(shape.get(covariance_type, (K, 0)))
        return np.full(K, 1 / K), np.zeros((K, 0)), covariances
    X, sample_weight = canonical_rows(X, np.ones(X.shape[0]))
    low_rank = covariance_type == "lowrank"
    covariance = COVARIANCES["diag" if low_rank else covariance_type]
    regular = np.zeros(d, dtype=bool)
    problem = Problem(X, sample_weight, covariance, floor, regular)
    shares = initial_shares(X, sample_weight, K, method, rng)
    found = problem.from_shares(shares, K)
    weights, means, covariances = found.weights, found.means, found.covariances
    # Fewer distinct rows than components leave some of them without any.
    for k in np.flatnonzero(weights == 0):
        means[k] = X[rng.randint(X.shape[0])]
    if covariance_type != "tied":
        # A cluster of few rows knows little of its own width: as many rows of the
        # average cluster as it takes to know it are added.
        counts = (weights * n).reshape(-1, *[1] * (covariances.ndim - 1))
        average = np.average(covariances, axis=0, weights=weights)
        more = d if covariance_type == "full" else 2
        covariances = (counts * covariances + more * average) / (counts + more)
    if low_rank:
        r = shares(slice(0, X.shape[0])) * sample_weight[:, None]  # (n, K)
        covariances = np.stack(
            [
                _factors(X, r[:, k], means[k], covariances[k], rank, rng)
                for k in range(K)
            ]
        )
    weights = np.maximum(weights, 0.5 / max(n, K))
    return weights / weights.sum(), means, covariances


def _factors(X, shares, mean, variances, rank, rng):
    """Split the covariance of a cluster in `rank` directions and a rest: (d, r + 1).

    The directions are the leading ones of the cluster, less the mean variance of
    all others, as in probabilistic PCA (Tipping and Bishop, 1999).
    """
    d = variances.size
    columns = np.zeros((d, rank + 1))
    columns[:, -1] = variances
    rows = shares > 0
    total = shares.sum()
    rank = min(rank, int(rows.sum()) - 1, d - 1)
    if rank < 1:
        return columns
    centred = np.sqrt(shares[rows, None]) * (X[rows] - mean)  # (m, d)
    _, roots, directions = randomized_svd(
        centred, rank, n_iter=2, power_iteration_normalizer="QR", random_state=rng
    )
    captured = roots**2 / total  # (r,)
    rest = max((variances.sum() - captured.sum()) / (d - rank), 0.0)
    loadings = directions.T * np.sqrt(np.maximum(captured - rest, 0.0))  # (d, r)
    columns[:, :rank] = loadings
    columns[:, -1] = np.maximum(variances - (loadings**2).sum(axis=1), 0.1 * variances)
    return columns
