"""Tables that are not arrays in memory."""

from skgen._blockwise import is_dask
from skgen.mixture._distributed import DaskTable
from skgen.mixture._iterated import IteratedTable, is_iterated
from skgen.mixture._mapped import MappedTable, is_mapped


def table_elsewhere(model, X, sample_weight):
    """Return rows that are to stay where they are as a table; None for others.

    Parameters
    ----------
    model : estimator
        Whose number and names of features are set.
    X : object
        What `fit` was given, unchecked.
    sample_weight : object
        How many times each row counts, unchecked.

    Returns
    -------
    AbstractTable or None
    """
    if is_dask(X):
        return DaskTable(model, X, sample_weight)
    if is_iterated(X):
        return IteratedTable(model, X, sample_weight)
    if is_mapped(X):
        return MappedTable(model, X, sample_weight)
    return None
