"""Rows in blocks of neighbours, each in a box, so that far blocks can be told."""

from dataclasses import dataclass

import numpy as np

# The farthest row that is told from one farther still, in units of the kernel: its
# square is a number.
FARTHEST = 1e150

# Of larger sets, about so many rows tell in which direction they are widest.
_ROWS_FOR_WIDTH = 1024


@dataclass(frozen=True)
class Boxes:
    """Axis-parallel boxes around groups of rows: ``lower <= row <= upper``."""

    lower: np.ndarray  # (b, d)
    upper: np.ndarray  # (b, d)

    def squared_distances(self, lower, upper):
        """Return the least squared distance of a row in each box to another box, (b,).

        `lower` and `upper`, (d,) each, are the corners of the other box.
        """
        gap = np.maximum(self.lower - upper, lower - self.upper)  # (b, d)
        np.clip(gap, 0.0, FARTHEST, out=gap)
        return np.einsum("ij,ij->i", gap, gap)

    def squared_distances_of_rows(self, X):
        """Return the least squared distances of (m, d) rows to the boxes, (m, b)."""
        squares = np.zeros((X.shape[0], self.lower.shape[0]))
        for x, lower, upper in zip(X.T, self.lower.T, self.upper.T, strict=True):
            gap = np.maximum(lower - x[:, None], x[:, None] - upper)  # (m, b)
            np.clip(gap, 0.0, FARTHEST, out=gap)
            gap *= gap
            squares += gap
        return squares


def neighbours_in_blocks(X, size):
    """Split rows at medians until every block is small.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        The rows.
    size : int
        The most rows in a block; all but the last have as many.

    Returns
    -------
    list of ndarray of int
        The rows of each block, neighbours in space.
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
        # A multiple of the size, so that blocks are full.
        half = size * (-(-index.size // size) // 2)
        parts = np.argpartition(X[index, j], half)
        stack += [index[parts[half:]], index[parts[:half]]]
    return blocks


def boxes(X, starts):
    """Return the boxes around runs of (n, d) rows, from each start to the next."""
    columns = np.ascontiguousarray(X.T)
    return Boxes(
        np.minimum.reduceat(columns, starts, axis=1).T,
        np.maximum.reduceat(columns, starts, axis=1).T,
    )
