"""A sample of distinct rows that is the same wherever they lie, in whatever order.

Every row gets a number in [0, 1) that follows from the row alone; the sample are the
distinct rows of the least numbers, each with its whole weight. Samples of blocks of
rows merge to that of all (a bottom-k sketch: Cohen and Kaplan, 2007, Summarizing data
using bottom-k sketches), so that a cluster of machines draws the same as one machine.
"""

from dataclasses import dataclass

import numpy as np

# The logarithm of a projection times this: neighbours get unlike numbers, and rounding
# changes the number of none.
_STIR = 2.0**20


@dataclass(frozen=True)
class Sample:
    """Distinct rows by their numbers, at most `size` of them."""

    size: int
    numbers: np.ndarray  # (m,) ascending
    X: np.ndarray  # (m, d)
    sample_weight: np.ndarray  # (m,)

    def __add__(self, other):
        return _least(
            self.size,
            np.concatenate([self.numbers, other.numbers]),
            np.concatenate([self.X, other.X]),
            np.concatenate([self.sample_weight, other.sample_weight]),
        )


def sample_of(X, sample_weight, *, size, spread, limit=1.0):
    """Return the sample of a block of rows.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        The rows.
    sample_weight : ndarray of shape (n,)
        How many times each counts.
    size : int
        The most distinct rows to take.
    spread : Spread
        Of all rows: numbers do not follow the units of the features.
    limit : float, default=1.0
        Leaves out rows of larger numbers, which a sample of `size` has no room for.

    Returns
    -------
    Sample
    """
    numbers = _numbers(X, spread)
    near = numbers <= limit
    if not near.all():
        numbers, X, sample_weight = numbers[near], X[near], sample_weight[near]
    return _least(size, numbers, X, sample_weight)


def _numbers(X, spread):
    """Return a number in [0, 1) for each row (n, d): (n,)."""
    scale = np.sqrt(spread.variances)
    # Any fixed irregular direction serves; the seed only fixes one.
    direction = np.random.RandomState(1).uniform(1.0, 2.0, size=X.shape[1])
    key = np.zeros(X.shape[0])
    # By columns, not by a matrix product: equal rows must have equal keys.
    for j in np.flatnonzero(scale > 0):
        key += (X[:, j] - spread.mean[j]) / scale[j] * direction[j]
    with np.errstate(divide="ignore"):
        stirred = _STIR * np.log(np.abs(key))
    return np.where(np.isfinite(stirred), stirred, 0.0) % 1.0


def _least(size, numbers, X, sample_weight):
    """Return the sample of rows that may repeat each other."""
    if numbers.size > 4 * size:
        # Enough, unless rows repeat each other much: there is no need to sort all.
        near = numbers <= np.partition(numbers, 2 * size)[2 * size]
        sample = _distinct(size, numbers[near], X[near], sample_weight[near])
        if sample.numbers.size == size:
            return sample
    return _distinct(size, numbers, X, sample_weight)


def _distinct(size, numbers, X, sample_weight):
    """Return the sample, with every row once."""
    if not numbers.size:
        return Sample(size, numbers, X, sample_weight)
    order = np.argsort(numbers, kind="stable")
    if (np.diff(numbers[order]) == 0).any():
        order = np.lexsort((*X.T[::-1], numbers))  # equal rows stand side by side
    numbers, X, sample_weight = numbers[order], X[order], sample_weight[order]
    differs = numbers[1:] != numbers[:-1]
    alike = np.flatnonzero(~differs)
    differs[alike] = (X[alike + 1] != X[alike]).any(axis=1)
    starts = np.append(0, np.flatnonzero(differs) + 1)
    totals = np.add.reduceat(sample_weight, starts)
    kept = starts[:size]
    return Sample(size, numbers[kept], X[kept], totals[:size])
