"""Rows in a memory map, read block by block."""

import numpy as np
from sklearn.utils.validation import validate_data

from skgen._checks import present, validated_weight
from skgen._threads import in_parallel
from skgen.base import working_memory
from skgen.rows._dask import added
from skgen.rows._source import AbstractTable, scaled_weights

# Number of values in a block (a few megabytes per thread), and of tasks. Blocks of a
# task are summed sequentially.
_BLOCK, _TASKS = 2**19, 64

# Number of float64 copies of the rows that a fit in memory needs.
_COPIES = 3


def is_mapped(X):
    """Return whether X is a numeric memory map too large to copy into memory."""
    if not isinstance(X, np.ndarray) or X.ndim != 2 or X.dtype.kind not in "fiu":
        return False
    if _COPIES * 8 * X.size <= working_memory():
        return False
    while isinstance(X, np.ndarray):
        if isinstance(X, np.memmap):
            return True
        X = X.base
    return False


class MappedTable(AbstractTable):
    """A memory-mapped array (n, d) and unchecked weights (n,) or None."""

    def __init__(self, model, X, sample_weight):
        validate_data(model, X, skip_check_array=True)
        super().__init__(model, X.shape[1], X.dtype)
        self.X, self.sample_weight = np.asarray(X), None
        if sample_weight is not None:
            weights = validated_weight(model, sample_weight, X.shape[0])
            self._weight = weights.sum()
            self.sample_weight = scaled_weights(weights)

    def counted(self, spread):
        if self.sample_weight is None:
            return super().counted(spread)
        return spread.n_rows, self._weight

    def total(self, function):
        n, d = self.X.shape
        size = max(1, _BLOCK // d)
        blocks = [slice(start, min(start + size, n)) for start in range(0, n, size)]
        per_task = -(-len(blocks) // _TASKS)

        def run(task):
            pairs = map(self._block, task)
            return added(function(*pair) for pair in pairs if pair[1].size)

        tasks = [
            blocks[first : first + per_task]
            for first in range(0, len(blocks), per_task)
        ]
        return added(in_parallel(run, tasks))

    def _block(self, rows):
        """Return the float64 rows of positive weight, and their weights."""
        X = self.X[rows].astype(np.float64, order="C")
        if self.sample_weight is None:
            return X, np.ones(X.shape[0])
        return present(X, self.sample_weight[rows])
