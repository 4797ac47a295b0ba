"""Dask rows: sums over their blocks, and answers block by block.

The workers compute the sums, and the client receives one total. Answers are lazy Dask
arrays.
"""

import copy
import math
import sys
import uuid
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, TypeVar

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skgen._checks import (
    Described,
    InvalidParameterError,
    column_names,
    is_real,
    present,
    validated_rows,
    validated_weight,
    wrong_argument,
)
from skgen._interop import framed
from skgen._lazy import lazy_module
from skgen._threads import one_of_many
from skgen.rows._source import Rows, added, is_dask, slices

da = lazy_module("dask.array", "Dask input")
dask = lazy_module("dask", "Dask input")
dask_core = lazy_module("dask.core", "Dask input")
dask_delayed = lazy_module("dask.delayed", "Dask input")

Method = TypeVar("Method", bound=Callable[..., Any])

# Number of sums that one task adds: a compromise between the data to move to one worker
# and the depth of the tree.
_FAN_IN = 8


def checked_on_dask(name, X, check, argument="X"):
    """Return Dask rows whose chunks hold whole rows, and an empty float array (0, d).

    Nothing is computed: `check` maps one row of the same types to a float array.
    """
    is_array = isinstance(X, da.Array)
    if not is_array and not _is_frame(X, "DataFrame"):
        rule = "a Dask array or dataframe if it is a Dask collection"
        raise wrong_argument(name, argument, rule, Described(type(X).__name__))
    if not is_array:
        return X, check(X._meta_nonempty[:1])[:0]  # the second row may be NA
    if X.ndim != 2 or math.isnan(X.shape[1]):
        rule = "a two-dimensional Dask array with a known number of columns"
        raise wrong_argument(name, argument, rule, Described(f"shape {X.shape}"))
    probe = np.zeros((0 if X.shape[0] == 0 else 1, X.shape[1]), X.dtype)
    return X.rechunk({1: -1}), check(probe)[:0]


class DaskRows(Rows):
    """A Dask array or dataframe (n, d); each pass recomputes rows not persisted.

    Weights (n,) are on Dask, in memory, a number or None.
    """

    def __init__(self, model, X, sample_weight, *, reset=False):
        name, self._weighted = type(model).__name__, sample_weight is not None
        # NaN is a value that was not observed.
        kind = "_fits_incomplete" if reset else "_answers_incomplete"
        incomplete = {"incomplete": getattr(model, kind, False)}
        check = partial(validated_rows, model, reset=reset, **incomplete)
        rows, meta = checked_on_dask(name, X, check)
        super().__init__(model, meta.shape[1], meta.dtype)
        self.incomplete = incomplete["incomplete"]
        if _is_frame(rows, "DataFrame"):
            options = {
                "checks": _checking(model, named=True, **incomplete),
                "dtype": meta.dtype,
            }
            rows = rows.map_partitions(checked_partition, **options, meta=meta)
        self._checks = _checking(model, named=False, **incomplete)  # of arrays
        weights = _weights_on_dask(model, rows.chunks[0], sample_weight)
        # Persisted blocks are kept only as long as their own collections exist.
        self._kept = X, sample_weight, weights
        self._rows, self._weights = dask.optimize(rows, weights)
        self.n_blocks = rows.numblocks[0]

    def blocks(self, order=None):
        # Of unknown sizes, blocks are taken to be far apart.
        sizes = np.nan_to_num(self._rows.chunks[0], nan=2.0**32).astype(np.int64)
        starts = np.append(0, np.cumsum(sizes))
        parts = self._rows.to_delayed().ravel()
        for i in range(self.n_blocks) if order is None else order:
            X = parts[i].compute()
            if X.shape[0]:
                X = _valid(self._checks, X)
                yield int(starts[i]), np.ascontiguousarray(X, np.float64)

    def total(self, function):
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
            checks=self._checks,
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
        """Return the error for no rows of positive weight."""
        if self._weighted:
            return InvalidParameterError(
                f"The 'sample_weight' argument of {self.name} must be positive for "
                "some row. Got a weight of zero for every row instead."
            )
        return ValueError(
            f"Found array with 0 sample(s) (shape=(0, {self.n_features})) while a "
            f"minimum of 1 is required by {self.name}."
        )


def lazy_on_dask(
    width: Callable | None = None,
    dtype: Callable | None = None,
    check: Callable | None = None,
) -> Callable[[Method], Method]:
    """Decorate a row-wise method of a fitted model to answer Dask input lazily.

    `width` and `dtype` map the model to the number of columns of the answer and to its
    data type, which are by default none and the data type of the rows. `check` maps the
    model to the check of one row.
    """

    def decorated(method):
        @wraps(method)
        def answer(self, X):
            if not is_dask(X):
                with np.errstate(under="ignore"):
                    return method(self, X)
            check_is_fitted(self)
            return lazy_answers(
                self,
                method.__name__,
                X,
                () if width is None else (width(self),),
                None if dtype is None else dtype(self),
                check=None if check is None else check(self),
            )

        return answer

    return decorated


def lazy_answers(model, method, X, shape=(), dtype=None, *, check=None):
    """Return a row-wise method of a fitted model as a lazy Dask array (n, *shape).

    Later changes of the model do not change it. `dtype` is by default the data type of
    the rows; `check` replaces the check of one row.
    """
    rows, meta = checked_on_dask(
        type(model).__name__, X, check or partial(validated_rows, model)
    )
    dtype = np.dtype(meta.dtype if dtype is None else dtype)
    kept = dask.delayed(frozen(model), traverse=False)
    function = partial(
        answers_of_block,
        method=method,
        names=None if check else column_names(model),
        empty=np.empty((0, *shape), dtype),
    )
    widths = [(length,) for length in shape]
    meta = np.empty((0,) * (1 + len(shape)), dtype)
    if _is_frame(rows, "DataFrame"):
        # `map_partitions` of Dask 2025.1 does not compute a delayed model.
        rows, name = rows.optimize(), f"{method}-{uuid.uuid4().hex}"
        graph, keys = {**rows.dask, **kept.dask}, rows.__dask_keys__()
        last = (0,) * len(shape)
        graph |= {(name, i, *last): (function, k, kept.key) for i, k in enumerate(keys)}
        return da.Array(graph, name, ((math.nan,) * len(keys), *widths), meta=meta)
    return rows.map_blocks(
        function,
        kept,
        dtype=dtype,
        meta=meta,
        chunks=(rows.chunks[0], *widths),
        drop_axis=None if shape else 1,
    )


def computed(*values):
    """Return Dask collections as arrays, and other values as they are."""
    return dask.compute(*values)


def frozen(model):
    """Return a copy of a fitted model for the workers."""
    kept = copy.copy(model)
    vars(kept).pop("_skl_callbacks", None)  # callbacks belong to this process
    return copy.deepcopy(kept)


def _is_frame(X, kind):
    """Return whether X is a Dask "DataFrame" or "Series", without importing Dask."""
    library = sys.modules.get("dask.dataframe")
    return library is not None and isinstance(X, getattr(library, kind))


def _checking(model, *, named, incomplete):
    """Return an estimator that checks rows as `model` does, for the workers."""
    checks, names = object.__new__(type(model)), "feature_names_in_"
    checks._takes_nan = incomplete
    checks.n_features_in_ = model.n_features_in_
    if named and hasattr(model, names):
        checks.feature_names_in_ = model.feature_names_in_
    return checks


def _valid(checks, X):
    return validated_rows(checks, X, incomplete=checks._takes_nan)


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


def checked_partition(X, *, checks, dtype):
    """Return a partition of a dataframe as a valid array."""
    if not X.shape[0]:
        return np.empty(X.shape, dtype)
    return _valid(checks, X).astype(dtype, copy=False)


def sum_of_block(X, weights, *, function, checks):
    """Return the sum of `function` over a block, or None if all weights are 0."""
    n = X.shape[0]
    if np.ndim(weights) and weights.shape != (n,):
        raise InvalidParameterError(
            f"The 'sample_weight' argument of {type(checks).__name__} must have blocks "
            f"of the same lengths as 'X'. Got {weights.shape[0]} weights for a block "
            f"of {n} rows instead."
        )
    if not n:
        return None
    X = _valid(checks, X)
    weights = validated_weight(checks, weights, n, some=False)

    def parts():
        for rows in slices(*X.shape):
            some, w = present(X[rows], weights[rows])
            if w.size:
                yield function(np.ascontiguousarray(some, np.float64), w)

    with one_of_many(), np.errstate(under="ignore"):
        return added(parts())


def answers_of_block(X, model, *, method, names, empty):
    """Return what a method of the model answers to a block, as `empty` (0, ...)."""
    if not X.shape[0]:
        return empty
    if isinstance(X, np.ndarray):  # errors name the columns
        X = framed(X, names, None)
    with one_of_many():
        return np.asarray(getattr(model, method)(X)).astype(empty.dtype, copy=False)
