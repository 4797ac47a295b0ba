"""Rows to train a net: in memory, or read from their source in each epoch.

In memory, an epoch takes all rows in random order. Elsewhere it takes one *pool* after
another, which is filled with blocks in random order where the source allows any order,
and trains on the rows of a pool in random order. A random number for the position of a
row decides whether the row is held out, so that no pass has to remember rows.
"""

from abc import ABC, abstractmethod

import numpy as np
import torch

from skgen.neural._batches import equal_sizes, placed
from skgen.rows._moments import (
    ObservedMoments,
    moments_of,
    observed_moments_of,
    projected_moments,
)
from skgen.rows._sketch import BottomK, position_keys

# Maximum number of values of a pool, of the held-out rows and of the sample of the
# training rows, which are in memory.
_POOL, _HELD_OUT, _SAMPLE = 2**23, 2**23, 2**22


class TrainingRows(ABC):
    """Rows (n, d) in the units of the data, of which some are held out."""

    @property
    @abstractmethod
    def shape(self):
        """Return the number of rows and of features."""

    @property
    @abstractmethod
    def n_held_out(self):
        """Return the number of rows that are held out."""

    @property
    @abstractmethod
    def moments(self):
        """Return the moments of all rows: `ObservedMoments` if they are incomplete."""

    @property
    @abstractmethod
    def incomplete(self):
        """Return whether rows have NaN."""

    @abstractmethod
    def projected(self, **projection):
        """Return the `projected_moments` of all rows."""

    @abstractmethod
    def sample(self, most, rng):
        """Return at most `most` training rows (m, d); None returns as many as can be.

        Rows in memory are drawn with `rng`.
        """

    @abstractmethod
    def placed(self, encode, device):
        """Return the encoded training rows, held-out rows or None, and all rows.

        `encode` maps rows (b, d) to the float32 inputs of the net.
        """


class RowsInMemory(TrainingRows):
    """Rows X (n, d), of which the first `n_training` in the given order train.

    labels: (n,) numbers that are a last column of the rows for the net, or None.
    """

    def __init__(self, X, full, order=None, n_training=None, labels=None):
        self._X, self._full, self._labels = X, full, labels
        self._order = np.arange(X.shape[0]) if order is None else order
        self._n_training = X.shape[0] if n_training is None else n_training

    @property
    def shape(self):
        return self._X.shape

    @property
    def n_held_out(self):
        return self.shape[0] - self._n_training

    @property
    def moments(self):
        weights = np.ones(self.shape[0])
        if self.incomplete:
            return observed_moments_of(self._X, weights)
        return moments_of(self._X, weights, full=self._full)

    @property
    def incomplete(self):
        return bool(np.isnan(self._X).any())

    def projected(self, **projection):
        return projected_moments(self._X, np.ones(self.shape[0]), **projection)

    def sample(self, most, rng):
        n, training = self._n_training, self._order[: self._n_training]
        if most is not None and n > most:
            training = training[np.sort(rng.choice(n, most, replace=False))]
        return self._X[training]

    def placed(self, encode, device):
        n, order = self._n_training, torch.from_numpy(self._order)
        rows = encode(self._X)
        if self._labels is not None:
            rows = np.column_stack([rows, self._labels.astype(rows.dtype)])
        rows = placed(torch.from_numpy(rows)[order], device)
        return rows[:n], rows[n:] if n < self.shape[0] else None, rows


class StreamedRows(TrainingRows):
    """Rows of a source that is not in memory, of which `n_held_out` are held out."""

    def __init__(self, source, moments, n_held_out, seed):
        self.source, self._moments, self._seed = source, moments, seed
        n, d = self.shape
        n_held_out = min(n_held_out, _HELD_OUT // d)
        reserved = (n_held_out + max(1, _SAMPLE // d)) / n
        rows, keys = [], []
        for start, X in source.blocks():
            key = self.keys(start, X)
            some = key < reserved
            rows.append(X[some])
            keys.append(key[some])
        keys = np.concatenate(keys)
        order = np.argsort(keys, kind="stable")
        self._reserved, self._reserved_keys = np.concatenate(rows)[order], keys[order]
        # Rows with keys of at least this limit are training rows.
        self.limit = self._reserved_keys[n_held_out] if n_held_out else 0.0
        self._n_held_out = n_held_out

    @property
    def shape(self):
        return self._moments.n_rows, self.source.n_features

    @property
    def n_held_out(self):
        return self._n_held_out

    @property
    def moments(self):
        return self._moments

    @property
    def incomplete(self):
        return isinstance(self._moments, ObservedMoments)

    def projected(self, **projection):
        return self.source.projected(**projection)

    def sample(self, most, rng=None):
        return self._reserved[self._n_held_out :][:most]

    def keys(self, start, X):
        """Return a random number in [0, 1) of each row (b, d): (b,)."""
        return position_keys(start, X.shape[0], self._seed)

    def placed(self, encode, device):
        n, h, encoded = self.shape[0], self._n_held_out, encode(self._reserved)
        keys = (self._reserved_keys[h:] - self.limit) / (1 - self.limit)
        sketch = BottomK(keys.size, keys, encoded[h:], np.ones(keys.size))
        training = Stream(self, encode, device, sketch, n - h, self.limit)
        held_out = torch.from_numpy(encoded[:h]).to(device) if h else None
        return training, held_out, Stream(self, encode, device, sketch, n, 0.0)


class Stream:
    """Encoded rows (n, d) with keys of at least `limit`, read pool by pool.

    `sketch` holds some of the training rows.
    """

    def __init__(self, rows, encode, device, sketch, n, limit):
        self._rows, self._encode, self._device = rows, encode, device
        self.sketch, self._limit = sketch, limit
        self.shape = n, *sketch.X.shape[1:]
        largest = max(1, _POOL // max(1, self.shape[1]))
        self.pool_sizes = equal_sizes(n, -(-n // largest))

    def sample(self):
        """Return some of the training rows on the device: (m, d)."""
        return torch.from_numpy(self.sketch.X).to(self._device)

    def pools(self, generator=None):
        """Yield the pools, tensors (m, d); a `generator` shuffles the blocks."""
        source, order = self._rows.source, None
        if generator is not None and source.n_blocks and len(self.pool_sizes) > 1:
            order = torch.randperm(source.n_blocks, generator=generator).tolist()
        sizes, pool, filled = iter(self.pool_sizes), np.empty(0), 0
        for start, X in source.blocks(order):
            X = X[self._rows.keys(start, X) >= self._limit]
            Z = self._encode(X) if X.size else X
            while Z.shape[0]:
                if filled == pool.shape[0]:
                    size = next(sizes, Z.shape[0])  # the source raises at its end
                    pool, filled = np.empty((size, *Z.shape[1:]), Z.dtype), 0
                n = min(pool.shape[0] - filled, Z.shape[0])
                pool[filled : filled + n] = Z[:n]
                filled, Z = filled + n, Z[n:]
                if filled == pool.shape[0]:
                    yield torch.from_numpy(pool).to(self._device)


def some_rows(rows, least):
    """Return at least `least` of the rows, unless there are fewer: (m, d)."""
    rows = rows.sample() if isinstance(rows, Stream) else rows
    return rows[:: max(1, rows.shape[0] // least)]
