"""Dask rows: sums over their blocks, and answers block by block.

The workers compute the sums, and the client receives one total. Answers are lazy Dask
arrays.
"""

import math
import sys
import uuid

import numpy as np
from sklearn.utils import check_array

from skgen._checks import (
    Described,
    InvalidParameterError,
    check_finite,
    check_magnitude,
    column_names,
    is_real,
    numbers_only,
    present,
    validated_rows,
    validated_weight,
    wrong_argument,
)
from skgen._lazy import lazy_module
from skgen._threads import one_of_many
from skgen.rows._source import AbstractTable

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


# Number of values that a worker converts to float64 at once.
_AT_ONCE = 2**19


def numbers(X, dtype, name):
    """Return a block or partition as a numeric array; values may be infinite or NaN."""
    if not X.shape[0]:
        return np.empty(X.shape, dtype)
    rest = {"ensure_all_finite": False, "input_name": "X", "estimator": name}
    X = numbers_only(f"The 'X' argument of {name}", check_array, X, **rest)
    return X.astype(dtype, copy=False)


def sum_of_block(X, weights, *, function, dtype_of_rows, estimator):
    """Return the sum of `function` over a block, or None if all weights are 0."""
    X = numbers(X, dtype_of_rows, estimator)
    weights = _checked_weights(weights, X.shape[0], estimator)
    size = max(1, _AT_ONCE // X.shape[1])

    def parts():
        for start in range(0, X.shape[0], size):
            some, w = present(X[start : start + size], weights[start : start + size])
            if w.size:
                yield function(np.ascontiguousarray(some, np.float64), w)

    with one_of_many():
        return added(parts())


def _checked_weights(weights, n, name):
    """Return the weights of a block as a float64 array of shape (n,)."""
    if np.ndim(weights) == 0:
        return np.full(n, weights)
    what = f"The 'sample_weight' argument of {name}"
    if weights.shape != (n,):
        raise InvalidParameterError(
            f"{what} must have blocks of the same lengths as 'X'. Got "
            f"{weights.shape[0]} weights for a block of {n} rows instead."
        )
    if not n:
        return np.empty(0)
    given = {"input_name": "sample_weight", "estimator": name, "ensure_2d": False}
    weights = numbers_only(what, check_array, weights, **given).astype(np.float64)
    if weights.min() < 0:
        raise InvalidParameterError(
            f"{what} must be nowhere negative. Got {weights.min()} instead."
        )
    return weights


def added(parts):
    """Return the sum of an iterable, in order; skip None, return None if empty."""
    total = None
    for part in parts:
        if part is not None:
            total = part if total is None else total + part
    return total


def answers_of_block(X, *, function, dtype_of_rows, estimator, names, answer):
    """Return ``function(X)`` in the dtype of `answer`, which is for an empty block."""
    if not X.shape[0]:
        return answer
    X = numbers(X, dtype_of_rows, estimator)
    check_finite(X, estimator, names)
    check_magnitude(f"The 'X' argument of {estimator}", X)
    with one_of_many(), np.errstate(over="ignore"):  # -inf below the range of float32
        answers = function(np.ascontiguousarray(X, np.float64))
        return answers.astype(answer.dtype, copy=False)


class DaskTable(AbstractTable):
    """A Dask array or dataframe (n, d); each pass recomputes rows not persisted."""

    def __init__(self, model, X, sample_weight):
        self._rows = DaskRows(model, X, sample_weight, reset=True)
        super().__init__(model, self._rows.n_features, self._rows.dtype)

    def total(self, function):
        return self._rows.total(function)

    def spread(self, *, full):
        spread = super().spread(full=full)
        if not np.isfinite(spread.weight):
            raise InvalidParameterError(
                f"The 'sample_weight' argument of {self.name} must be of a finite "
                f"sum. Got {spread.weight} instead."
            )
        return spread
