"""One order for the same rows, whatever order and however often they came."""

import numpy as np


def canonical_rows(X, sample_weight):
    """Merge equal rows and put them in an order of their own.

    A fit that starts here gives the same answer, to the last bit, for shuffled
    rows, and for a row that comes twice or once with a weight of 2. Rows are
    sorted along one generic direction, oriented by its skewness, so that shifted
    and rescaled data keep their order as well.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        The rows.
    sample_weight : ndarray of shape (n,)
        How many times each counts.

    Returns
    -------
    X : ndarray of shape (m, d)
        The distinct rows.
    sample_weight : ndarray of shape (m,)
        The sums of their weights.
    """
    key = _generic_projection(X)  # (n,)
    order = np.argsort(key, kind="stable")
    differs = key[order[1:]] != key[order[:-1]]  # (n - 1,)
    alike = np.flatnonzero(~differs)  # few: the others need not be looked at
    differs[alike] = (X[order[alike + 1]] != X[order[alike]]).any(axis=1)
    if differs[alike].any():
        # Beside a far outlier, small columns may be lost to the key.
        order = np.lexsort((*X.T[::-1], key))
        differs = (X[order[1:]] != X[order[:-1]]).any(axis=1)
    X, key = X[order], key[order]
    first = np.append(True, differs)
    starts = np.flatnonzero(first)
    if starts.size == X.shape[0]:
        weights = sample_weight[order]
    else:
        # In an order of their own as well, or their sums would differ by rounding.
        group = np.cumsum(first)
        weights = sample_weight[order]
        weights = np.add.reduceat(weights[np.lexsort((weights, group))], starts)
        X, key = X[starts], key[starts]
    centred = key - np.average(key, weights=weights)
    if weights @ centred**3 < 0:
        return X[::-1].copy(), weights[::-1].copy()
    return X, weights


def _generic_projection(X):
    """Project rows, scaled to the unit cube, so that distinct rows rarely meet."""
    low, high = X.min(axis=0), X.max(axis=0)
    span = np.where(high > low, high - low, 1.0)
    # Any fixed irregular direction serves; the seed only fixes one.
    direction = np.random.RandomState(0).uniform(1.0, 2.0, size=X.shape[1])
    key = np.zeros(X.shape[0])
    # By columns, not by a matrix product: equal rows must have equal keys.
    for j in range(X.shape[1]):
        key += (X[:, j] - low[j]) / span[j] * direction[j]
    return key
