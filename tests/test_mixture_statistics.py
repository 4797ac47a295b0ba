"""Densities and moments of mixtures by matrix products, against plain loops."""

import tracemalloc
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from estimators import rows
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from skgen.mixture._joint import (
    Joint,
    Parameters,
    answers,
    log_densities,
    losses,
    normalise,
    shares,
)
from skgen.mixture._precision import DOUBLE
from skgen.mixture._problem import Problem
from skgen.mixture._products import pays, products_of
from skgen.mixture._statistics import (
    Expectation,
    Family,
    far,
    maximise,
    statistics_of_shares,
)
from sklearn.exceptions import ConvergenceWarning

from skgen import EMGaussianMixture
from skgen.mixture import _joint, _products, _statistics
from skgen.mixture._covariance import COVARIANCES
from skgen.mixture._iterations import Run, allowed_loss

every_type = pytest.mark.parametrize("kind", list(COVARIANCES))
K, D = 4, 3


def mixture(kind, rng, widths=(1.0,) * K):
    """Return a mixture of `K` components of some widths (one for "tied")."""
    roots = np.eye(D) + 0.4 * rng.standard_normal((K, D, D))
    roots *= np.reshape(widths, (K, 1, 1))
    full = roots @ roots.transpose(0, 2, 1)
    covariances = {
        "full": full,
        "tied": full[0],
        "diag": np.diagonal(full, axis1=1, axis2=2).copy(),
        "spherical": full[:, 0, 0].copy(),
    }[kind]
    factors = COVARIANCES[kind].factors(covariances)
    means = rng.standard_normal((K, D))
    return Parameters(rng.dirichlet(np.full(K, 5.0)), means, covariances, factors)


def dense(parameters, kind):
    """Return the covariances of a mixture as matrices (K, D, D)."""
    covariances = parameters.covariances
    return {
        "full": lambda: covariances,
        "tied": lambda: np.tile(covariances, (K, 1, 1)),
        "diag": lambda: np.stack([np.diag(v) for v in covariances]),
        "spherical": lambda: covariances[:, None, None] * np.eye(D),
    }[kind]()


def draws(parameters, kind, n, rng):
    """Return rows near the components of a mixture: n of each."""
    normal = rng.multivariate_normal
    pairs = zip(parameters.means, dense(parameters, kind), strict=True)
    return np.vstack([normal(mean, C, size=n) for mean, C in pairs])


def log_joint(X, parameters, kind):
    """Return the log-densities (n, K) row by row, in more digits than float64."""
    X = X.astype(np.longdouble)
    columns = []
    covariance = COVARIANCES[kind]
    log_det = covariance.log_det(parameters.factors, K, D)
    for k in range(K):
        y = (X - parameters.means[k]) @ factor(parameters, kind, k)
        log_weight = np.log(parameters.weights[k]) + log_det[k]
        columns.append(log_weight - 0.5 * (y**2).sum(axis=1))
    return np.column_stack(columns) - 0.5 * D * np.log(2 * np.pi)


def factor(parameters, kind, k):
    """Return the `U` of a component as a matrix (D, D)."""
    U = parameters.factors
    return {
        "full": lambda: U[k],
        "tied": lambda: U,
        "diag": lambda: np.diag(U[k]),
        "spherical": lambda: U[k] * np.eye(D),
    }[kind]().astype(np.longdouble)


def maximum(X, weights, parameters, kind):
    """Return the weights, means and covariances (K, D, D) after one iteration."""
    joint = log_joint(X, parameters, kind)
    top = joint.max(axis=1, keepdims=True)
    r = np.exp(joint - top)
    density = r.sum(axis=1, keepdims=True)
    r *= weights[:, None] / density
    counts = r.sum(axis=0)
    means = r.T @ X / counts[:, None]
    full = np.stack([(r[:, [k]] * (X - means[k])).T @ (X - means[k]) for k in range(K)])
    bound = weights @ (top + np.log(density))[:, 0] / weights.sum()
    if kind == "tied":
        return counts / counts.sum(), means, full.sum(axis=0) / counts.sum(), bound
    full /= counts[:, None, None]
    variances = np.diagonal(full, axis1=1, axis2=2)
    covariances = {"full": full, "diag": variances, "spherical": variances.mean(axis=1)}
    return counts / counts.sum(), means, covariances[kind], bound


def one_iteration(X, weights, parameters, kind, loss):
    """Return what a pass collects, and the parameters that follow from it."""
    covariance = COVARIANCES[kind]
    products = products_of(covariance)
    family = Family(covariance, products, 0.0, np.zeros(D, dtype=bool))
    expectation = Expectation(parameters, family, loss)
    found = expectation.statistics(expectation.sums(X, weights))
    return found, maximise(found, parameters, family)[0]


# -- formulas ------------------------------------------------------------------


@every_type
def test_coefficients_times_features_are_log_densities(kind, rng):
    parameters, shift = mixture(kind, rng), rng.standard_normal(D)
    X = 3 * rng.standard_normal((50, D))
    covariance = COVARIANCES[kind]
    products = products_of(covariance)
    buffer = np.full((products.n_features(D), 64), np.nan)
    F = products.features(X, shift, parameters.factors, buffer)  # (p, 50)
    means = parameters.means - shift
    C = products.coefficients(means, parameters.factors, covariance)  # (K, p)
    expected = [
        multivariate_normal(m, S).logpdf(X)
        for m, S in zip(parameters.means, dense(parameters, kind), strict=True)
    ]
    np.testing.assert_allclose(C @ F, expected, rtol=1e-11)


@every_type
def test_sums_of_features_are_moments(kind, rng):
    parameters, shift = mixture(kind, rng), rng.standard_normal(D)
    X, r = rng.standard_normal((50, D)), rng.uniform(size=(K, 50))
    products = products_of(COVARIANCES[kind])
    buffer = np.empty((products.n_features(D), 50))
    F = products.features(X, shift, parameters.factors, buffer)
    sums = products.zeros(K, D)
    products.add(sums, F[:, :30], r[:, :30], D)
    products.add(sums, F[:, 30:], r[:, 30:], D)
    counts, first, scatter = products.moments(sums, D)
    expected = COVARIANCES[kind].empty_scatter(K, D)
    for k in range(K):
        COVARIANCES[kind].add_scatter(expected, k, r[k], X - shift)
    np.testing.assert_allclose(counts, r.sum(axis=1))
    np.testing.assert_allclose(first, r @ (X - shift))
    np.testing.assert_allclose(scatter, expected)
    whole = products.merged(COVARIANCES[kind].empty_scatter(K, D), range(K), scatter)
    np.testing.assert_allclose(whole, expected)


@every_type
@pytest.mark.parametrize("width", [1.0, 1e-2, 1e-4])
def test_losses_bound_what_products_lose(kind, width, rng):
    parameters = mixture(kind, rng, (width,) * K)
    covariance = COVARIANCES[kind]
    X = draws(parameters, kind, 100, rng)
    X[::5] = parameters.means[0] + 1e3 * (X[::5] - parameters.means[0])
    products, shift = products_of(covariance), np.zeros(D)
    lost = losses(parameters, covariance, products, shift)
    joint = Joint(parameters, covariance, products, shift, np.inf)
    buffer = np.empty((products.n_features(D), X.shape[0]))
    F = products.features(X, shift, parameters.factors, buffer)
    exact = log_joint(X, parameters, kind).T  # (K, n)
    error = np.abs(joint(X, F) - exact)
    eps = np.finfo(float).eps
    assert (error <= 4 * eps * lost[:, None] * np.maximum(1, np.abs(exact))).all()
    # Nor are they called much larger than they are.
    assert (error.max(axis=1) >= 1e-2 * eps * lost).all()


@pytest.mark.parametrize("kind", ["full", "tied", "diag"])
def test_losses_do_not_depend_on_the_units_of_the_features(kind, rng):
    parameters, units = mixture(kind, rng), np.array([1e-12, 1.0, 1e12])
    square = np.outer(units, units) if kind != "diag" else units**2
    covariances = parameters.covariances * square
    covariance = COVARIANCES[kind]
    scaled = Parameters(
        parameters.weights,
        parameters.means * units,
        covariances,
        covariance.factors(covariances),
    )
    products, shift = products_of(covariance), np.ones(D)
    np.testing.assert_allclose(
        losses(scaled, covariance, products, shift * units),
        losses(parameters, covariance, products, shift),
        rtol=1e-9,
    )


@pytest.mark.parametrize("kind", ["full", "tied"])
def test_nearly_collinear_features_lose_digits(kind):
    covariances = np.ones((D, D)) + 1e-6 * np.eye(D)
    covariances = np.tile(covariances, (K, 1, 1)) if kind == "full" else covariances
    covariance = COVARIANCES[kind]
    factors = covariance.factors(covariances)
    parameters = Parameters(np.ones(K) / K, np.zeros((K, D)), covariances, factors)
    lost = losses(parameters, covariance, products_of(covariance), np.zeros(D))
    # The precisions are about 1e6 times 2/3 on the diagonal, -1/3 beside it.
    np.testing.assert_allclose(lost, 4e6, rtol=1e-4)


# -- which component goes by which form ----------------------------------------


@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
def test_narrow_components_go_apart(kind, rng):
    parameters = mixture(kind, rng, (1.0, 1e-6, 1.0, 1e-6))
    covariance = COVARIANCES[kind]
    products = products_of(covariance)
    joint = Joint(parameters, covariance, products, np.zeros(D), 1e7)
    assert (joint.near.tolist(), joint.apart.tolist()) == ([0, 2], [1, 3])
    at_one = Joint(parameters, covariance, products, parameters.means[1], 1e4)
    assert at_one.near.tolist() == [0, 1, 2]
    none = Joint(parameters, covariance, None, np.zeros(D), 1e7)
    assert none.apart.tolist() == [0, 1, 2, 3]


def test_tied_components_go_together(rng):
    parameters, covariance = mixture("tied", rng), COVARIANCES["tied"]
    parameters.means[2] += 1e6
    products = products_of(covariance)
    assert Joint(parameters, covariance, products, np.zeros(D), 1e7).near.size == 0
    assert far(parameters, covariance, products, np.zeros(D)).all()


@every_type
def test_components_out_of_range_or_without_weight_go_apart(kind, rng):
    parameters, covariance = mixture(kind, rng), COVARIANCES[kind]
    products = products_of(covariance)
    parameters.weights[1] = 0.0
    assert 1 in Joint(parameters, covariance, products, np.zeros(D), 1e7).apart
    with np.errstate(all="ignore"):
        tiny = parameters.covariances * 1e-200
        factors = covariance.factors(tiny)
        tiny = Parameters(parameters.weights, parameters.means * 1e-100, tiny, factors)
    lost = losses(tiny, covariance, products, np.zeros(D))
    assert np.isinf(lost).all()


def test_rows_of_very_many_features_go_by_differences():
    assert pays(products_of(COVARIANCES["full"]), 64)
    assert not pays(products_of(COVARIANCES["full"]), 300)
    assert pays(products_of(COVARIANCES["diag"]), 300)
    assert not pays(None, 2)


@every_type
def test_products_and_differences_fit_the_same(kind, monkeypatch):
    X = rows(300, D)
    options = {"covariance_type": kind, "max_iter": 8, "tol": 0.0, "random_state": 0}
    by_products = EMGaussianMixture(3, **options)
    by_differences = EMGaussianMixture(3, **options)
    with pytest.warns(ConvergenceWarning):
        by_products.fit(X)
    expected = by_products.score_samples(X)
    monkeypatch.setattr(_products, "_MOST_FEATURES", 0)
    with pytest.warns(ConvergenceWarning):
        by_differences.fit(X)
    np.testing.assert_allclose(by_products.means_, by_differences.means_, rtol=1e-9)
    np.testing.assert_allclose(by_differences.score_samples(X), expected, rtol=1e-9)


# -- one pass ------------------------------------------------------------------


@every_type
@pytest.mark.parametrize("loss", [0.0, 30.0, 1e7])
def test_an_iteration_is_that_of_a_plain_loop(kind, loss, rng):
    # With a loss of 30 some components go by products and some by differences.
    parameters = mixture(kind, rng, (1.0, 0.3, 1.0, 0.1))
    X = draws(parameters, kind, 60, rng)
    weights = rng.uniform(0.1, 3, size=X.shape[0])
    collected, found = one_iteration(X, weights, parameters, kind, loss)
    shares, means, covariances, bound = maximum(X, weights, parameters, kind)
    np.testing.assert_allclose(found.weights, shares.astype(float), rtol=1e-11)
    np.testing.assert_allclose(found.means, means.astype(float), rtol=1e-10)
    np.testing.assert_allclose(
        found.covariances, covariances.astype(float), rtol=1e-9, atol=1e-12
    )
    assert collected.log_likelihood == pytest.approx(float(bound), rel=1e-12)
    density = logsumexp(log_joint(X, parameters, kind).astype(float), axis=1)
    np.testing.assert_array_equal(collected.lowest_row, X[density.argmin()])


@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
def test_clusters_a_million_times_narrower_keep_their_digits(kind, rng):
    parameters = mixture(kind, rng, (1.0, 1e-6, 1.0, 1e-6))
    X = draws(parameters, kind, 200, rng)
    weights = np.ones(X.shape[0])
    collected, found = one_iteration(X, weights, parameters, kind, 1e7)
    _, means, covariances, bound = maximum(X, weights, parameters, kind)
    np.testing.assert_allclose(found.means, means.astype(float), rtol=1e-12)
    difference = np.abs(found.covariances - covariances).reshape(K, -1).max(axis=1)
    size = np.abs(covariances).reshape(K, -1).max(axis=1)
    assert (difference <= 1e-8 * size).all()
    assert collected.log_likelihood == pytest.approx(float(bound), abs=1e-8)
    # All by products, they would not.
    forced, _ = one_iteration(X, weights, parameters, kind, np.inf)
    assert abs(forced.log_likelihood - float(bound)) > 1e-6


@every_type
def test_shares_of_weighted_rows_are_those_of_repeated_ones(kind, rng):
    X, r = rng.standard_normal((40, D)), rng.dirichlet(np.ones(K), size=40)
    times, covariance = rng.randint(1, 4, size=40), COVARIANCES[kind]
    regular = np.zeros(D, dtype=bool)
    problem = Problem(X, times.astype(float), covariance, 0.0, regular)
    weighted = problem.from_shares(lambda rows: r[rows], K)
    X, r = np.repeat(X, times, axis=0), np.repeat(r, times, axis=0)
    problem = Problem(X, np.ones(len(X)), covariance, 0.0, regular)
    repeated = problem.from_shares(lambda rows: r[rows], K)
    for name in ("weights", "means", "covariances"):
        one, other = getattr(weighted, name), getattr(repeated, name)
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


@every_type
def test_moments_are_taken_again_about_means_that_moved_far(kind, rng):
    parameters = mixture(kind, rng)
    X = np.repeat(np.eye(D), 40, axis=0) + 1e-7 * rng.standard_normal((3 * 40, D))
    labels = np.repeat(np.arange(D), 40)
    problem = Problem(
        X, np.ones(len(X)), COVARIANCES[kind], 0.0, np.zeros(D, dtype=bool)
    )
    found = problem.from_shares(lambda rows: np.eye(K)[labels[rows]], K)
    assert found.weights[3] == 0
    assert (found.means[3] == 0).all()  # where it was
    expected = np.stack([np.cov(X[labels == k].T, ddof=0) for k in range(D)])
    variances = np.diagonal(expected, axis1=1, axis2=2)
    expected = {
        "full": expected,
        "tied": expected.mean(axis=0),
        "diag": variances,
        "spherical": variances.mean(axis=1),
    }[kind]
    covariances = found.covariances if kind == "tied" else found.covariances[:3]
    np.testing.assert_allclose(covariances, expected, rtol=1e-8, atol=1e-21)
    # About the origin they are not.
    covariance, regular = COVARIANCES[kind], np.zeros(D, dtype=bool)
    family = Family(covariance, products_of(covariance), 0.0, regular)
    collected = statistics_of_shares(
        X,
        np.ones(len(X)),
        lambda rows: np.eye(K)[labels[rows]],
        K,
        family,
    )
    rough = maximise(collected, parameters, family)[0].covariances
    assert np.abs(rough - found.covariances)[:3].max() > 1e-18


@every_type
def test_any_number_of_threads_finds_the_same_bits(kind, rng, monkeypatch):
    monkeypatch.setattr(_joint, "_BLOCK_BYTES", 0)
    monkeypatch.setattr(_joint, "_LEAST_ROWS", 7)
    monkeypatch.setattr(_joint, "_WORK_FOR_THREADS", 0)
    monkeypatch.setattr(_joint, "_LEAST_TASK", 1)
    parameters = mixture(kind, rng, (1.0, 0.3, 1.0, 0.1))
    X = draws(parameters, kind, 200, rng)
    results = []
    for n_threads in (1, 2, 5):
        monkeypatch.setattr("skgen._threads.most_threads", lambda n=n_threads: n)
        results.append(one_iteration(X, np.ones(len(X)), parameters, kind, 30.0)[0])
    density = logsumexp(log_joint(X, parameters, kind).astype(float), axis=1)
    np.testing.assert_array_equal(results[0].lowest_row, X[density.argmin()])
    for result in results[1:]:
        assert result.log_likelihood == results[0].log_likelihood
        np.testing.assert_array_equal(result.scatter, results[0].scatter)
        np.testing.assert_array_equal(result.first, results[0].first)


def test_rows_out_of_range_go_by_differences():
    X, covariance = rows(20, D), COVARIANCES["full"]
    rest = np.ones(20), covariance, 0.0, np.zeros(D, dtype=bool)
    assert Problem(X, *rest).family.products is products_of(covariance)
    X[3, 1] = -1e80
    assert Problem(X, *rest).family.products is None


@every_type
def test_a_component_without_rows_stays_where_it_was(kind, rng):
    parameters = mixture(kind, rng)
    parameters.means[1] = 100.0
    X = rng.standard_normal((50, D))
    found = one_iteration(X, np.ones(50), parameters, kind, 1e7)[1]
    assert found.weights[1] == 0
    assert (found.means[1] == 100.0).all()


@pytest.mark.parametrize("n", [1, 127, 128, 129, 4096, 200_001])
def test_blocks_hold_every_row_once(n):
    blocks = _joint.Blocks(n, 16, 16, products_of(COVARIANCES["full"]))
    tasks = blocks(lambda task: task)
    assert len(tasks) <= 32
    slices = [rows for task in tasks for rows in task]
    assert slices[0].start == 0
    assert slices[-1].stop == n
    for one, following in pairwise(slices):
        assert one.stop == following.start
        assert one.stop - one.start == blocks.size
    assert blocks.buffer().shape[1] >= slices[-1].stop - slices[-1].start


# -- answers -------------------------------------------------------------------


@every_type
def test_answers_are_those_of_every_block(kind, rng, monkeypatch):
    parameters = mixture(kind, rng, (1.0, 1e-5, 1.0, 1e-2))
    parameters = replace(parameters, weights=np.array([0.0, 0.3, 0.4, 0.3]))
    X = draws(parameters, kind, 30, rng)
    X[5] = 1e200
    with np.errstate(over="ignore"):
        expected = answers(
            X, parameters, COVARIANCES[kind], shares, np.empty((len(X), K))
        )
    monkeypatch.setattr(_joint, "_BLOCK_BYTES", 0)
    monkeypatch.setattr(_joint, "_LEAST_ROWS", 7)
    out = np.empty((len(X), K))
    answers(X, parameters, COVARIANCES[kind], shares, out)
    np.testing.assert_allclose(out, expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(out.sum(axis=1), 1.0)
    density = np.empty(len(X))
    answers(X, parameters, COVARIANCES[kind], lambda j: normalise(j)[0], density)
    assert (out[:, 0] == 0).all()
    with np.errstate(divide="ignore"):
        joint = np.delete(log_joint(X, parameters, kind), 5, axis=0)
    top = joint.max(axis=1, keepdims=True)
    exact = np.exp(joint - top)
    total = exact.sum(axis=1, keepdims=True)
    exact /= total
    np.testing.assert_allclose(
        np.delete(density, 5), (top + np.log(total))[:, 0].astype(float), rtol=1e-11
    )
    np.testing.assert_allclose(
        np.delete(out, 5, axis=0), exact.astype(float), atol=1e-10
    )


# -- digits follow the rise ----------------------------------------------------


def test_products_may_lose_less_as_the_rise_falls():
    assert allowed_loss(np.inf) == allowed_loss(1.0) == 1e7
    assert allowed_loss(1e-6) == pytest.approx(1e-10 / np.finfo(float).eps)
    assert allowed_loss(0.0) == allowed_loss(-1.0) == 1e4


class Rounding:
    """A problem whose likelihood falls by what products lose, and rises else."""

    def maximise(self, collected, parameters):
        return replace(parameters, means=parameters.means + 1), np.zeros(K, bool)

    def statistics(self, parameters, loss=1e4):
        rise = 1e-9 * parameters.means[0, 0] - 1e-14 * (loss - 1e4)
        return _statistics.Statistics(None, None, None, None, rise, None, 0.0)


def test_a_fall_by_what_products_lost_ends_nothing(rng):
    problem, start = Rounding(), replace(mixture("full", rng), means=np.zeros((K, D)))
    run = Run(start, problem.statistics(start))
    for _ in range(3):
        run.step(problem, 0.0)
    assert not run.converged
    np.testing.assert_allclose(run.bounds, [1e-9, 2e-9, 3e-9], rtol=1e-6)


def test_a_likelihood_that_products_raised_is_found_anew(rng):
    problem, start = Rounding(), replace(mixture("full", rng), means=np.zeros((K, D)))
    run = Run(start, replace(problem.statistics(start), log_likelihood=1e-8))
    run.bounds = [1e-8]
    run.step(problem, 0.0)
    assert not run.converged
    assert (run.parameters.means == 1).all()
    assert run.bound == pytest.approx(1e-9)
    assert run.bounds == [1e-8, 1e-8]  # the trace never falls


@pytest.mark.parametrize("d", range(1, 9))
def test_each_product_of_two_coordinates_is_a_feature_once(d, rng):
    products, X = _products.FullProducts(), rng.standard_normal((7, d))
    room = np.full((products.n_features(d), 10), np.nan)  # for more rows than there are
    features = products.features(X, np.zeros(d), None, room)
    i, j = _products.pairs(d)
    assert {tuple(sorted(pair)) for pair in zip(i, j, strict=True)} == {
        (a, b) for a in range(d) for b in range(a, d)
    }
    np.testing.assert_array_equal(features[1 + d :], (X[:, i] * X[:, j]).T)
    scatter = products.scatter([features.sum(axis=1, keepdims=True)], d)
    np.testing.assert_allclose(scatter[0], X.T @ X, rtol=1e-13, atol=1e-13)


def test_an_iteration_never_holds_all_rows_by_all_components(monkeypatch, rng):
    monkeypatch.setattr("skgen._threads.most_threads", lambda: 1)
    covariance = COVARIANCES["spherical"]
    X, means = rng.standard_normal((50_000, 2)), rng.standard_normal((50, 2))
    unit = covariance.unit(50, 2)
    parameters = Parameters(np.full(50, 0.02), means, unit, covariance.factors(unit))
    problem = Problem(X, np.ones(50_000), covariance, 0.0, np.zeros(2, dtype=bool))
    tracemalloc.start()
    problem.statistics(parameters)  # rows by components would be 20 MB
    answers(X, parameters, covariance, shares, np.empty((50_000, 50)))
    peak = tracemalloc.get_traced_memory()[1] - 50_000 * 50 * 8
    tracemalloc.stop()
    assert peak < 8 * 2**20


@every_type
def test_log_densities_of_narrow_components_keep_their_digits(kind, rng):
    widths = (1e-4,) * K if kind == "tied" else (1.0, 1e-3, 1e-4, 1e-5)
    parameters = mixture(kind, rng, widths)
    X = draws(parameters, kind, 50, rng)
    expected = logsumexp(log_joint(X, parameters, kind).astype(float), axis=1)
    out = np.empty(X.shape[0])
    answers(X, parameters, COVARIANCES[kind], log_densities, out)
    np.testing.assert_allclose(out, expected, rtol=0, atol=2e-11)


@every_type
def test_a_component_next_to_nothing_gets_the_weight_0(kind, rng):
    parameters = mixture(kind, rng)
    X = rng.standard_normal((50, D))
    found, _ = one_iteration(X, np.ones(50), parameters, kind, 1e7)
    counts = found.counts.copy()
    counts[2] = 1e-14
    family = Family(COVARIANCES[kind], None, 0.0, np.zeros(D, dtype=bool))
    after, _ = maximise(replace(found, counts=counts), parameters, family)
    assert after.weights[2] == 0
    np.testing.assert_array_equal(after.means[2], parameters.means[2])
    assert after.weights.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("fall", "stalled"), [(1e-12, False), (1e-7, True), (1e-2, True)]
)
def test_only_a_fall_beyond_rounding_stalls(fall, stalled, rng):
    problem, start = Rounding(), replace(mixture("full", rng), means=np.zeros((K, D)))
    found = problem.statistics(start)
    lower = replace(found, log_likelihood=found.log_likelihood - fall)
    problem.statistics = lambda parameters, loss=0: (
        found if parameters is start else lower
    )
    problem.precision = DOUBLE
    run = Run(start, found)
    run.step(problem, 0.0)
    assert (run.stalled, run.converged) == (stalled, not stalled)
    assert run.parameters is start
