"""Quasi-random points."""

import inspect
import math

from scipy.stats import qmc

# Name of the seed, which SciPy 1.15 renamed.
_SEED = "rng" if "rng" in inspect.signature(qmc.Sobol).parameters else "seed"


def uniform_points(n, k):
    """Return (n, k) scrambled Sobol points (Owen, 1998) in the open unit cube.

    The seed is fixed: the points are always the same.
    """
    points = qmc.Sobol(k, scramble=True, **{_SEED: 0})
    u = points.random_base2(max(0, math.ceil(math.log2(n))))[:n]  # (n, k)
    # Scrambled points have 30 bits: half a step keeps them away from 0 and 1.
    return (u + 2.0**-31).clip(2.0**-31, 1 - 2.0**-31)
