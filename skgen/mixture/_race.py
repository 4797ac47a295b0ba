"""A race of starts on a sample of the rows; the best goes on alone.

Which start is the best shows after a few iterations, and on some ten thousand rows as
well as on millions. The winner then converges on the sample, so that only the last
iterations are left to all rows.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np

from skgen.mixture._init import initial_shares
from skgen.mixture._iterations import Run
from skgen.mixture._problem import Problem
from skgen.mixture._rows import canonical_rows
from skgen.mixture._start import completed
from skgen.mixture._tables import ArrayTable, problem_in_memory

# The least rows that starts race on, and their least for each feature of a component.
_LEAST_ROWS, _ROWS_FOR_FEATURE = 2**12, 80

# Rows of each level over those of the level before, and the least of the last step.
_GROWTH, _LEAST_GROWTH = 4, 4

# The most numbers in the rows of a level, which are in memory, except the first's.
_MOST_NUMBERS = 2**23

# Iterations of every start in the first heat. After a heat the better half goes on for
# twice as many.
_FIRST_HEAT = 5

# Likelihoods that differ by less of themselves, or nats, are equal: starts that lead to
# one optimum may name its components in different orders, and rounding must not tell.
_EQUAL = 1e-9

# From so many numbers in the rows times components, two of every start race: fewer take
# less time than the calls for them.
_WORTH_TWO = 1e5

# A collapsed component of fewer rows than this for each feature is no finding.
_FEW_ROWS = 10

# On a level EM goes on until the rise is so small a share of `tol`, for at most so many
# iterations: they are cheap.
_FINER, _MOST_ITERATIONS = 0.3, 200

# Rises of the likelihood below which steps are longer than those of EM, from a start
# of the user's, who is to get the optimum that EM leads to, and from one of ours.
_FROM_GIVEN, _FROM_OURS = 1e-5, np.inf


def level_sizes(n, d, K, most=np.inf):
    """Return how many of `n` rows each level has: none where all of them are few.

    `most` is how many may be in memory.
    """
    sizes, size = [], min(max(_LEAST_ROWS, _ROWS_FOR_FEATURE * K * d), most)
    while size * _LEAST_GROWTH <= n and (
        not sizes or sizes[-1] < size <= _MOST_NUMBERS // d
    ):
        sizes.append(size)
        size = min(size * _GROWTH, most)
    return sizes if sizes or n <= most else [most]


class Levels:
    """More and more of the rows of a table, in whitened coordinates.

    Parameters
    ----------
    table : AbstractTable
        The rows.
    problem : AbstractProblem
        All of them in whitened coordinates.
    spread : Spread
        Of the rows.
    family : tuple of whitening, covariance and floor
        As `problem_in_memory` takes them.

    Attributes
    ----------
    all : AbstractProblem
        All rows.
    """

    def __init__(self, table, problem, spread, family):
        self.all, self._table = problem, table
        self._spread, self._family = spread, family

    def samples(self, n_components):
        """Return problems of rows in memory, each with the rows of those before it.

        Returns
        -------
        problems : list of Problem
            At least one.
        whole : bool
            Whether that one has all rows.
        """
        n, d = self._spread.n_rows, self._table.n_features
        in_memory = isinstance(self._table, ArrayTable)
        most = np.inf if in_memory else max(1, _MOST_NUMBERS // d)
        sizes = level_sizes(n, d, n_components, most)
        if not sizes and isinstance(self.all, Problem):
            return [self.all], True
        size = sizes[-1] if sizes else n
        X, sample_weight = self._table.sample(size, self._spread)
        if X.shape[0] < size:  # rows repeat each other: these are all that differ
            sizes = level_sizes(X.shape[0], d, n_components)
        problems = [
            problem_in_memory(
                *canonical_rows(X[:size], sample_weight[:size]), *self._family
            )
            for size in sizes or [X.shape[0]]
        ]
        return problems, not sizes


def first_run(model, levels, start, whitening, rng):
    """Return the run that goes on over all rows.

    Parameters
    ----------
    model : EMGaussianMixture
        Its parameters `n_components`, `n_init`, `init_params`, `tol` and `max_iter`.
    levels : Levels
        More and more of the rows.
    start : tuple of weights, means and factors
        As `user_start` returns them; None takes what `init_params` says.
    whitening : FullWhitening or DiagonalWhitening
        The coordinates.
    rng : RandomState
        Where random choices come from.

    Returns
    -------
    Run
        Without bounds as yet.
    """
    if all(part is not None for part in start):
        parameters = completed(start, None, levels.all, whitening)
        return _begun(parameters, levels.all, _FROM_GIVEN)
    samples, whole = levels.samples(model.n_components)
    runs = [
        _begun(parameters, samples[0], _FROM_OURS)
        for parameters in candidates(model, samples[0], start, whitening, rng)
    ]
    if model.max_iter == 0:
        return _begun(runs[0].parameters, levels.all, _FROM_OURS)
    run = race(runs, samples[0], model.tol)
    if not whole:
        for sample, larger in pairwise([*samples, levels.all]):
            advance(run, sample, _FINER * model.tol, _MOST_ITERATIONS)
            run = _begun(run.parameters, larger, _FROM_OURS)
    return replace(run, bounds=[], converged=False)


def _begun(parameters, problem, accelerate_below):
    return Run(parameters, problem.statistics(parameters), accelerate_below)


def candidates(model, sample, start, whitening, rng):
    """Yield the parameters that race: `n_init` times one start or more."""
    K, method = model.n_components, model.init_params
    twice = method == "kmeans" and sample.X.size * K >= _WORTH_TWO
    for _ in range(model.n_init * (1 + twice)):
        for X in coordinates(sample.X, whitening, method):
            shares = initial_shares(X, sample.sample_weight, K, method, rng)
            found = sample.from_shares(shares, K)
            yield completed(start, found, sample, whitening)


def coordinates(X, whitening, method):
    """Return the rows in the coordinates that k-means looks for clusters in.

    Whitened, correlated features count once; of unit variance each, clusters that
    make them correlated stay apart. Either finds the better start on about half of
    the data sets, and EM soon tells.
    """
    factor = getattr(whitening, "factor", None)  # (d, d), of a full whitening
    if method != "kmeans" or factor is None or X.shape[1] == 1:
        return [X]
    return [X, X @ (factor / np.sqrt((factor**2).sum(axis=1))[:, None]).T]


def race(runs, problem, tol):
    """Return the run of the highest likelihood: half of them drop out after a heat.

    The runs have all gone through the same iterations, unless they converged. Those
    in which a few rows are at the floor come after all others.
    """
    n, d = problem.X.shape
    runs, length = list(runs), _FIRST_HEAT
    while len(runs) > 1:
        for run in runs:
            advance(run, problem, tol, length)
        best = ranked([(_is_spurious(run, n, d), run.bound) for run in runs])
        runs = [runs[i] for i in sorted(best[: (len(runs) + 1) // 2])]
        length *= 2
    return runs[0]


def ranked(results):
    """Return the order of pairs of whether spurious, and a likelihood: the best first.

    Of those that are equal, to rounding, the earliest is the first.
    """
    order = sorted(range(len(results)), key=lambda i: (results[i][0], -results[i][1]))
    groups = []
    for i in order:
        spurious, bound = results[i]
        if groups:
            last = results[groups[-1][-1]]
            equal = last[1] - bound <= _EQUAL * max(1.0, abs(bound))
            if last[0] == spurious and equal:
                groups[-1].append(i)
                continue
        groups.append([i])
    return [i for group in groups for i in sorted(group)]


def _is_spurious(run, n, d):
    """Tell whether a component holds a few rows in a line, or nearly.

    It raises the likelihood of these without bound but the floor, and says nothing of
    others.
    """
    few = run.parameters.weights * n < _FEW_ROWS * d
    return bool((run.at_floor & few).any())


def advance(run, problem, tol, most):
    """Iterate until `tol` or at most so often."""
    for _ in range(most):
        if run.converged or run.stalled:
            break
        run.step(problem, tol)
