"""Gaussian mixtures."""

from typing import TYPE_CHECKING

from skgen._lazy import lazy_names

if TYPE_CHECKING:
    from skgen.mixture._em import EMGaussianMixture as EMGaussianMixture
    from skgen.mixture._sgd import SGDGaussianMixture as SGDGaussianMixture

# Hidden from type checkers, for which a module with `__getattr__` has every name.
if not TYPE_CHECKING:
    __all__, __getattr__, __dir__ = lazy_names(
        __name__, {"EMGaussianMixture": "_em"}, neural={"SGDGaussianMixture": "_sgd"}
    )
