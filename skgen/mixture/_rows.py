"""Canonical order of rows, independent of their given order and repetitions."""

import numpy as np


def canonical_rows(X, sample_weight):
    """Return the distinct rows (m, d) in canonical order, and their weights (m,)."""
    # Shuffled rows, and a row given twice or once with a weight of 2, then lead to the
    # same fit to the last bit. The projection is scaled and oriented by its skewness:
    # shifted and rescaled data keep their order.
    key = _generic_projection(X)  # (n,)
    order = np.argsort(key, kind="stable")
    differs = key[order[1:]] != key[order[:-1]]  # (n - 1,)
    alike = np.flatnonzero(~differs)  # few rows are left to compare
    differs[alike] = (X[order[alike + 1]] != X[order[alike]]).any(axis=1)
    if differs[alike].any():
        # With a far outlier, rounding may remove small columns from the key.
        order = np.lexsort((*X.T[::-1], key))
        differs = (X[order[1:]] != X[order[:-1]]).any(axis=1)
    X, key = X[order], key[order]
    first = np.append(True, differs)
    starts = np.flatnonzero(first)
    if starts.size == X.shape[0]:
        weights = sample_weight[order]
    else:
        # Sort the weights as well, so that their sums are rounded equally.
        group = np.cumsum(first)
        weights = sample_weight[order]
        weights = np.add.reduceat(weights[np.lexsort((weights, group))], starts)
        X, key = X[starts], key[starts]
    centred = key - np.average(key, weights=weights)
    if weights @ centred**3 < 0:
        return X[::-1].copy(), weights[::-1].copy()
    return X, weights


def _generic_projection(X):
    """Return a projection (n,) of rows that rarely maps distinct rows to one value."""
    low, high = X.min(axis=0), X.max(axis=0)
    span = np.where(high > low, high - low, 1.0)
    # Any fixed direction without structure will do.
    direction = np.random.RandomState(0).uniform(1.0, 2.0, size=X.shape[1])
    key = np.zeros(X.shape[0])
    # A loop, not a matrix product: equal rows must have equal keys.
    for j in range(X.shape[1]):
        key += (X[:, j] - low[j]) / span[j] * direction[j]
    return key
