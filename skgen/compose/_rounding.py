"""Columns that hold nothing but rounding, followed through transformers.

A feature that others determine leaves a principal component with a variance of
rounding, 1e-30 or so, and a density fitted to that would seem to know it to fifteen
digits: dozens of nats, out of nothing. Such columns are made constant before the
density is fitted, which then gives them the shared floor.
"""

import numpy as np

from skgen._frames import frame_kind, framed
from skgen.compose import _principal
from skgen.compose._log_det import change_of


class RoundingTrace:
    """Which columns of what transformers return are rounding and nothing else.

    Parameters
    ----------
    resolution : ndarray of shape (n_features,)
        How far each feature is rounded.

    Attributes
    ----------
    scaled : str or None
        The name of a transformer whose columns of rounding are divided by their size:
        nothing tells them from a feature any more.
    """

    def __init__(self, resolution):
        self.resolution = resolution
        self.alone = np.zeros(resolution.size, dtype=bool)
        self.scaled = None

    def follow(self, step):
        """Go on through one fitted transformer."""
        if np.any(self.alone):
            self.scaled = self._source
        self.resolution, self.alone = change_of(step).rounding(step, self.resolution)
        self._source = type(step).__name__
        if isinstance(step, _principal.CLASSES) and step.whiten:
            mended = _principal.negligible(step)  # by `_principal.forward`
            if np.any(self.alone & ~mended):
                self.scaled = self._source

    def constant(self, codes):
        """Return rows or a dataframe in which columns of rounding are constant."""
        if not np.any(self.alone):
            return codes
        values = np.array(codes, dtype=np.float64)
        values[:, self.alone] = 0.0
        return framed(values, getattr(codes, "columns", None), frame_kind(codes))
