"""Models trained by gradient descent, and the engine that trains them."""

from typing import TYPE_CHECKING

from skgen._lazy import lazy_names

if TYPE_CHECKING:
    from skgen.neural._model import GradientModel as GradientModel

# Hidden from type checkers, for which a module with `__getattr__` has every name.
if not TYPE_CHECKING:
    __all__, __getattr__, __dir__ = lazy_names(
        __name__, {}, neural={"GradientModel": "_model"}
    )
