"""Rounding errors, propagated through transformers.

A collinear feature leaves a principal component whose variance is rounding, about
1e-30. A density fitted to this component would gain dozens of nats from rounding
errors. Such columns are made constant before the density is fitted, so that the shared
floor applies.
"""

import numpy as np

from skgen._interop import frame_kind, framed
from skgen.compose import _principal
from skgen.compose._changes import change_of


class RoundingTrace:
    """The rounding error `resolution` (d,) of columns, propagated through transformers.

    The mask `alone` (d,) marks columns that hold rounding errors only.
    """

    def __init__(self, resolution):
        self.resolution = resolution
        self.alone = np.zeros(resolution.size, dtype=bool)
        # Name of a transformer that divides columns of rounding errors by their size,
        # after which they look like features.
        self.scaled = None

    def follow(self, step):
        """Update the state for the output of a fitted transformer."""
        if np.any(self.alone):
            self.scaled = self._source
        self.resolution, self.alone = change_of(step).rounding(step, self.resolution)
        self._source = type(step).__name__
        if isinstance(step, _principal.CLASSES) and step.whiten:
            mended = _principal.negligible(step)  # by `_principal.forward`
            if np.any(self.alone & ~mended):
                self.scaled = self._source

    def constant(self, codes):
        """Return (n, d) rows or a dataframe with rounding errors set to 0."""
        if not np.any(self.alone):
            return codes
        values = np.array(codes, dtype=np.float64)
        values[:, self.alone] = 0.0
        return framed(values, getattr(codes, "columns", None), frame_kind(codes))
