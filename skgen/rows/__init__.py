"""Sources of rows that are not arrays in memory."""

from skgen.rows._dask import DaskTable, is_dask
from skgen.rows._iterator import IteratedTable, is_iterated
from skgen.rows._mapped import MappedTable, is_mapped


def table_elsewhere(model, X, sample_weight):
    """Wrap unchecked out-of-core input as a table; return None for other input."""
    if is_dask(X):
        return DaskTable(model, X, sample_weight)
    if is_iterated(X):
        return IteratedTable(model, X, sample_weight)
    if is_mapped(X):
        return MappedTable(model, X, sample_weight)
    return None
