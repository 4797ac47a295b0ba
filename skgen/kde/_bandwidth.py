r"""Rules for the bandwidth, as factors of the standard deviation of the data.

The rule of Botev, Grotowski and Kroese (2010) is the plug-in rule of Sheather and Jones
without a normal reference: the asymptotic error depends on the unknown density, which
is estimated by diffusion, and the bandwidth is the fixed point
:math:`t = \xi \gamma^{[7]}(t)`. Sums run over the cosine series of a histogram, whose
size does not depend on the number of rows.
"""

import math

import numpy as np
from scipy.fft import dct
from scipy.optimize import brentq

# Number of bins, and their margin on each side as a fraction of the range.
_BINS, _MARGIN = 2**14, 0.5

# Number of stages of the recursion, which begins at the highest derivative.
_STAGES = 7

# Exponent from which exp(-x) underflows to 0.
_NO_TERM = 746.0


def scott_factor(n, d):
    """Return ``n ** (-1 / (d + 4))`` for `n` rows of `d` features (Scott, 1992)."""
    return n ** (-1.0 / (d + 4))


def silverman_factor(n, d):
    """Return ``(n (d + 2) / 4) ** (-1 / (d + 4))`` (Silverman, 1986)."""
    # Minimises the asymptotic mean integrated squared error for normal data.
    return (n * (d + 2) / 4.0) ** (-1.0 / (d + 4))


def rule_factor(rule, X, sample_weight, whitening):
    """Return the factor of a rule for (n, d) rows; "likelihood" takes Scott's."""
    n = sample_weight.sum()
    if rule == "isj" and not whitening.degenerate.any():
        z = whitening.whiten(X)[:, 0]
        n_distinct = np.unique(z).size
        factor = improved_sheather_jones(z, sample_weight, min(n, n_distinct))
        if factor is not None:
            return factor
    # Directions at the floor do not count as dimensions.
    d = max(1, int((~whitening.degenerate).sum()))
    factor = scott_factor if rule in ("scott", "likelihood") else silverman_factor
    return factor(n, d)


def improved_sheather_jones(x, sample_weight, n):
    """Return the bandwidth of non-constant values (n_samples,), or None.

    `n` is the number of distinct values, or the sum of the weights if that is smaller.
    None means that there is no fixed point.
    """
    low, high = x.min(), x.max()
    reach = high - low
    low, span = low - _MARGIN * reach, reach * (1 + 2 * _MARGIN)
    counts, _ = np.histogram(x, _BINS, (low, low + span), weights=sample_weight)
    coefficients = dct(counts / counts.sum())  # (bins,)
    squares = (coefficients[1:] / 2) ** 2
    k2 = np.arange(1.0, _BINS) ** 2
    powers = [k2**s * squares for s in range(_STAGES + 1)]  # of the derivatives

    def excess(t):
        return t - _next_time(t, n, k2, powers)

    # The smallest fixed point: larger ones smooth away all structure.
    times = np.geomspace(1e-12, 0.1, 200)
    signs = [excess(t) for t in times]
    for i in range(1, times.size):
        if signs[i - 1] < 0 <= signs[i]:
            t = brentq(excess, times[i - 1], times[i], xtol=1e-18)
            return span * math.sqrt(t)
    return None


def _next_time(t, n, k2, powers):
    r"""Return :math:`\xi \gamma^{[7]}(t)`, equations 29 and 30 of the paper."""
    f = _roughness(_STAGES, t, k2, powers)
    for s in range(_STAGES - 1, 1, -1):
        odd = np.prod(np.arange(1.0, 2 * s, 2)) / math.sqrt(2 * math.pi)
        constant = (1 + 0.5 ** (s + 0.5)) / 3
        time = (2 * constant * odd / (n * f)) ** (2 / (3 + 2 * s))
        f = _roughness(s, time, k2, powers)
    return (2 * n * math.sqrt(math.pi) * f) ** (-0.4)


def _roughness(s, t, k2, powers):
    """Return the squared norm of the s-th derivative of the density at time `t`."""
    n_terms = int(math.sqrt(_NO_TERM / t) / math.pi) + 1
    terms = powers[s][:n_terms] * np.exp(-k2[:n_terms] * math.pi**2 * t)
    return 2 * math.pi ** (2 * s) * max(terms.sum(), np.finfo(float).tiny)
