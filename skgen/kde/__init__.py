"""Kernel density estimation."""

from typing import TYPE_CHECKING

from skgen._lazy import lazy_names

if TYPE_CHECKING:
    from skgen.kde._gaussian_kde import GaussianKDE as GaussianKDE

# Hidden from type checkers, for which a module with `__getattr__` has every name.
if not TYPE_CHECKING:
    __all__, __getattr__, __dir__ = lazy_names(
        __name__, {"GaussianKDE": "_gaussian_kde"}
    )
