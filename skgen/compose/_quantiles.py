"""Log-determinants of a QuantileTransformer, which is linear between quantiles."""

import math

import numpy as np
from scipy.stats import norm

from skgen._columns import label_of

# Distance from 0 and 1 at which the transformer clips quantiles of a normal output.
_EDGE = 1e-7


def log_slopes(step, X, Y):
    """Return log |det J| of a QuantileTransformer (n,); -inf outside its quantiles."""
    # Between the quantiles q_i and q_{i+1} the slope is (r_{i+1} - r_i) over
    # (q_{i+1} - q_i), divided by the normal density at Y for a normal output.
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
    """Return the bounds of the output of a QuantileTransformer, (d,) each."""
    d = step.quantiles_.shape[1]
    if step.output_distribution == "uniform":
        return np.zeros(d), np.ones(d)
    edge = -norm.ppf(_EDGE - np.spacing(1))
    return np.full(d, -edge), np.full(d, edge)


class TiedQuantilesError(ValueError):
    """Quantiles coincide in `columns`: the map jumps there and has no slope."""

    def __init__(self, columns):
        super().__init__(columns)
        self.columns = columns

    def message(self, names=None):
        """Return the message for the user, with the names of columns if known."""
        n_tied = self.columns.size
        more = f" ({n_tied} columns have ties)" if n_tied > 1 else ""
        return (
            "The quantiles of QuantileTransformer must differ to have a density. "
            f"Column {label_of(self.columns[0], names)} has ties{more}: add noise of "
            "one grid step with skgen.dequantize first."
        )


def _refuse_ties(step):
    """Raise if quantiles of a column coincide."""
    tied = np.flatnonzero((np.diff(step.quantiles_, axis=0) <= 0).any(axis=0))
    if tied.size:
        raise TiedQuantilesError(tied)
