"""Rows that a function yields block by block, again for every pass."""

import numpy as np

from skgen._checks import (
    Described,
    present,
    validated_rows,
    validated_weight,
    wrong_argument,
)
from skgen.rows._source import Rows, added

_RULE = (
    "rows, or a function without arguments that returns an iterator over blocks of "
    "rows, or over pairs of rows and their weights"
)


class IteratedRows(Rows):
    """Blocks from a function that returns an iterator over (b, d) rows.

    A block may also be a pair of rows and weights (b,). Every call must return the
    same blocks.
    """

    def __init__(self, model, blocks, sample_weight):
        name = type(model).__name__
        if not callable(blocks):
            got = "an iterator, which can be read only once (use partial_fit)"
            raise wrong_argument(name, "X", _RULE, Described(got))
        if sample_weight is not None:
            rule = "None if 'X' is a function, which can return pairs"
            got = Described(type(sample_weight).__name__)
            raise wrong_argument(name, "sample_weight", rule, got)
        self._model, self._function, self._n_rows = model, blocks, None
        first = next(self._pairs(), None)
        if first is None:
            raise self._wrong("returns no rows")
        incomplete = getattr(model, "_fits_incomplete", False)
        X = validated_rows(model, first[0], reset=True, incomplete=incomplete)
        super().__init__(model, X.shape[1], X.dtype)

    def total(self, function):
        blocks = (function(X, w) for _, X, w in self._checked() if w.size)
        total = added(blocks)
        if total is None:
            raise self._wrong("returns a weight of zero for every row")
        return total

    def blocks(self, order=None):
        for start, X, _ in self._checked():
            yield start, X

    def _checked(self):
        """Yield the position, the float64 rows and the positive weights of a block."""
        n_rows = 0
        for X, sample_weight in self._pairs():
            X = validated_rows(self._model, X, incomplete=self.incomplete)
            start = n_rows
            n_rows += (n := X.shape[0])
            weights = validated_weight(self._model, sample_weight, n, some=False)
            X, weights = present(X, weights)
            yield start, np.ascontiguousarray(X, np.float64), weights
        if self._n_rows not in (None, n_rows):
            raise self._wrong(f"returned {self._n_rows} rows, then {n_rows}")
        self._n_rows = n_rows

    def _pairs(self):
        """Yield unchecked rows and their weights, or None for the weights."""
        blocks = self._function()
        if not hasattr(blocks, "__iter__"):
            raise self._wrong(f"returns {type(blocks).__name__}")
        for block in blocks:
            is_pair = isinstance(block, tuple) and len(block) == 2
            X, sample_weight = block if is_pair else (block, None)
            if np.shape(X)[:1] != (0,):
                yield X, sample_weight

    def _wrong(self, got):
        """Return the error for an unsuitable function."""
        name = type(self._model).__name__
        return wrong_argument(name, "X", _RULE, Described(f"one that {got}"))
