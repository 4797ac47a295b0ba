"""Gaussian mixtures."""

from typing import TYPE_CHECKING

from skgen._lazy import importable, lazy_names

if TYPE_CHECKING:
    from skgen.mixture._em import EMGaussianMixture
    from skgen.mixture._sgd import SGDGaussianMixture

__all__ = ["EMGaussianMixture", "SGDGaussianMixture"]

# Hidden from type checkers, for which a module with `__getattr__` has every name.
if not TYPE_CHECKING:
    __all__ = importable(__all__)
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "EMGaussianMixture": "skgen.mixture._em",
            "SGDGaussianMixture": "skgen.mixture._sgd",
        },
    )
