"""Pictures of fitted models: of a density beside the data, and of draws as images."""

from skgen.display._density import DensityDisplay
from skgen.display._sample import SampleDisplay

__all__ = ["DensityDisplay", "SampleDisplay"]
