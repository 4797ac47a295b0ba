"""Rows on Dask: sums over their blocks, and answers block by block.

The blocks stay where they are. What is summed comes to the client as one sum, which
the workers make; answers are Dask arrays, computed when the user asks for them.
"""

import math
import sys
import uuid

import numpy as np

from skgen._block import added, answers_of_block, numbers, sum_of_block
from skgen._parameters import (
    Described,
    InvalidParameterError,
    is_real,
    wrong_argument,
)
from skgen._validation import validated_rows, validated_weight

# Sums that are added up in one task: few enough to be moved, and levels are few.
_FAN_IN = 8


def is_dask(X):
    """Tell whether something is a collection of Dask, without importing it."""
    return any(cls.__module__.split(".")[0] == "dask" for cls in type(X).__mro__)


def checked_on_dask(model, X, *, reset=False):
    """Check what is known of rows on Dask; nothing is computed.

    Parameters
    ----------
    model : estimator
        Whose number and names of features are checked, or set where `reset` says so.
    X : Dask array or Dask dataframe of shape (n, d)
        The rows.
    reset : bool, default=False
        Whether these are the rows of a fit.

    Returns
    -------
    X : Dask array, one chunk wide, or Dask dataframe
    meta : ndarray of shape (0, d)
        Of the type of the rows as numbers: float32 or float64.
    """
    import dask.array as da

    name = type(model).__name__
    is_array = isinstance(X, da.Array)
    if not is_array and not _is_frame(X, "DataFrame"):
        rule = "a Dask array or a Dask dataframe where it is of Dask"
        raise wrong_argument(name, "X", rule, Described(type(X).__name__))
    if is_array and (X.ndim != 2 or math.isnan(X.shape[1])):
        rule = "a Dask array of two dimensions and a known number of columns"
        raise wrong_argument(name, "X", rule, Described(f"shape {X.shape}"))
    # What is true of all rows of these types: errors and the data type come of it.
    probe = _probe(X) if is_array else X._meta_nonempty[:1]  # the second may be NA
    meta = validated_rows(model, probe, reset=reset)[:0]
    return (X.rechunk({1: -1}) if is_array else X), meta


class DaskRows:
    """Rows on Dask, and their weights.

    Parameters
    ----------
    model : estimator
        Whose number and names of features are checked, or set where `reset` says so.
    X : Dask array or Dask dataframe of shape (n, d)
        The rows.
    sample_weight : Dask array or series, array-like of shape (n,) or None
        How many times each row counts.
    reset : bool, default=False
        Whether these are the rows of a fit.
    """

    def __init__(self, model, X, sample_weight, *, reset=False):
        from dask import optimize

        self._name, self._weighted = type(model).__name__, sample_weight is not None
        rows, meta = checked_on_dask(model, X, reset=reset)
        self.n_features, self.dtype = meta.shape[1], meta.dtype
        rows = _as_array(rows, meta, self._name)
        weights = _weights_on_dask(model, rows.chunks[0], sample_weight)
        # What is persisted lives as long as its collections, not as what comes of them.
        self._kept = X, sample_weight, weights
        self._rows, self._weights = optimize(rows, weights)

    def total(self, function):
        """Return the sum of what a function returns for all blocks of rows.

        Parameters
        ----------
        function : callable
            Takes rows (b, d) in float64 and positive weights (b,), and returns what
            adds up with ``+``. It must be possible to pickle it.
        """
        total = self._summed(function).compute()
        if total is None:
            raise self._without_rows()
        return total

    def _summed(self, function):
        """Return the sum over all blocks, not computed yet."""
        import dask.array as da
        from dask.core import flatten
        from dask.delayed import Delayed, delayed

        by_block = da.blockwise(
            sum_of_block,
            "ij",
            *(self._rows, "ij"),
            *(self._weights, "i" if is_dask(self._weights) else None),
            # By its key: workers get it once, not with every block.
            function=delayed(function, traverse=False),
            dtype_of_rows=self.dtype,
            estimator=self._name,
            align_arrays=False,
            meta=np.empty((0, 0), object),
        )
        # One graph by hand: what `delayed` makes of many blocks takes seconds.
        graph, level = dict(by_block.dask), f"sum-{uuid.uuid4().hex}"
        parts = list(flatten(by_block.__dask_keys__()))
        while len(parts) > 1 or parts[0][0] == by_block.name:
            groups = [parts[i : i + _FAN_IN] for i in range(0, len(parts), _FAN_IN)]
            level = f"sum-of-{level}"
            parts = [(level, i) for i in range(len(groups))]
            graph |= {
                part: (added, group) for part, group in zip(parts, groups, strict=True)
            }
        return Delayed(parts[0], graph)

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
    """Return what a function answers for each row, as a Dask array.

    Parameters
    ----------
    model : estimator
        Whose number and names of features are checked.
    X : Dask array or Dask dataframe of shape (n, d)
        The rows.
    function : callable
        Maps rows (b, d) in float64 to answers (b, *shape), each for itself. It must
        be possible to pickle it, and later fits must not change it.
    shape : tuple of int
        The shape of the answer for one row.
    dtype : numpy dtype, default=None
        What answers are stored in. None takes that of the rows.

    Returns
    -------
    dask.array.Array of shape (n, *shape)
        Of the chunks of `X`, not computed yet.
    """
    from dask import delayed

    rows, row_meta = checked_on_dask(model, X)
    name = type(model).__name__
    rows = _as_array(rows, row_meta, name)
    dtype = np.dtype(row_meta.dtype if dtype is None else dtype)
    return rows.map_blocks(
        answers_of_block,
        function=delayed(function, traverse=False),
        dtype_of_rows=row_meta.dtype,
        estimator=name,
        answer=np.empty((0, *shape), dtype),
        dtype=dtype,
        meta=np.empty((0,) * (1 + len(shape)), dtype),
        chunks=(rows.chunks[0], *((length,) for length in shape)),
        drop_axis=None if shape else 1,
    )


def _is_frame(X, kind):
    """Tell whether this is a Dask dataframe, or series, without importing them."""
    library = sys.modules.get("dask.dataframe")
    return library is not None and isinstance(X, getattr(library, kind))


def _probe(X):
    """Return a row of zeros of the type of a Dask array; none if that has none."""
    n = 0 if X.shape[0] == 0 else 1
    return np.zeros((n, X.shape[1]), X.dtype)


def _as_array(X, meta, name):
    """Return a Dask dataframe as a Dask array; an array as it is."""
    if _is_frame(X, "DataFrame"):
        return X.map_partitions(numbers, meta.dtype, name, meta=meta)
    return X


def _weights_on_dask(model, sizes, sample_weight):
    """Return the weights in blocks of these sizes, or one number for all."""
    import dask.array as da

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
        rule = "None, a number, or on Dask like 'X', whose chunks have unknown sizes"
        got = Described(type(sample_weight).__name__)
        raise wrong_argument(name, "sample_weight", rule, got)
    weights = validated_weight(model, sample_weight, n)
    # Sent to the workers once, not in every pass.
    return da.from_array(weights, chunks=(sizes,)).persist()


def _aligned(name, sizes, weights):
    """Return weights on Dask in blocks of these sizes."""
    import dask.array as da

    if not isinstance(weights, da.Array) or weights.ndim != 1:
        rule = "a Dask array of one dimension or a Dask series where it is of Dask"
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
        rule = f"in {len(sizes)} blocks like 'X', where chunk sizes are unknown"
        got = Described(f"{weights.numblocks[0]} blocks")
        raise wrong_argument(name, "sample_weight", rule, got)
    return weights
