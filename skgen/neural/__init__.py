"""Models that learn by gradient descent, and the one engine that trains them.

PyTorch and skorch are imported at the first fit, not here.
"""

from skgen.neural._base import GradientModel

__all__ = ["GradientModel"]
