"""Types of public signatures."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

# A table: an array-like of shape (n_samples, n_features), or a dataframe. Dataframes
# and Dask arrays share no base class, so that Any is what there is.
MatrixLike: TypeAlias = Any
FloatArray: TypeAlias = NDArray[np.floating[Any]]
RandomState: TypeAlias = int | np.random.RandomState | None

__all__ = ["ArrayLike", "FloatArray", "MatrixLike", "NDArray", "RandomState"]
