"""Dask input: sums over the rows run on the workers that hold the blocks."""

import numpy as np

from skgen._blockwise import DaskRows
from skgen._parameters import InvalidParameterError
from skgen.mixture._tables import AbstractTable


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
