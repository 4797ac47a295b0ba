"""Successive halving of the initialisations, on samples of the rows.

A few iterations on some ten thousand rows are enough to rank the initialisations. The
best one then converges on the samples, so that few iterations use all rows. Gradient
descent starts from the best one itself.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np

from skgen.mixture._central import ROWS
from skgen.mixture._covariance import COVARIANCES
from skgen.mixture._initialize import completed, initial_responsibilities
from skgen.mixture._iterations import Run
from skgen.mixture._lowrank import LowRank, low_rank_of
from skgen.mixture._pass import Problem
from skgen.mixture._problem import problem_in_memory
from skgen.rows._source import canonical_rows

# Minimum number of rows of the first level, in all and per feature and component.
_LEAST_ROWS, _ROWS_FOR_FEATURE = 2**12, 80

# Number of rows of a level divided by the number of the level before, and the minimum
# of that ratio for all rows.
_GROWTH, _LEAST_GROWTH = 4, 4

# Maximum number of values in a level, which is in memory. The first may have more.
_MOST_NUMBERS = 2**23

# Number of iterations before the first halving. It doubles after each halving.
_FIRST_ITERATIONS = 5

# Likelihoods with a smaller difference, relative or in nats, are equal. Initialisations
# that lead to the same optimum may order its components differently; rounding must not
# decide between them.
_EQUAL = 1e-9

# Minimum number of values times components for two k-means initialisations in place of
# one. For smaller data the overhead of the calls would dominate.
_WORTH_TWO = 1e5

# Treat a collapsed component with fewer rows per feature than this as spurious.
_FEW_ROWS = 10

# Maximum number of rows in the sample for gradient descent: the larger of a total and
# of a number per component.
_DESCENT_ROWS, _ROWS_FOR_COMPONENT = 20_000, 400

# Tolerance on a level, as a fraction of `tol`, and maximum number of its iterations.
_FINER, _MOST_ITERATIONS = 0.3, 200

# Steps are accelerated once the likelihood rises by less than this. A user who gives
# all initial parameters gets the optimum of plain EM.
_FROM_GIVEN, _FROM_OURS = 1e-5, np.inf


def level_sizes(n, d, K, most=np.inf):
    """Return the number of rows of each level; [] if `n` rows are few.

    `most` is the maximum number of rows in memory.
    """
    sizes, size = [], min(max(_LEAST_ROWS, _ROWS_FOR_FEATURE * K * d), most)
    while size * _LEAST_GROWTH <= n and (
        not sizes or sizes[-1] < size <= _MOST_NUMBERS // d
    ):
        sizes.append(size)
        size = min(size * _GROWTH, most)
    return sizes if sizes or n <= most else [most]


def sample_size(table, n, n_components):
    """Return the number of `n` rows to draw: of the largest level, or a few."""
    d = table.n_features
    most = np.inf if table.in_memory else max(1, _MOST_NUMBERS // d)
    sizes = level_sizes(n, d, n_components, most)
    return sizes[-1] if sizes else min(n, ROWS) if table.in_memory else n


class Levels:
    """Nested samples of the rows of a table; `all` is the problem of all rows.

    `family` holds the whitening, covariance and floor.
    """

    def __init__(self, table, problem, moments, family):
        self.all, self._table = problem, table
        self._moments, self._family = moments, family

    def samples(self, n_components):
        """Return nested in-memory problems, and whether the only one has all rows."""
        n, d = self._moments.n_rows, self._table.n_features
        most = np.inf if self._table.in_memory else max(1, _MOST_NUMBERS // d)
        sizes = level_sizes(n, d, n_components, most)
        if not sizes and self.all.in_memory:
            return [self.all], True
        size = sizes[-1] if sizes else n
        X, sample_weight = self._table.sample(size, self._moments)
        if X.shape[0] < size:  # the sample has all distinct rows
            sizes = level_sizes(X.shape[0], d, n_components)
        problems = [
            problem_in_memory(
                *canonical_rows(X[:size], sample_weight[:size]), *self._family
            )
            for size in sizes or [X.shape[0]]
        ]
        return problems, not sizes


def first_run(model, levels, given, whitening, rng):
    """Return the run that continues on all rows; `given` is from `given_parameters`."""
    if all(part is not None for part in given):
        parameters = completed(given, None, levels.all, whitening)
        return _begun(parameters, levels.all, _FROM_GIVEN)
    samples, whole = levels.samples(model.n_components)
    runs = [
        _begun(parameters, samples[0], _FROM_OURS)
        for parameters in initial_parameters(model, samples[0], given, whitening, rng)
    ]
    if model.max_iter == 0:
        return _begun(runs[0].parameters, levels.all, _FROM_OURS)
    run = successive_halving(runs, samples[0], model.tol)
    if not whole:
        for sample, larger in pairwise([*samples, levels.all]):
            advance(run, sample, _FINER * model.tol, _MOST_ITERATIONS)
            run = _begun(run.parameters, larger, _FROM_OURS)
    return replace(run, bounds=[], converged=False)


def _begun(parameters, problem, accelerate_below):
    return Run(parameters, problem.statistics(parameters), accelerate_below)


def initial_parameters(model, sample, given, whitening, rng):
    """Yield initial parameters, one to four for each of `n_init`."""
    K, factor = model.n_components, getattr(whitening, "factor", None)
    for _ in range(model.n_init):
        for r in initial_clusters(sample, K, model.init_params, factor, rng):
            found = sample.from_responsibilities(r, K)
            yield completed(given, found, sample, whitening)


def initial_clusters(problem, n_components, method, factor, rng):
    """Yield one to four functions of `initial_responsibilities`."""
    twice = method == "kmeans" and problem.X.size * n_components >= _WORTH_TWO
    for _ in range(1 + twice):
        for X in coordinates(problem.X, factor, method):
            weighted = X, problem.sample_weight
            yield initial_responsibilities(*weighted, n_components, method, rng)


def best_start(starts, problem, n_components):
    """Return the position of the best of some `initial_responsibilities`."""
    found = [problem.from_responsibilities(r, n_components) for r in starts]
    runs = [_begun(parameters, problem, _FROM_OURS) for parameters in found]
    best = successive_halving(runs, problem, 0.0)
    return next(i for i, run in enumerate(runs) if run is best)


def coordinates(X, factor, method):
    """Return the rows (n, r) in each of the coordinates for `init_params`.

    `factor` (d, r) is the factor of a full whitening, else None.
    """
    # In whitened coordinates, correlated features count once. With unit variances,
    # clusters that cause the correlation stay separate. Each is better on about half of
    # the data sets, which shows after a few iterations.
    if method != "kmeans" or factor is None or X.shape[1] == 1:
        return [X]
    lengths = np.sqrt((factor**2).sum(axis=1))  # (d,)
    return [X, X @ (factor / np.where(lengths > 0, lengths, 1.0)[:, None]).T]


def successive_halving(runs, problem, tol):
    """Return the run with the highest likelihood, by successive halving.

    Runs with a spurious component rank last.
    """
    n, d = problem.X.shape
    runs, n_iterations = list(runs), _FIRST_ITERATIONS
    while len(runs) > 1:
        for run in runs:
            advance(run, problem, tol, n_iterations)
        best = ranked([(_is_spurious(run, n, d), run.bound) for run in runs])
        runs = [runs[i] for i in sorted(best[: (len(runs) + 1) // 2])]
        n_iterations *= 2
    return runs[0]


def ranked(results):
    """Return the order, best first, of pairs (is spurious, likelihood).

    Likelihoods that are equal up to rounding keep their order.
    """
    order = sorted(range(len(results)), key=lambda i: (results[i][0], -results[i][1]))
    groups = [order[:1]]
    for better, i in pairwise(order):
        (before, above), (spurious, bound) = results[better], results[i]
        equal = above - bound <= _EQUAL * max(1.0, abs(bound))
        if equal and before == spurious:
            groups[-1].append(i)
        else:
            groups.append([i])
    return [i for group in groups for i in sorted(group)]


def _is_spurious(run, n, d):
    """Return whether a component collapsed onto a few rows in a hyperplane."""
    # The floor is the only bound on the likelihood of these rows.
    few = run.parameters.weights * n < _FEW_ROWS * d
    return bool((run.at_floor & few).any())


def advance(run, problem, tol, most):
    """Iterate until convergence, at most `most` times."""
    for _ in range(most):
        if run.converged or run.stalled:
            break
        run.step(problem, tol)


def n_sampled(n_components):
    """Return the maximum number of rows in the sample for gradient descent."""
    return max(_DESCENT_ROWS, _ROWS_FOR_COMPONENT * n_components)


def first_values(X, n_components, covariance, rank, method, floor, rng, factor=None):
    """Return weights (K,), means (K, d) and covariances for gradient descent.

    Rows (n, d) are in whitened coordinates, of which none is constant, with the
    `factor` of `coordinates`. Covariances have their public shape.
    """
    K, (n, d) = n_components, X.shape
    low_rank = isinstance(covariance, LowRank)
    estimated = COVARIANCES["diag"] if low_rank else covariance
    # In modules shared variances have the shape (1, d), pooled variances (K,).
    one = estimated.shared and not (estimated.dense or estimated.pooled)
    if d == 0:  # all features are constant
        shape = (K, 0, rank + 1) if low_rank else covariance.shape(K, 0)
        return np.full(K, 1 / K), np.zeros((K, 0)), np.zeros((1, 0) if one else shape)
    X, sample_weight = canonical_rows(X, np.ones(n))
    problem = Problem(X, sample_weight, estimated, floor, np.zeros(d, dtype=bool))
    starts = list(initial_clusters(problem, K, method, factor, rng))
    responsibilities = starts[0]
    if len(starts) > 1:
        responsibilities = starts[best_start(starts, problem, K)]
    found = problem.from_responsibilities(responsibilities, K)
    weights, means, covariances = found.weights, found.means, found.covariances
    # With fewer distinct rows than components, some components are empty.
    for k in np.flatnonzero(weights == 0):
        means[k] = X[rng.randint(X.shape[0])]
    if not estimated.shared:
        # Small clusters determine their covariance poorly. Shrink it towards the
        # average covariance, which counts as d rows, or as 2 rows for variances.
        average = np.average(covariances, axis=0, weights=weights)
        counts = (weights * n).reshape(-1, *[1] * average.ndim)
        more = d if estimated.dense else 2
        covariances = (counts * covariances + more * average) / (counts + more)
    if low_rank:
        r = responsibilities(slice(None)) * sample_weight[:, None]  # (n, K)
        values = zip(r.T, means, covariances, strict=True)
        covariances = np.stack([low_rank_of(X, *value, rank, rng) for value in values])
    weights = np.maximum(weights, 0.5 / max(n, K))
    covariances = covariance.public(covariances)
    return weights / weights.sum(), means, covariances[None] if one else covariances
