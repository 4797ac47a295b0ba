r"""Stepwise EM: the parameters follow a stream of blocks of rows.

The parameters of a mixture determine the moments of the rows of each component, so that
no earlier rows are needed. A block of weight :math:`w` moves the moments :math:`s` by a
step that decreases with the weight :math:`W` of all rows so far (Cappe and Moulines,
2009; Liang and Klein, 2009),

.. math:: s \leftarrow (1 - \gamma) s + \gamma \bar s_{\text{block}},
          \qquad \gamma = (w / W)^{0.6}.

For blocks of equal size this is :math:`\gamma_t = t^{-0.6}`. A power of 1 would weight
all rows equally; a lower power forgets rows whose responsibilities were computed when
the parameters were poor.
"""

from skgen.mixture._backend import LEAST_LOSS
from skgen.mixture._pass import AbstractProblem, Statistics

_POWER = 0.6


def step_size(weight, total):
    """Return the step size of a block; `total` includes its weight."""
    return (weight / total) ** _POWER


class Stepwise(AbstractProblem):
    """Problem of a block and, as whitened parameters `before`, of the earlier rows."""

    def __init__(self, block, before, step):
        self.block, self.family, self.backend = block, block.family, block.backend
        self.before, self.step = before, step

    def new_pass(self, parameters, loss, moved=None):
        return self.block.new_pass(parameters, loss, moved)

    def sums(self, expectation):
        return self.block.sums(expectation)

    def statistics(self, parameters, loss=LEAST_LOSS, moved=None):
        collected = super().statistics(parameters, loss, moved)
        return blended(collected, self.before, self.step, self.family.covariance)


def blended(collected, before, step, covariance):
    """Return `Statistics` of total weight 1: `step` of the block, the rest of `before`.

    The likelihood is the likelihood of the block.
    """
    scale = step / collected.counts.sum()
    counts = (1 - step) * before.weights  # (K,)
    apart = before.means - collected.origins  # (K, d)
    scatter = covariance.scatter(before.covariances, counts)
    scatter += covariance.outer(counts, apart)
    return Statistics(
        scale * collected.counts + counts,
        scale * collected.first + counts[:, None] * apart,
        scale * collected.scatter + scatter,
        collected.origins,
        collected.log_likelihood,
        collected.lowest_row,
        collected.lowest_weight,
    )
