"""Diffusion models: noise becomes a row by an ordinary differential equation."""

from typing import TYPE_CHECKING

from skgen._lazy import lazy_names

if TYPE_CHECKING:
    from skgen.diffusion._diffusion_model import DiffusionModel as DiffusionModel

# Hidden from type checkers, for which a module with `__getattr__` has every name.
if not TYPE_CHECKING:
    __all__, __getattr__, __dir__ = lazy_names(
        __name__, {}, neural={"DiffusionModel": "_diffusion_model"}
    )
