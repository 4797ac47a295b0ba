"""Initialisations compete on some of the rows; the best one continues on all rows."""

import warnings
from itertools import pairwise

import numpy as np
import pytest
from mixtures import TYPES
from sklearn.mixture import GaussianMixture

from skgen import EMGaussianMixture
from skgen._whitening import estimate_whitening, whitening_of
from skgen.mixture import _restarts
from skgen.mixture._covariance import COVARIANCES
from skgen.mixture._initialize import INIT_PARAMS
from skgen.mixture._iterations import Run
from skgen.mixture._pass import Problem
from skgen.mixture._problem import problem_of
from skgen.mixture._restarts import (
    Levels,
    advance,
    coordinates,
    first_run,
    initial_parameters,
    level_sizes,
    ranked,
    successive_halving,
)
from skgen.rows._source import Rows, distinct_rows

NOTHING = (None, None, None)


def clusters(n=400, d=3, K=4, seed=0):
    rng = np.random.RandomState(seed)
    means = 3 * rng.standard_normal((K, d))
    mixing = np.eye(d) + 0.5 * rng.standard_normal((d, d))
    return (means[rng.randint(K, size=n)] + rng.standard_normal((n, d))) @ mixing


def whitened(X, kind="full"):
    covariance, weights = COVARIANCES[kind], np.ones(X.shape[0])
    whitening = estimate_whitening(X, weights, covariance.whitening)
    rows = whitening.whiten(X), weights, covariance, 1e-6, whitening.degenerate
    return Problem(*rows), whitening


@pytest.fixture
def small_levels(monkeypatch):
    """Levels of 100, 400, ... rows."""
    monkeypatch.setattr(_restarts, "_LEAST_ROWS", 100)
    monkeypatch.setattr(_restarts, "_ROWS_FOR_FEATURE", 1)


@pytest.fixture
def passes(monkeypatch):
    """Return counts of passes by the number of rows."""
    counts, original = {}, Problem.statistics

    def counted(self, *arguments, **options):
        n = self.X.shape[0]
        counts[n] = counts.get(n, 0) + 1
        return original(self, *arguments, **options)

    monkeypatch.setattr(Problem, "statistics", counted)
    return counts


def test_levels_grow_to_all_rows():
    assert level_sizes(30_000, 10, 20) == []
    assert level_sizes(70_000, 10, 20) == [16_000]
    assert level_sizes(286_048, 10, 20) == [16_000, 64_000]
    # Fewer parameters need fewer rows.
    assert level_sizes(20_000, 2, 5) == [4096]


def levels_of(X, weights, kind="full"):
    """Return the levels of a table."""
    model = EMGaussianMixture(2)
    model._fit_dtype = X.dtype
    table = distinct_rows(model, X, weights)
    covariance = COVARIANCES[kind]
    moments = table.moments(full=covariance.whitening == "full")
    family = whitening_of(moments, covariance.whitening), covariance, 1e-6
    return Levels(table, problem_of(table, *family), moments, family)


def test_each_level_holds_the_rows_of_those_before(small_levels):
    levels = levels_of(clusters(1600), np.arange(1.0, 1601.0))
    problems, whole = levels.samples(2)
    assert not whole
    assert [p.X.shape[0] for p in problems] == [100, 400]
    for few, more in pairwise([*problems, levels.all]):
        assert set(few.sample_weight) < set(more.sample_weight)
        rows = dict(zip(more.sample_weight, more.X, strict=True))
        found = [rows[w] for w in few.sample_weight]
        np.testing.assert_allclose(few.X, found, rtol=1e-12, atol=1e-12)


def test_few_rows_are_one_level():
    levels = levels_of(clusters(1000), np.ones(1000))
    problems, whole = levels.samples(2)
    assert whole
    assert problems == [levels.all]


def test_levels_hold_few_numbers(small_levels, monkeypatch):
    monkeypatch.setattr(_restarts, "_MOST_NUMBERS", 2_000)
    assert level_sizes(10**9, 3, 2) == [100, 400]
    assert level_sizes(10**9, 3_000, 2) == [6_000]


def test_few_rows_that_are_elsewhere_are_no_reason_to_bring_them_all():
    # In memory all rows are one level; else a sample of the most that may be brought.
    assert level_sizes(600_000, 100, 20) == []
    assert level_sizes(600_000, 100, 20, 83_886) == [83_886]
    assert level_sizes(5_000_000, 200, 64, 41_943) == [41_943]
    assert level_sizes(286_048, 10, 20, 838_860) == [16_000, 64_000]
    assert level_sizes(286_048, 10, 20, 20_000) == [16_000, 20_000]
    assert level_sizes(50_000, 10, 20, 838_860) == []


def test_a_table_elsewhere_brings_no_more_than_may_be_in_memory(monkeypatch):
    monkeypatch.setattr(_restarts, "_MOST_NUMBERS", 3_000)
    X, brought = clusters(4_000), []
    original = Rows._drawn

    def counted(self, size, moments):
        sample = original(self, size, moments)
        brought.append(sample.X.size)
        return sample

    monkeypatch.setattr(Rows, "_drawn", counted)
    EMGaussianMixture(4, random_state=0).fit(lambda: iter(np.array_split(X, 5)))
    assert brought == [3_000]


@pytest.mark.parametrize(
    ("results", "order"),
    [
        ([(False, 1.0), (False, 3.0), (False, 2.0)], [1, 2, 0]),
        ([(False, 1.0), (False, 1.0 + 1e-12), (False, 0.5)], [0, 1, 2]),
        ([(False, -1e3 - 1e-7), (False, -1e3), (True, 9.0)], [0, 1, 2]),
        ([(True, 9.0), (True, 9.0 + 1e-12), (False, -1e9)], [2, 0, 1]),
        ([(False, 1.0), (False, 1.0 + 1e-8)], [1, 0]),
    ],
)
def test_of_starts_that_are_equal_to_rounding_the_earliest_is_the_best(results, order):
    assert ranked(results) == order


def test_k_means_looks_at_rows_of_unit_variance_as_well():
    X = clusters()
    data, whitening = whitened(X)
    first, second = coordinates(data.X, whitening.factor, "kmeans")
    assert first is data.X
    expected = (X - X.mean(axis=0)) / X.std(axis=0)
    np.testing.assert_allclose(second, expected, atol=1e-10)
    assert len(coordinates(data.X, whitening.factor, "random")) == 1
    diagonal, whitening = whitened(X, "diag")
    assert len(coordinates(diagonal.X, None, "kmeans")) == 1


@pytest.mark.parametrize("init_params", INIT_PARAMS)
def test_n_init_starts_that_differ(init_params):
    data, whitening = whitened(clusters())
    model = EMGaussianMixture(4, n_init=3, init_params=init_params)
    rest = data, NOTHING, whitening, np.random.RandomState(0)
    found = list(initial_parameters(model, *rest))
    assert len(found) == (6 if init_params == "kmeans" else 3)
    assert len({parameters.means.tobytes() for parameters in found}) > 1


def test_the_best_initialisation_continues():
    data, whitening = whitened(clusters(seed=3))
    model = EMGaussianMixture(4, n_init=5, init_params="random_from_data")
    rest = data, NOTHING, whitening, np.random.RandomState(0)
    runs = [
        Run(p, data.statistics(p), np.inf) for p in initial_parameters(model, *rest)
    ]
    winner = successive_halving(list(runs), data, 1e-3)
    lengths = sorted(len(run.bounds) for run in runs)
    assert any(winner is run for run in runs)
    # 5, 3 and 2 of them for 5, 10 and 20 iterations, if they did not converge.
    assert lengths[0] <= 5
    assert lengths[-1] <= 35
    for run in runs:
        advance(run, data, 1e-3, 500)
    assert winner.bound >= np.median([run.bound for run in runs])


def test_one_initialisation_does_not_compete(passes):
    levels = levels_of(clusters(), np.ones(400))
    model = EMGaussianMixture(4, init_params="k-means++")
    first_run(model, levels, NOTHING, levels._family[0], np.random.RandomState(0))
    assert passes == {400: 1}


def test_the_work_of_the_winner_is_not_repeated(passes):
    X = clusters()
    mixture = EMGaussianMixture(4, random_state=0).fit(X)
    # Two starts, 5 iterations each, then those of the winner.
    assert passes[400] <= 2 + 2 * 5 + mixture.n_iter_
    assert mixture.n_iter_ == len(mixture.lower_bounds_)


def test_few_passes_over_all_rows(small_levels, passes):
    mixture = EMGaussianMixture(4, random_state=0).fit(clusters(4000))
    assert passes[4000] == 1 + mixture.n_iter_
    assert passes[4000] < 10
    assert set(passes) == {100, 400, 4000}


def test_a_given_start_sees_no_sample(small_levels, passes):
    X = clusters(1000)
    start = {
        "weights_init": np.full(4, 0.25),
        "means_init": X[:4],
        "precisions_init": np.tile(np.eye(3), (4, 1, 1)),
    }
    mixture = EMGaussianMixture(4, **start).fit(X)
    theirs = GaussianMixture(4, **start, reg_covar=0.0).fit(X)
    assert set(passes) == {1000}
    assert passes[1000] == 1 + mixture.n_iter_
    assert mixture.n_iter_ == theirs.n_iter_
    np.testing.assert_allclose(mixture.means_, theirs.means_, rtol=1e-8)


@pytest.mark.parametrize("n_init", [1, 3])
def test_no_iterations_return_a_start_of_the_first_level(small_levels, passes, n_init):
    mixture = EMGaussianMixture(3, max_iter=0, n_init=n_init, random_state=0)
    mixture.fit(clusters(1000))
    assert mixture.n_iter_ == 0
    assert passes[1000] == 1


@pytest.mark.parametrize("kind", TYPES)
def test_order_changes_not_one_bit_of_a_fit_by_levels(kind, small_levels, rng):
    X, weights = clusters(900), rng.randint(1, 4, size=900)
    mixture = EMGaussianMixture(3, covariance_type=kind, n_init=2, random_state=0)
    order = rng.permutation(900)
    shuffled = mixture.fit(X[order], sample_weight=weights[order]).means_
    repeated = mixture.fit(np.repeat(X, weights, axis=0)).means_
    np.testing.assert_array_equal(shuffled, repeated)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_levels_end_as_high_as_all_rows(small_levels, monkeypatch):
    X = clusters(4000, seed=5)
    by_levels = EMGaussianMixture(4, n_init=5, random_state=0).fit(X).lower_bound_
    monkeypatch.setattr(_restarts, "_LEAST_ROWS", 10**6)
    at_once = EMGaussianMixture(4, n_init=5, random_state=0).fit(X).lower_bound_
    # A hundred rows know the optima of thousands only roughly.
    assert by_levels >= at_once - 0.05


def test_more_initialisations_where_rows_cost_more_than_calls(monkeypatch):
    data, whitening = whitened(clusters())
    model = EMGaussianMixture(4)
    rest = data, NOTHING, whitening, np.random.RandomState(0)
    assert len(list(initial_parameters(model, *rest))) == 2
    monkeypatch.setattr(_restarts, "_WORTH_TWO", 400 * 3 * 4)
    assert len(list(initial_parameters(model, *rest))) == 4


@pytest.mark.thorough
@pytest.mark.data
@pytest.mark.parametrize("name", ["pendigits", "satimage-2", "mammography"])
def test_optima_are_no_lower_than_those_of_scikit_learn(name, real_data):
    X = np.load(real_data(f"tabular/{name}.npz"))["X"].astype(float)
    noise = np.random.RandomState(0).uniform(size=X.shape)
    X = (X + 1e-3 * X.std(axis=0) * noise - X.mean(axis=0)) / X.std(axis=0)
    ours, theirs = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in range(5):
            ours.append(EMGaussianMixture(5, random_state=seed).fit(X).score(X))
            theirs.append(GaussianMixture(5, random_state=seed).fit(X).score(X))
    assert np.mean(ours) >= np.mean(theirs) - 0.01


def test_a_few_collapsed_rows_rank_last():
    data, whitening = whitened(clusters(seed=3))
    model = EMGaussianMixture(4, n_init=3, init_params="random_from_data")
    rest = data, NOTHING, whitening, np.random.RandomState(0)
    runs = [
        Run(p, data.statistics(p), np.inf) for p in initial_parameters(model, *rest)
    ]
    for run in runs:
        run.converged = True  # their order is what it is
    best, *others = sorted(runs, key=lambda run: -run.bound)
    assert successive_halving(runs, data, 1e-3) is best
    best.at_floor = np.array([False, True, False, False])
    assert successive_halving(runs, data, 1e-3) is best  # many rows
    for run in runs:
        run.parameters.weights[1] = 29 / 400
    assert successive_halving(runs, data, 1e-3) is others[0]
    for run in others:
        run.at_floor = best.at_floor
    assert successive_halving(runs, data, 1e-3) is best
