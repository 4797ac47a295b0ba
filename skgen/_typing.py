"""Types of public signatures."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

# An array-like of shape (n_samples, n_features), a dataframe or a Dask collection.
# They share no base class, hence Any.
MatrixLike: TypeAlias = Any

# Also the type of results that `set_output` turns into dataframes, which a static
# type cannot follow: cast them where you use it.
FloatArray: TypeAlias = NDArray[np.floating[Any]]

RandomState: TypeAlias = int | np.random.RandomState | np.random.Generator | None

__all__ = ["ArrayLike", "FloatArray", "MatrixLike", "NDArray", "RandomState"]
