r"""Scores that are comparable between patterns of missing values, and between columns.

Log-densities of different features have different distributions. A value is compared
with its own distribution over reference rows: only the probability of lower values
counts. The lower tail is exponential, as of values above a high threshold (Pickands,
1975; the log-density of a normal density has such a tail).
"""

import numpy as np

# Maximum number of reference rows, and the fraction of them in the exponential tail.
N_REFERENCE, _TAIL = 500, 0.1


def spread_rows(scores, weights):
    """Return indices of at most `N_REFERENCE` rows, at even quantiles of scores (n,).

    Rows of weight 0 and of a score of minus infinity are left out.
    """
    order = np.argsort(scores, kind="stable")
    order = order[(scores[order] > -np.inf) & (weights[order] > 0)]
    if not order.size:
        return order
    ends = np.cumsum(weights[order])
    m = min(N_REFERENCE, max(1, round(ends[-1])))
    levels = (np.arange(m) + 0.5) / m * ends[-1]
    return order[np.searchsorted(ends, levels).clip(max=order.size - 1)]


def surprise(values, reference):
    r"""Return :math:`-\log P(v' \le v)` of values (n,) among reference values: (n,).

    `reference` (m,) are finite. The mean over rows like the reference rows is about 1.
    """
    ranks, excess = _positions(values, np.sort(reference))
    m = reference.size
    return excess - np.log((ranks + 1) / (m + 1))


def equated(values, reference, scale):
    r"""Return values (n,) at the same quantiles of another scale: (n,).

    `reference` and `scale` (m,) are the values of the same rows on both scales.
    This is equipercentile equating (Kolen and Brennan, 2014).
    """
    ranks, excess = _positions(values, np.sort(reference))
    scale = np.sort(scale)
    answers = np.interp(ranks, np.arange(scale.size), scale)
    above = np.maximum(values - reference.max(), 0)
    return answers - excess * _tail(scale)[1] + above


def _positions(values, reference):
    """Return ranks (n,) of values from 0 to m - 1, and excesses in the tail (n,).

    `reference` (m,) is sorted. In the tail, ranks stay at its start, and the excess is
    what the logarithm of the probability loses.
    """
    start, width = _tail(reference)
    points, counts = np.unique(reference, return_counts=True)
    ranks = np.cumsum(counts) - (counts + 1) / 2  # ties have the mean of their ranks
    low = reference[start]
    excess = np.maximum(low - values, 0) / width
    return np.interp(np.maximum(values, low), points, ranks), excess


def _tail(reference):
    """Return the index at which the tail of sorted values (m,) starts, and its width.

    The width is the mean excess of an exponential tail, from the median excess: half of
    the rows in the tail can be outliers.
    """
    start = int(_TAIL * reference.size)
    if not start:
        return 0, 1.0
    excess = reference[start] - np.median(reference[:start])
    return start, float(excess / np.log(2)) or 1.0
