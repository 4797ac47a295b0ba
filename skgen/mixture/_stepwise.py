r"""Stepwise EM: the parameters follow a stream of blocks of rows.

The parameters of a mixture are the moments of the rows by component, so that they are
all that has to be kept of the rows before. A block of the weight :math:`w`, where
:math:`W` is that of all rows so far, moves the moments :math:`s` by a decaying step
(Cappe and Moulines, 2009; Liang and Klein, 2009),

.. math:: s \leftarrow (1 - \gamma) s + \gamma \bar s_{\text{block}},
          \qquad \gamma = (w / W)^{0.6}.

For blocks of one size this is :math:`\gamma_t = t^{-0.6}`. The power of 1 would count
every row alike; a lower one forgets the rows whose moments were taken when the
parameters were poor.
"""

import numpy as np

from skgen.mixture._problem import LEAST_LOSS, AbstractProblem
from skgen.mixture._statistics import Statistics

_POWER = 0.6


def step_size(weight, total):
    """Return the share of a block in the moments; `total` includes its weight."""
    return (weight / total) ** _POWER


class Stepwise(AbstractProblem):
    """The rows of a block, and all rows before in the form of parameters.

    Parameters
    ----------
    block : AbstractProblem
        The rows of the block.
    before : Parameters
        What the rows before have led to, in the same whitened coordinates.
    step : float
        The share of the block in the moments.
    """

    def __init__(self, block, before, step):
        self.block, self.family = block, block.family
        self.before, self.step = before, step

    def sums(self, expectation):
        return self.block.sums(expectation)

    def statistics(self, parameters, loss=LEAST_LOSS, moved=None):
        collected = super().statistics(parameters, loss, moved)
        return blended(collected, self.before, self.step, self.family.covariance)


def blended(collected, before, step, covariance):
    """Return the moments of a block together with those that parameters stand for.

    Parameters
    ----------
    collected : Statistics
        Of the block.
    before : Parameters
        Of the rows before.
    step : float
        The share of the block.
    covariance : AbstractEstimatedCovariance
        The shape of the covariances.

    Returns
    -------
    Statistics
        Of the total weight 1, about the same points as `collected`. The likelihood is
        that of the block.
    """
    scale = step / collected.counts.sum()
    counts = (1 - step) * before.weights  # (K,)
    apart = before.means - collected.origins  # (K, d)
    d = apart.shape[1]
    scatter = covariance.scatter(before.covariances, counts, d)
    for k in np.flatnonzero(counts):
        covariance.add_scatter(scatter, k, counts[k : k + 1], apart[k : k + 1])
    return Statistics(
        scale * collected.counts + counts,
        scale * collected.first + counts[:, None] * apart,
        scale * collected.scatter + scatter,
        collected.origins,
        collected.log_likelihood,
        collected.lowest_row,
        collected.lowest_share,
    )
