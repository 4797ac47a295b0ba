"""Points that fill a cube more evenly than draws do."""

import inspect
import math

from scipy.stats import qmc

# What SciPy calls the seed since 1.15, and before.
_SEED = "rng" if "rng" in inspect.signature(qmc.Sobol).parameters else "seed"


def uniform_points(n, k):
    """Return (n, k) points in the open unit cube.

    The scrambled Sobol points (Owen, 1998) of one seed: always the same.
    """
    points = qmc.Sobol(k, scramble=True, **{_SEED: 0})
    u = points.random_base2(max(0, math.ceil(math.log2(n))))[:n]  # (n, k)
    # Scrambled points have 30 bits: half a step keeps them off 0 and 1.
    return (u + 2.0**-31).clip(2.0**-31, 1 - 2.0**-31)
