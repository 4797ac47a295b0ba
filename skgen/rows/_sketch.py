"""Bottom-k sketches: bounded samples of rows that are read block by block.

Every row has a key, and the sample consists of the rows with the smallest keys (Cohen
and Kaplan, 2007, Summarizing data using bottom-k sketches). Samples of blocks add up to
the sample of all rows. If the key is a hash of the row, the sample does not depend on
the order or the location of the rows: a cluster of machines draws the same sample as
one machine. If it is a random number, the sample is uniform, whatever the stream.
"""

from dataclasses import dataclass

import numpy as np

# Hash scale: large enough to separate neighbouring rows, small enough to be stable
# under rounding.
_STIR = 2.0**20

# What a missing entry adds to the projection of a row, in standard deviations.
_MISSING = 0.618034


@dataclass(frozen=True)
class BottomK:
    """At most `size` distinct rows, in the order of their keys."""

    size: int
    keys: np.ndarray  # (m,) ascending
    X: np.ndarray  # (m, d)
    sample_weight: np.ndarray  # (m,)

    def __add__(self, other):
        return _smallest(
            self.size,
            np.concatenate([self.keys, other.keys]),
            np.concatenate([self.X, other.X]),
            np.concatenate([self.sample_weight, other.sample_weight]),
        )

    def smallest(self, size):
        """Return the sample of at most `size` of these rows."""
        few = slice(0, size)
        return BottomK(size, self.keys[few], self.X[few], self.sample_weight[few])

    @property
    def n_distinct(self):
        """Return an estimate of the number of distinct rows that were sampled."""
        m = self.keys.size
        return m if m < self.size else m / self.keys[-1]


def sample_of(X, sample_weight, *, size, moments, limit=1.0):
    """Return the `BottomK` of a block (n, d), of rows with hashes up to `limit`.

    `moments` of all rows make the hashes independent of the units of the features.
    """
    keys = hashes(X, moments)
    near = keys <= limit
    if not near.all():
        keys, X, sample_weight = keys[near], X[near], sample_weight[near]
    return _smallest(size, keys, X, sample_weight)


def random_keys(n, size, rng):
    """Draw keys for n rows; return the smallest ones, ascending, and their rows."""
    keys = rng.uniform(size=n)
    rows = np.argsort(keys, kind="stable")[:size]
    return keys[rows], rows


def position_keys(start, n, seed):
    """Return a random number in [0, 1) for each position from `start` on: (n,)."""
    # The finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
    x = np.arange(start, start + n, dtype=np.uint64) ^ np.uint64(seed << 32)
    x = (x + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53


def hashes(X, moments):
    """Return a hash in [0, 1) of each row (n, d): (n,)."""
    scale = np.sqrt(moments.variances)
    # Any fixed direction without structure will do.
    direction = np.random.RandomState(1).uniform(1.0, 2.0, size=X.shape[1])
    projection = np.zeros(X.shape[0])
    # A loop, not a matrix product: equal rows must have equal hashes.
    for j in np.flatnonzero(scale > 0):
        part = (X[:, j] - moments.mean[j]) / scale[j] * direction[j]
        projection += np.where(np.isnan(part), _MISSING * direction[j], part)
    with np.errstate(divide="ignore"):
        stirred = _STIR * np.log(np.abs(projection))
    return np.where(np.isfinite(stirred), stirred, 0.0) % 1.0


def unequal(A, B):
    """Return which rows (m, d) of two arrays differ: (m,). NaN is equal to NaN."""
    return ((A != B) & ~(np.isnan(A) & np.isnan(B))).any(axis=1)


def _smallest(size, keys, X, sample_weight):
    """Return the sample of rows with possible repetitions."""
    if keys.size > 4 * size:
        # Sorting some of the rows is enough, unless most of them are repetitions.
        near = keys <= np.partition(keys, 2 * size)[2 * size]
        sample = _distinct(size, keys[near], X[near], sample_weight[near])
        if sample.keys.size == size:
            return sample
    return _distinct(size, keys, X, sample_weight)


def _distinct(size, keys, X, sample_weight):
    """Return the sample; merge repeated rows."""
    if not keys.size:
        return BottomK(size, keys, X, sample_weight)
    order = np.argsort(keys, kind="stable")
    if (np.diff(keys[order]) == 0).any():
        order = np.lexsort((*X.T[::-1], keys))  # equal rows become neighbours
    keys, X, sample_weight = keys[order], X[order], sample_weight[order]
    differs = keys[1:] != keys[:-1]
    alike = np.flatnonzero(~differs)
    differs[alike] = unequal(X[alike + 1], X[alike])
    starts = np.append(0, np.flatnonzero(differs) + 1)
    totals = np.add.reduceat(sample_weight, starts)
    kept = starts[:size]
    return BottomK(size, keys[kept], X[kept], totals[:size])
