"""Initialisation methods: a responsibility of each component for each row."""

import numpy as np
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.metrics import pairwise_distances_argmin

INIT_PARAMS = ("kmeans", "k-means++", "random", "random_from_data")


def initial_shares(X, sample_weight, n_components, method, rng):
    """Return a function from a slice of rows to their responsibilities (b, K).

    `X` (n, d) are distinct rows in whitened coordinates.
    """
    if method == "random":
        shares = rng.uniform(size=(X.shape[0], n_components))
        shares /= shares.sum(axis=1, keepdims=True)
        return lambda rows: shares[rows]
    labels = _labels(X, sample_weight, min(n_components, X.shape[0]), method, rng)
    identity = np.eye(n_components)
    return lambda rows: identity[labels[rows]]


def _labels(X, sample_weight, n_seeds, method, rng):
    """Return the initial component of each row: (n,)."""
    if method == "kmeans":
        kmeans = KMeans(n_seeds, n_init=1, random_state=rng)
        return kmeans.fit(X, sample_weight=sample_weight).labels_
    if method == "k-means++":
        seeds, _ = kmeans_plusplus(
            X, n_seeds, sample_weight=sample_weight, random_state=rng
        )
    else:
        # `choice` without replacement needs `n_seeds` positive probabilities.
        p = np.maximum(sample_weight / sample_weight.sum(), np.finfo(float).tiny)
        p /= p.sum()
        seeds = X[rng.choice(X.shape[0], n_seeds, replace=False, p=p)]
    return pairwise_distances_argmin(X, seeds)
