"""Plots of fitted models: densities beside the data, and draws as images."""

from typing import TYPE_CHECKING

from skgen._lazy import lazy_names

if TYPE_CHECKING:
    from skgen.display._density import DensityDisplay as DensityDisplay
    from skgen.display._explanation import (
        OutlierExplanationDisplay as OutlierExplanationDisplay,
    )
    from skgen.display._sample import SampleDisplay as SampleDisplay

# Hidden from type checkers, for which a module with `__getattr__` has every name.
if not TYPE_CHECKING:
    __all__, __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "DensityDisplay": "_density",
            "OutlierExplanationDisplay": "_explanation",
            "SampleDisplay": "_sample",
        },
    )
