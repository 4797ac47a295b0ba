"""The slopes of a QuantileTransformer, which is linear between two quantiles."""

import math

import numpy as np
from scipy.stats import norm

# Quantiles nearer to 0 or 1 than this are one for it.
_EDGE = 1e-7


def log_slopes(step, X, Y):
    r"""Return log |det J| of a QuantileTransformer; -inf outside its quantiles.

    Between two quantiles :math:`q_i < q_{i+1}` the share of rows grows by
    :math:`(r_{i+1} - r_i) / (q_{i+1} - q_i)`; for a normal output that is divided by
    the normal density at `Y`.
    """
    _refuse_ties(step)
    references = step.references_  # (q,)
    answer = np.zeros(X.shape[0])
    for j, quantiles in enumerate(step.quantiles_.T):
        x = X[:, j]
        i = np.searchsorted(quantiles, x, side="right") - 1
        i = i.clip(0, quantiles.size - 2)
        slope = np.diff(references) / np.diff(quantiles)  # (q - 1,)
        answer += np.log(slope[i])
        if step.output_distribution == "normal":
            answer -= norm.logpdf(Y[:, j])
        inside = (x >= quantiles[0]) & (x <= quantiles[-1])
        answer[~inside] = -math.inf
    return answer


def quantile_range(step):
    """Return the range of a QuantileTransformer."""
    d = step.quantiles_.shape[1]
    if step.output_distribution == "uniform":
        return np.zeros(d), np.ones(d)
    edge = -norm.ppf(_EDGE - np.spacing(1))
    return np.full(d, -edge), np.full(d, edge)


def _refuse_ties(step):
    """Raise where quantiles coincide: there the map jumps and has no slope."""
    tied = np.flatnonzero((np.diff(step.quantiles_, axis=0) <= 0).any(axis=0))
    if tied.size:
        names = getattr(step, "feature_names_in_", None)
        column = tied[0] if names is None else names[tied[0]]
        raise ValueError(
            "The quantiles of QuantileTransformer must differ to have a density. "
            f"Column {column} has ties ({tied.size} such columns): add noise of one "
            "grid step with skgen.dequantize first."
        )
