"""Normalizing flows: invertible maps of a row to a latent of the same dimension."""

from typing import TYPE_CHECKING

from skgen._lazy import lazy_names

if TYPE_CHECKING:
    from skgen.flow._normalizing_flow import NormalizingFlow as NormalizingFlow

# Hidden from type checkers, for which a module with `__getattr__` has every name.
if not TYPE_CHECKING:
    __all__, __getattr__, __dir__ = lazy_names(
        __name__, {}, neural={"NormalizingFlow": "_normalizing_flow"}
    )
