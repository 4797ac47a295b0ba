"""A sample of distinct rows that does not depend on their order or location.

Every row has a hash in [0, 1). The sample consists of the distinct rows with the
smallest hashes, each with its total weight. Samples of blocks merge to the sample of
all rows (a bottom-k sketch: Cohen and Kaplan, 2007, Summarizing data using bottom-k
sketches), so that a cluster of machines draws the same sample as one machine.
"""

from dataclasses import dataclass

import numpy as np

# Hash scale: large enough to separate neighbouring rows, small enough to be stable
# under rounding.
_STIR = 2.0**20


@dataclass(frozen=True)
class Sample:
    """At most `size` distinct rows, in the order of their hashes `numbers`."""

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
    """Return the `Sample` of a block (n, d), of rows with hashes up to `limit`.

    `spread` of all rows makes the hashes independent of the units of the features.
    """
    numbers = _numbers(X, spread)
    near = numbers <= limit
    if not near.all():
        numbers, X, sample_weight = numbers[near], X[near], sample_weight[near]
    return _least(size, numbers, X, sample_weight)


def _numbers(X, spread):
    """Return a hash in [0, 1) of each row (n, d): (n,)."""
    scale = np.sqrt(spread.variances)
    # Any fixed direction without structure will do.
    direction = np.random.RandomState(1).uniform(1.0, 2.0, size=X.shape[1])
    key = np.zeros(X.shape[0])
    # A loop, not a matrix product: equal rows must have equal keys.
    for j in np.flatnonzero(scale > 0):
        key += (X[:, j] - spread.mean[j]) / scale[j] * direction[j]
    with np.errstate(divide="ignore"):
        stirred = _STIR * np.log(np.abs(key))
    return np.where(np.isfinite(stirred), stirred, 0.0) % 1.0


def _least(size, numbers, X, sample_weight):
    """Return the sample of rows with possible repetitions."""
    if numbers.size > 4 * size:
        # Sorting some of the rows is enough, unless most of them are repetitions.
        near = numbers <= np.partition(numbers, 2 * size)[2 * size]
        sample = _distinct(size, numbers[near], X[near], sample_weight[near])
        if sample.numbers.size == size:
            return sample
    return _distinct(size, numbers, X, sample_weight)


def _distinct(size, numbers, X, sample_weight):
    """Return the sample; merge repeated rows."""
    if not numbers.size:
        return Sample(size, numbers, X, sample_weight)
    order = np.argsort(numbers, kind="stable")
    if (np.diff(numbers[order]) == 0).any():
        order = np.lexsort((*X.T[::-1], numbers))  # equal rows become neighbours
    numbers, X, sample_weight = numbers[order], X[order], sample_weight[order]
    differs = numbers[1:] != numbers[:-1]
    alike = np.flatnonzero(~differs)
    differs[alike] = (X[alike + 1] != X[alike]).any(axis=1)
    starts = np.append(0, np.flatnonzero(differs) + 1)
    totals = np.add.reduceat(sample_weight, starts)
    kept = starts[:size]
    return Sample(size, numbers[kept], X[kept], totals[:size])
