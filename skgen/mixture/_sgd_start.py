"""Initialisation of gradient descent by clusters of a sample of the rows."""

import numpy as np
from sklearn.utils.extmath import randomized_svd

from skgen.mixture._covariance import COVARIANCES
from skgen.mixture._init import initial_shares
from skgen.mixture._pass import Problem
from skgen.rows._source import canonical_rows

# Maximum number of rows in the sample: the larger of a total and of a number per
# component.
_ROWS, _ROWS_PER_COMPONENT = 20_000, 400


def start_rows(n, n_components, rng):
    """Return the sorted indices of the rows in the sample."""
    most = max(_ROWS, _ROWS_PER_COMPONENT * n_components)
    return np.arange(n) if n <= most else np.sort(rng.choice(n, most, replace=False))


def first_values(X, n_components, covariance_type, rank, method, floor, rng):
    """Return initial weights (K,), means (K, d) and covariances from rows (n, d).

    Rows are in whitened coordinates, of which none is constant.
    """
    K, (n, d) = n_components, X.shape
    if d == 0:  # all features are constant
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
    weights, means = found.weights, found.means
    covariances = covariance.public(found.covariances)
    # With fewer distinct rows than components, some components are empty.
    for k in np.flatnonzero(weights == 0):
        means[k] = X[rng.randint(X.shape[0])]
    if covariance_type != "tied":
        # Small clusters determine their covariance poorly. Shrink it towards the
        # average covariance, which counts as d rows, or as 2 rows for variances.
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
    """Return the low rank plus diagonal covariance of a cluster: (d, r + 1).

    `shares` are the weighted responsibilities of the rows (n,).
    """
    # Probabilistic PCA (Tipping and Bishop, 1999): the leading directions, less the
    # mean variance of the others.
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
