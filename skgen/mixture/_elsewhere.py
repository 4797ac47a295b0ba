"""Sources of rows that are not arrays in memory."""

from skgen._blockwise import is_dask
from skgen.mixture._distributed import DaskTable
from skgen.mixture._iterated import IteratedTable, is_iterated
from skgen.mixture._mapped import MappedTable, is_mapped


def table_elsewhere(model, X, sample_weight):
    """Wrap unchecked out-of-core input as a table; return None for other input."""
    if is_dask(X):
        return DaskTable(model, X, sample_weight)
    if is_iterated(X):
        return IteratedTable(model, X, sample_weight)
    if is_mapped(X):
        return MappedTable(model, X, sample_weight)
    return None
