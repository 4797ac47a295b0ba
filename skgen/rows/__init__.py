"""Sources of rows: arrays, memory maps, functions that yield blocks, and Dask."""

from sklearn.utils.validation import validate_data

from skgen._checks import in_rows, row_weight, validated_weight, weight_sums
from skgen.rows._dask import DaskRows
from skgen.rows._iterator import IteratedRows
from skgen.rows._source import ArrayRows, is_dask, is_iterated, is_mapped


def as_rows(model, X, sample_weight):
    """Return unchecked out-of-core input as `Rows`; None for an in-memory array.

    The model takes the number and the names of the features.
    """
    if is_dask(X):
        return DaskRows(model, X, sample_weight, reset=True)
    if is_iterated(X):
        return IteratedRows(model, X, sample_weight)
    if is_mapped(X):
        validate_data(model, X, skip_check_array=True)
        if sample_weight is not None:
            sample_weight = validated_weight(model, sample_weight, X.shape[0])
            model._row_weight = row_weight(*weight_sums(sample_weight))
            sample_weight = in_rows(sample_weight, model._row_weight)
        return ArrayRows(model, X, sample_weight, in_memory=False)
    return None
