r"""Training rows with missing values become several completed rows each.

A row with the observed values :math:`x_o` is replaced by kernels on rows that have
these values and, in place of the missing values, draws given the other rows:

.. math:: p(x) = \sum_i \frac{w_i}{k} \sum_{j=1}^k \mathcal{N}(x; x_i^{(j)}, H), \qquad
          x_{i,m}^{(j)} = c_m + B (x_{i,o} - c_o), \quad c \sim p_{-i}(c | x_{i,o}).

Here `c` is a row of the other kernels, drawn with its posterior probability, and `B`
the regression of a kernel (see `_parts`), so that the kernel on the completed row has
the conditional density of the kernel on `c`. Complete rows alone would be few if values
of many features are missing: draws are repeated in rounds, given all completed rows.
The first draws are from one normal density, fitted by EM (Orchard and Woodbury, 1972,
A missing information principle). Kernels of incomplete rows go back to Titterington and
Mill (1983, Kernel-based density estimates from incomplete data).

Values may be missing at random: whether a value is missing may depend on the observed
values of its row, but not on the missing value itself.
"""

from dataclasses import dataclass

import numpy as np

from skgen._checks import check_observed
from skgen._parts import patterns
from skgen._threads import working_memory
from skgen._warnings import quiet
from skgen._whitening import DEGENERATE_VARIANCE, estimate_whitening
from skgen.kde._bandwidth import scott_factor
from skgen.kde._bounds import fold
from skgen.kde._kernel import Kernel
from skgen.kde._kernel_sum import squared_distances

# Number of completed rows for each incomplete row, and rounds of draws.
_DRAWS, _ROUNDS = 5, 4

# Maximum number of completed rows to draw from: the cost of a round is the number of
# incomplete rows times this number.
_DONORS = 2**13

# Number of rows of the normal density, convergence threshold of its covariance, and
# maximum number of iterations.
_ROWS, _TOL, _MOST_ITERATIONS = 2**11, 1e-5, 100

# Number of rows whose matrices are inverted together.
_BATCH = 2**10


@dataclass(frozen=True)
class Completed:
    """Rows completed k times, and their weights."""

    draws: np.ndarray  # (k, n, d)
    sample_weight: np.ndarray  # (n,)
    observed: np.ndarray  # (n, d) bool

    @property
    def incomplete(self):
        """Return which rows have missing values: (n,)."""
        return ~self.observed.all(axis=1)

    @property
    def fraction(self):
        """Return the fraction of the values that are observed."""
        counts = self.observed.mean(axis=1)
        return float(np.average(counts, weights=self.sample_weight))

    @property
    def kernels(self):
        """Return the centres (c, d) of kernels, their weights and rows (c,)."""
        k, n, d = self.draws.shape
        incomplete = self.incomplete
        again = np.flatnonzero(incomplete)
        rest = self.draws[1:, again].reshape(-1, d)
        row = np.append(np.arange(n), np.tile(again, k - 1))
        share = np.where(incomplete, self.sample_weight / k, self.sample_weight)
        return np.vstack([self.draws[0], rest]), share[row], row

    @property
    def patterns(self):
        """Return rows (r,), observed features (o,) and missing features (m,) alike."""
        incomplete = np.flatnonzero(self.incomplete)
        if not incomplete.size:
            return []
        found = patterns(np.where(self.observed[incomplete], 0.0, np.nan))
        return [
            (incomplete[rows], np.flatnonzero(seen), np.flatnonzero(~seen))
            for rows, seen in found
        ]

    def scattered(self, kernel):
        """Return one draw of each row (n, d) with the noise of conditional kernels."""
        rng, X = np.random.RandomState(0), self.draws[0].copy()
        for rows, o, m in self.patterns:
            _, residual = kernel.conditional(o, m)
            noise = rng.standard_normal((rows.size, m.size))
            X[np.ix_(rows, m)] += residual.whitening.displacements(noise)
        return X


def completed_rows(X, sample_weight, bounds, owner, names):
    """Return the `Completed` rows of (n, d) rows with NaN and weights (n,).

    Draws depend on the rows alone, not on their order: equal rows are merged. Errors
    call the function `owner` and the columns by their `names`.
    """
    observed = ~np.isnan(X)
    check_observed(owner, observed.any(axis=0), names)
    some = observed.any(axis=1)
    X, sample_weight = _distinct(X[some], sample_weight[some])
    observed = ~np.isnan(X)
    mean, scale = _standard_units(X, sample_weight)
    unit = np.where(scale > 0, scale, 1.0)
    if bounds is not None:
        bounds = tuple((bound - mean) / unit for bound in bounds)
    Z = (X - mean) / unit
    rng = np.random.RandomState(0)
    draws = _draws_of_normal(Z, sample_weight, rng)
    for _ in range(_ROUNDS):
        last = _between(draws, Z, scale == 0, bounds)
        draws = _drawn_again(Completed(last, sample_weight, observed), rng)
    draws = _between(draws, Z, scale == 0, bounds)
    draws = np.where(observed, X, mean + draws * unit)
    return Completed(draws, sample_weight, observed)


def _between(draws, Z, constant, bounds):
    """Return draws (k, n, d) whose missing values lie between the bounds."""
    if bounds is not None:
        draws = fold(draws.reshape(-1, Z.shape[1]), *bounds).reshape(draws.shape)
    return np.where(np.isnan(Z), np.where(constant, 0.0, draws), Z)


def _distinct(X, sample_weight):
    """Return the distinct rows of (n, d) rows with NaN, sorted, and their weights."""
    missing = np.isnan(X)
    keys = np.hstack([np.where(missing, 0.0, X), missing])
    order = np.lexsort(keys.T[::-1])
    keys = keys[order]
    starts = np.flatnonzero(np.append(True, (keys[1:] != keys[:-1]).any(axis=1)))
    return X[order[starts]], np.add.reduceat(sample_weight[order], starts)


def _standard_units(X, sample_weight):
    """Return the means and standard deviations (d,) of the observed values."""
    observed = ~np.isnan(X)
    weights = sample_weight[:, None] * observed
    weights /= weights.sum(axis=0)
    first = X[observed.argmax(axis=0), np.arange(X.shape[1])]
    centred = np.where(observed, X - first, 0.0)
    offset = np.einsum("ij,ij->j", weights, centred)
    centred = np.where(observed, centred - offset, 0.0)
    return first + offset, np.sqrt(np.einsum("ij,ij->j", weights, centred**2))


# -- one normal density ----------------------------------------------------------------


def _draws_of_normal(Z, sample_weight, rng):
    """Return rows (n, d) completed by draws of a normal density: (k, n, d)."""
    some = rng.permutation(len(Z))[:_ROWS]
    mean, S = normal_density(Z[some], sample_weight[some])
    draws = np.tile(Z, (_DRAWS, 1, 1))
    for rows, o, m in by_count(Z):
        centre, _, rest = _regressions(Z[rows], mean, S, o, m)
        roots = np.linalg.cholesky(rest)  # (r, m, m)
        noise = rng.standard_normal((_DRAWS, *centre.shape))
        draws[:, rows[:, None], m] = centre + np.einsum("rij,krj->kri", roots, noise)
    return draws


def normal_density(Z, sample_weight):
    """Return the mean (d,) and covariance (d, d) of a normal density of rows with NaN.

    It maximises the posterior density under a prior of uncorrelated features with the
    `prior_weight`. Rows are in units of the standard deviations.
    """
    d, total = Z.shape[1], sample_weight.sum()
    prior = prior_weight(Z, sample_weight)
    mean, S = np.zeros(d), np.eye(d)
    batches = list(by_count(Z))
    for _ in range(_MOST_ITERATIONS):
        filled, scatter = Z.copy(), prior * np.eye(d)
        for rows, o, m in batches:
            filled[rows[:, None], m], _, rest = _regressions(Z[rows], mean, S, o, m)
            rest *= sample_weight[rows, None, None]
            np.add.at(scatter, (m[:, :, None], m[:, None, :]), rest)
        mean = sample_weight @ filled / total
        filled -= mean
        scatter += (filled * sample_weight[:, None]).T @ filled
        last, S = S, scatter / (total + prior)
        if np.abs(S - last).max() < _TOL:
            break
    return mean, S


def prior_weight(Z, sample_weight):
    """Return the weight of the prior of a normal density of rows with NaN, in rows.

    It is the number of covariances for each row that has both features, times the
    fraction of missing values: without it, few rows make a covariance nearly singular.
    """
    total, d = sample_weight.sum(), Z.shape[1]
    observed = float(sample_weight @ (~np.isnan(Z)).mean(axis=1) / total)
    weight = (1 - observed) * (d / observed) ** 2 / total
    return max(weight, DEGENERATE_VARIANCE * total)  # for collinear features


def by_count(Z):
    """Yield incomplete rows of Z (n, d) with equally many missing values, in batches.

    Each is the indices of rows (r,) and of their observed (r, o) and missing (r, m)
    features.
    """
    missing = np.isnan(Z)
    order = np.argsort(missing, axis=1, kind="stable")  # observed features first
    counts = missing.sum(axis=1)
    for count in np.unique(counts[counts > 0]):
        alike = np.flatnonzero(counts == count)
        for start in range(0, alike.size, _BATCH):
            rows = alike[start : start + _BATCH]
            split = Z.shape[1] - count
            yield rows, order[rows, :split], order[rows, split:]


def _regressions(Z, mean, S, o, m):
    """Return E[z_m | z_o] (r, m), slopes (r, o, m) and covariances (r, m, m).

    Z is (r, d), and `o` (r, o) and `m` (r, m) are indices of features.
    """
    within = S[o[:, :, None], o[:, None, :]]
    across = S[o[:, :, None], m[:, None, :]]
    slopes = np.linalg.solve(within, across)  # (r, o, m)
    centred = np.take_along_axis(Z, o, axis=1) - mean[o]
    centre = mean[m] + np.einsum("ro,rom->rm", centred, slopes)
    rest = S[m[:, :, None], m[:, None, :]] - across.swapaxes(1, 2) @ slopes
    return centre, slopes, rest


# -- draws of the other rows -----------------------------------------------------------


def _drawn_again(completed, rng):
    """Return rows (k, n, d), drawn given the other `Completed` rows."""
    centres, weights, owner = completed.kernels
    with quiet():
        whitening = estimate_whitening(centres, weights, "full")
    varying = max(1, int((~whitening.degenerate).sum()))
    n_rows = max(1.0, completed.fraction * weights.sum())
    kernel = Kernel(whitening.rescaled(scott_factor(n_rows, varying)), True)
    some = rng.permutation(len(centres))[:_DONORS]
    centres, owner, log_weights = centres[some], owner[some], np.log(weights[some])
    draws, k = completed.draws.copy(), len(completed.draws)
    step = max(1, working_memory() // (8 * 4 * len(centres)))
    for alike, o, m in completed.patterns:
        marginal, (slopes, _) = kernel.restricted(o), kernel.conditional(o, m)
        points = marginal.coordinates(centres[:, o])
        at_zero = centres[:, m] - points @ slopes.T
        for start in range(0, alike.size, step):
            rows = alike[start : start + step]
            queries = marginal.coordinates(draws[0][np.ix_(rows, o)])
            chosen = _others(queries, points, log_weights, rows, owner, k, rng)
            moved = at_zero[chosen] + queries @ slopes.T  # (k, r, m)
            known = (chosen >= 0)[:, :, None]
            last = draws[:, rows[:, None], m]
            draws[:, rows[:, None], m] = np.where(known, moved, last)
    return draws


def _others(queries, points, log_weights, rows, owner, k, rng):
    """Return the indices of points (n, o) drawn for queries (r, o): (k, r), or -1.

    The points whose `owner` (n,) is the row (r,) of the query are left out. Draws are
    systematic: k of them are spread over the probabilities.
    """
    a = squared_distances(queries, points, np.ones(points.shape[1]))
    a *= -0.5
    a += log_weights
    a[rows[:, None] == owner] = -np.inf
    top = a.max(axis=1)
    a -= np.where(np.isfinite(top), top, 0.0)[:, None]
    limits = np.cumsum(np.exp(a, out=a), axis=1)  # (r, n)
    u = (np.arange(k)[:, None] + rng.random_sample((k, rows.size))) / k
    u *= limits[:, -1]
    chosen = [np.searchsorted(limits[r], u[:, r], "right") for r in range(rows.size)]
    chosen = np.minimum(np.transpose(chosen), len(points) - 1)  # (k, r)
    return np.where(np.isfinite(top), chosen, -1)
