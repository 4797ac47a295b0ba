"""Where EM starts: a share of every row in every component."""

import numpy as np
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.metrics import pairwise_distances_argmin

INIT_PARAMS = ("kmeans", "k-means++", "random", "random_from_data")


def initial_shares(X, sample_weight, n_components, method, rng):
    """Return a function from a slice of rows to their shares in the components.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Distinct rows in whitened coordinates.
    sample_weight : ndarray of shape (n,)
        How many times each counts.
    n_components : int
        The number `K` of components.
    method : {"kmeans", "k-means++", "random", "random_from_data"}
        The clusters of k-means; the rows nearest to each of K seeds, drawn by
        k-means++ or at random from the rows; or random shares.
    rng : RandomState
        Where random choices come from.

    Returns
    -------
    callable
        Maps a slice of rows to an array of shape (b, K) whose rows sum to one.
    """
    if method == "random":
        shares = rng.uniform(size=(X.shape[0], n_components))
        shares /= shares.sum(axis=1, keepdims=True)
        return lambda rows: shares[rows]
    labels = _labels(X, sample_weight, min(n_components, X.shape[0]), method, rng)
    identity = np.eye(n_components)
    return lambda rows: identity[labels[rows]]


def _labels(X, sample_weight, n_seeds, method, rng):
    """Return the component that each row belongs to at first: (n,)."""
    if method == "kmeans":
        kmeans = KMeans(n_seeds, n_init=1, random_state=rng)
        return kmeans.fit(X, sample_weight=sample_weight).labels_
    if method == "k-means++":
        seeds, _ = kmeans_plusplus(
            X, n_seeds, sample_weight=sample_weight, random_state=rng
        )
    else:
        # Rounding must leave every row a chance, for there may be no other to draw.
        p = np.maximum(sample_weight / sample_weight.sum(), np.finfo(float).tiny)
        p /= p.sum()
        seeds = X[rng.choice(X.shape[0], n_seeds, replace=False, p=p)]
    return pairwise_distances_argmin(X, seeds)
