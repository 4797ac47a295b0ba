"""Blocks of neighbouring rows in bounding boxes, so that distant blocks are skipped."""

from dataclasses import dataclass

import numpy as np

# Distances are capped at this many bandwidths, so that their squares are finite.
FARTHEST = 1e150

# Number of rows that determine the widest feature of a larger set.
_ROWS_FOR_WIDTH = 1024


@dataclass(frozen=True)
class Boxes:
    """Bounding boxes of groups of rows: ``lower <= row <= upper``."""

    lower: np.ndarray  # (b, d)
    upper: np.ndarray  # (b, d)

    def squared_distances(self, lower, upper):
        """Return the squared distance of each box to the box `lower` to `upper`: (b,).

        The corners `lower` and `upper` have the shape (d,).
        """
        gap = np.maximum(self.lower - upper, lower - self.upper)  # (b, d)
        np.clip(gap, 0.0, FARTHEST, out=gap)
        return np.einsum("ij,ij->i", gap, gap)

    def squared_distances_of_rows(self, X):
        """Return the squared distances of (m, d) rows to the boxes: (m, b)."""
        squares = np.zeros((X.shape[0], self.lower.shape[0]))
        for x, lower, upper in zip(X.T, self.lower.T, self.upper.T, strict=True):
            gap = np.maximum(lower - x[:, None], x[:, None] - upper)  # (m, b)
            np.clip(gap, 0.0, FARTHEST, out=gap)
            gap *= gap
            squares += gap
        return squares


def neighbours_in_blocks(X, size):
    """Return the row indices of blocks of (n, d) rows, split at medians.

    Every block has `size` rows, except for the last.
    """
    if X.shape[1] == 1:
        order = np.argsort(X[:, 0])
        return [order[i : i + size] for i in range(0, order.size, size)]
    blocks, stack = [], [np.arange(X.shape[0])] if X.shape[0] else []
    while stack:
        index = stack.pop()
        if index.size <= size:
            blocks.append(index)
            continue
        some = X[index[:: max(1, index.size // _ROWS_FOR_WIDTH)]]
        j = (some.max(axis=0) - some.min(axis=0)).argmax()
        # A multiple of the size, so that only the last block has fewer rows.
        half = size * (-(-index.size // size) // 2)
        parts = np.argpartition(X[index, j], half)
        stack += [index[parts[half:]], index[parts[:half]]]
    return blocks


def boxes(X, starts):
    """Return the bounding boxes of runs of (n, d) rows that begin at `starts` (b,)."""
    columns = np.ascontiguousarray(X.T)
    return Boxes(
        np.minimum.reduceat(columns, starts, axis=1).T,
        np.maximum.reduceat(columns, starts, axis=1).T,
    )
