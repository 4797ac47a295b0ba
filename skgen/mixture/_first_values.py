"""Initial parameters for gradient descent: clusters of a sample of the rows."""

import numpy as np
from sklearn.utils.extmath import randomized_svd

from skgen.mixture._covariance import COVARIANCES
from skgen.mixture._lowrank import LowRank
from skgen.mixture._pass import Problem
from skgen.mixture._restarts import best_start, initial_clusters
from skgen.rows._source import canonical_rows

# Maximum number of rows in the sample for gradient descent: the larger of a total and
# of a number per component.
_ROWS, _ROWS_PER_COMPONENT = 20_000, 400


def n_sampled(n_components):
    """Return the maximum number of rows in the sample."""
    return max(_ROWS, _ROWS_PER_COMPONENT * n_components)


def first_values(X, n_components, covariance, rank, method, floor, rng, factor=None):
    """Return initial weights (K,), means (K, d) and covariances from rows (n, d).

    Rows are in whitened coordinates, of which none is constant, with the `factor` of
    `coordinates`. Covariances have their public shape.
    """
    K, (n, d) = n_components, X.shape
    low_rank = isinstance(covariance, LowRank)
    estimated = COVARIANCES["diag"] if low_rank else covariance
    # In modules shared variances have the shape (1, d), pooled variances (K,).
    one = estimated.shared and not (estimated.dense or estimated.pooled)
    if d == 0:  # all features are constant
        shape = (K, 0, rank + 1) if low_rank else covariance.shape(K, 0)
        return np.full(K, 1 / K), np.zeros((K, 0)), np.zeros((1, 0) if one else shape)
    X, sample_weight = canonical_rows(X, np.ones(n))
    problem = Problem(X, sample_weight, estimated, floor, np.zeros(d, dtype=bool))
    starts = list(initial_clusters(problem, K, method, factor, rng))
    responsibilities = starts[0]
    if len(starts) > 1:
        responsibilities = starts[best_start(starts, problem, K)]
    found = problem.from_responsibilities(responsibilities, K)
    weights, means, covariances = found.weights, found.means, found.covariances
    # With fewer distinct rows than components, some components are empty.
    for k in np.flatnonzero(weights == 0):
        means[k] = X[rng.randint(X.shape[0])]
    if not estimated.shared:
        # Small clusters determine their covariance poorly. Shrink it towards the
        # average covariance, which counts as d rows, or as 2 rows for variances.
        average = np.average(covariances, axis=0, weights=weights)
        counts = (weights * n).reshape(-1, *[1] * average.ndim)
        more = d if estimated.dense else 2
        covariances = (counts * covariances + more * average) / (counts + more)
    if low_rank:
        r = responsibilities(slice(None)) * sample_weight[:, None]  # (n, K)
        values = zip(r.T, means, covariances, strict=True)
        covariances = np.stack([low_rank_of(X, *value, rank, rng) for value in values])
    weights = np.maximum(weights, 0.5 / max(n, K))
    covariances = covariance.public(covariances)
    return weights / weights.sum(), means, covariances[None] if one else covariances


def low_rank_of(X, r, mean, variances, rank, rng):
    """Return the low rank plus diagonal covariance of a cluster: (d, r + 1).

    `r` are the weighted responsibilities of the rows (n,).
    """
    # Probabilistic PCA (Tipping and Bishop, 1999): the leading directions, less the
    # mean variance of the others.
    d = variances.size
    columns = np.zeros((d, rank + 1))
    columns[:, -1] = variances
    rows = r > 0
    rank = min(rank, int(rows.sum()) - 1, d - 1)
    if rank < 1:
        return columns
    centred = np.sqrt(r[rows, None]) * (X[rows] - mean)  # (m, d)
    _, roots, directions = randomized_svd(
        centred, rank, n_iter=2, power_iteration_normalizer="QR", random_state=rng
    )
    captured = roots**2 / r.sum()  # (rank,)
    rest = max((variances.sum() - captured.sum()) / (d - rank), 0.0)
    loadings = directions.T * np.sqrt(np.maximum(captured - rest, 0.0))  # (d, rank)
    columns[:, :rank] = loadings
    columns[:, -1] = np.maximum(variances - (loadings**2).sum(axis=1), 0.1 * variances)
    return columns
