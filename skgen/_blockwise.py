"""Dask rows: sums over their blocks, and answers block by block.

The workers compute the sums, and the client receives one total. Answers are lazy Dask
arrays.
"""

import math
import sys
import uuid

import numpy as np

from skgen._block import added, answers_of_block, numbers, sum_of_block
from skgen._lazy import lazy_module
from skgen._parameters import (
    Described,
    InvalidParameterError,
    is_real,
    wrong_argument,
)
from skgen._validation import column_names, validated_rows, validated_weight

da = lazy_module("dask.array", "Dask input")
dask = lazy_module("dask", "Dask input")
dask_core = lazy_module("dask.core", "Dask input")
dask_delayed = lazy_module("dask.delayed", "Dask input")

# Number of sums that one task adds: a compromise between the data to move to one worker
# and the depth of the tree.
_FAN_IN = 8


def is_dask(X):
    """Return whether X is a Dask collection, without importing Dask."""
    return any(cls.__module__.split(".")[0] == "dask" for cls in type(X).__mro__)


def checked_on_dask(model, X, *, reset=False):
    """Return Dask rows whose chunks hold whole rows, and an empty float array (0, d).

    Nothing is computed. Features are checked, or set with `reset`.
    """
    name = type(model).__name__
    is_array = isinstance(X, da.Array)
    if not is_array and not _is_frame(X, "DataFrame"):
        rule = "a Dask array or dataframe if it is a Dask collection"
        raise wrong_argument(name, "X", rule, Described(type(X).__name__))
    if is_array and (X.ndim != 2 or math.isnan(X.shape[1])):
        rule = "a two-dimensional Dask array with a known number of columns"
        raise wrong_argument(name, "X", rule, Described(f"shape {X.shape}"))
    # The checks of a row with the same types find the data type and possible errors.
    probe = _probe(X) if is_array else X._meta_nonempty[:1]  # the second row may be NA
    meta = validated_rows(model, probe, reset=reset)[:0]
    return (X.rechunk({1: -1}) if is_array else X), meta


class DaskRows:
    """Dask rows (n, d) and weights (n,): on Dask, in memory, a number or None."""

    def __init__(self, model, X, sample_weight, *, reset=False):
        self._name, self._weighted = type(model).__name__, sample_weight is not None
        rows, meta = checked_on_dask(model, X, reset=reset)
        self.n_features, self.dtype = meta.shape[1], meta.dtype
        rows = _as_array(rows, meta, self._name)
        weights = _weights_on_dask(model, rows.chunks[0], sample_weight)
        # Persisted blocks are kept only as long as their own collections exist.
        self._kept = X, sample_weight, weights
        self._rows, self._weights = dask.optimize(rows, weights)

    def total(self, function):
        """Return the sum of ``function(rows, weights)`` over all blocks of rows.

        Rows (b, d) are float64 and weights (b,) positive; `function` is picklable.
        """
        total = self._summed(function).compute()
        if total is None:
            raise self._without_rows()
        return total

    def _summed(self, function):
        """Return the lazy sum over all blocks."""
        by_block = da.blockwise(
            sum_of_block,
            "ij",
            *(self._rows, "ij"),
            *(self._weights, "i" if is_dask(self._weights) else None),
            # As a key of the graph, it reaches each worker once, not with each block.
            function=dask.delayed(function, traverse=False),
            dtype_of_rows=self.dtype,
            estimator=self._name,
            align_arrays=False,
            meta=np.empty((0, 0), object),
        )
        # `delayed` would need seconds to build the graph of many blocks.
        graph, level = dict(by_block.dask), f"sum-{uuid.uuid4().hex}"
        parts = list(dask_core.flatten(by_block.__dask_keys__()))
        while len(parts) > 1 or parts[0][0] == by_block.name:
            groups = [parts[i : i + _FAN_IN] for i in range(0, len(parts), _FAN_IN)]
            level = f"sum-of-{level}"
            parts = [(level, i) for i in range(len(groups))]
            graph |= {
                part: (added, group) for part, group in zip(parts, groups, strict=True)
            }
        return dask_delayed.Delayed(parts[0], graph)

    def _without_rows(self):
        if self._weighted:
            return InvalidParameterError(
                f"The 'sample_weight' argument of {self._name} must be positive for "
                "some row. Got a weight of zero for every row instead."
            )
        return ValueError(
            f"Found array with 0 sample(s) (shape=(0, {self.n_features})) while a "
            f"minimum of 1 is required by {self._name}."
        )


def answers_on_dask(model, X, function, shape, dtype=None):
    """Return a row-wise, picklable function of float64 rows as a lazy Dask array.

    `function` maps (b, d) to (b, *shape). `dtype` is by default the dtype of the rows.
    """
    rows, row_meta = checked_on_dask(model, X)
    name = type(model).__name__
    rows = _as_array(rows, row_meta, name)
    dtype = np.dtype(row_meta.dtype if dtype is None else dtype)
    return rows.map_blocks(
        answers_of_block,
        function=dask.delayed(function, traverse=False),
        dtype_of_rows=row_meta.dtype,
        estimator=name,
        names=column_names(model),
        answer=np.empty((0, *shape), dtype),
        dtype=dtype,
        meta=np.empty((0,) * (1 + len(shape)), dtype),
        chunks=(rows.chunks[0], *((length,) for length in shape)),
        drop_axis=None if shape else 1,
    )


def _is_frame(X, kind):
    """Return whether X is a Dask "DataFrame" or "Series", without importing Dask."""
    library = sys.modules.get("dask.dataframe")
    return library is not None and isinstance(X, getattr(library, kind))


def _probe(X):
    """Return one row of zeros like a Dask array, or an empty array if X is empty."""
    n = 0 if X.shape[0] == 0 else 1
    return np.zeros((n, X.shape[1]), X.dtype)


def _as_array(X, meta, name):
    """Convert a Dask dataframe to a Dask array."""
    if _is_frame(X, "DataFrame"):
        return X.map_partitions(numbers, meta.dtype, name, meta=meta)
    return X


def _weights_on_dask(model, sizes, sample_weight):
    """Return the weights in blocks of the given sizes, or one number for all rows."""
    if sample_weight is None:
        return 1.0
    if is_real(sample_weight):
        return float(validated_weight(model, sample_weight, 1)[0])
    name, n = type(model).__name__, sum(sizes)
    if is_dask(sample_weight):
        weights = sample_weight
        if _is_frame(weights, "Series"):
            weights = weights.to_dask_array()
        return _aligned(name, sizes, weights)
    if math.isnan(n):
        rule = "None, a number or a Dask array if 'X' has chunks of unknown sizes"
        got = Described(type(sample_weight).__name__)
        raise wrong_argument(name, "sample_weight", rule, got)
    weights = validated_weight(model, sample_weight, n)
    # Send the weights to the workers once, not in every pass.
    return da.from_array(weights, chunks=(sizes,)).persist()


def _aligned(name, sizes, weights):
    """Return Dask weights in blocks of the given sizes."""
    if not isinstance(weights, da.Array) or weights.ndim != 1:
        rule = "a one-dimensional Dask array or series if it is a Dask collection"
        got = Described(type(weights).__name__)
        if isinstance(weights, da.Array):
            got = Described(f"shape {weights.shape}")
        raise wrong_argument(name, "sample_weight", rule, got)
    n, n_weights = sum(sizes), weights.shape[0]
    if not (math.isnan(n) or math.isnan(n_weights)):
        if n != n_weights:
            rule, got = f"an array of shape ({n},)", Described(f"shape ({n_weights},)")
            raise wrong_argument(name, "sample_weight", rule, got)
        return weights.rechunk((sizes,))
    if weights.numblocks[0] != len(sizes):
        rule = f"in {len(sizes)} blocks like 'X' if chunk sizes are unknown"
        got = Described(f"{weights.numblocks[0]} blocks")
        raise wrong_argument(name, "sample_weight", rule, got)
    return weights
