"""Longer steps than EM's: never lower, the same optimum, and the same for any units."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from estimators import rows
from hypothesis import given
from hypothesis import strategies as st
from mixtures import TYPES

from skgen import EMGaussianMixture
from skgen.mixture._covariance import COVARIANCES, Parameters
from skgen.mixture._initialize import initial_responsibilities
from skgen.mixture._iterations import Run
from skgen.mixture._lbfgs import (
    Acceleration,
    flat,
    in_metric,
    in_own_units,
    lbfgs,
)
from skgen.mixture._pass import Problem

every_type = pytest.mark.parametrize("kind", TYPES)
ALWAYS = np.inf


def problem(kind, n=200, d=3, seed=0, floor=1e-6, spread=1.5, weighted=False):
    """Return rows of overlapping clusters as a problem."""
    rng = np.random.RandomState(seed)
    means = spread * rng.standard_normal((4, d))
    X = means[rng.randint(4, size=n)] + rng.standard_normal((n, d))
    weights = rng.uniform(0.2, 2.0, size=n) if weighted else np.ones(n)
    return Problem(X, weights, COVARIANCES[kind], floor, np.zeros(d, dtype=bool))


def first(data, K, seed=0, method="random_from_data"):
    rng = np.random.RandomState(seed)
    shares = initial_responsibilities(data.X, data.sample_weight, K, method, rng)
    return data.from_responsibilities(shares, K)


def ended(data, start, below, tol=1e-12, most=5000):
    """Return a run to its end, and how many of its iterations were refused."""
    run, refused = Run(start, data.statistics(start), below), 0
    for _ in range(most):
        run.step(data, tol)
        refused += run.refused
        if run.converged or run.stalled:
            break
    return run, refused


@given(
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(TYPES),
    method=st.sampled_from(["random", "random_from_data", "kmeans"]),
    n=st.integers(8, 80),
    d=st.integers(1, 4),
    K=st.integers(1, 6),
    floor=st.sampled_from([0.0, 1e-6, 1e-2, 0.5]),
    below=st.sampled_from([0.0, 1e-5, 1e-2, ALWAYS]),
    weighted=st.booleans(),
)
def test_no_iteration_lowers_the_likelihood(
    seed, kind, method, n, d, K, floor, below, weighted
):
    data = problem(kind, n, d, seed, floor, weighted=weighted)
    start = first(data, K, seed, method)
    run = Run(start, data.statistics(start), below)
    last = run.bound
    for _ in range(40):
        run.step(data, 0.0)
        # What products may lose, and no more.
        assert run.bound >= last - 1e-9 * max(1.0, abs(last))
        assert data.statistics(run.parameters).log_likelihood == pytest.approx(
            run.bound, rel=1e-8, abs=1e-8
        )
        last = run.bound
        parameters = run.parameters
        assert parameters.weights.sum() == pytest.approx(1.0)
        assert (parameters.weights >= 0).all()
        filled = parameters.weights > 0
        least = data.covariance.least_variances(parameters.covariances)
        if least.size == filled.size:
            least = least[filled]
        # Of a floor of 0 rounding leaves less.
        assert floor == 0 or (least >= floor * (1 - 1e-6)).all()
        if run.converged or run.stalled:
            break
    assert (np.diff(run.bounds) >= 0).all()


@every_type
def test_the_optimum_is_that_of_em_in_fewer_iterations(kind):
    passes = np.zeros(2)
    for seed in range(2):
        data = problem(kind, n=300, d=2, seed=seed, weighted=seed % 2 == 1)
        start = first(data, 3, seed)
        plain, _ = ended(data, start, 0.0, tol=1e-13)
        longer, _ = ended(data, start, 1e-5, tol=1e-13)
        assert longer.bound == pytest.approx(plain.bound, abs=1e-9)
        for name in ("weights", "means", "covariances"):
            ours, theirs = (getattr(r.parameters, name) for r in (longer, plain))
            np.testing.assert_allclose(ours, theirs, atol=1e-4)
        passes += len(plain.bounds), len(longer.bounds)
    assert passes[1] < 0.7 * passes[0]


@every_type
def test_longer_steps_do_not_stop_earlier(kind):
    for seed in range(2):
        data = problem(kind, n=300, d=2, seed=seed)
        start = first(data, 3, seed)
        plain, _ = ended(data, start, 0.0, tol=1e-7)
        longer, _ = ended(data, start, 1e-5, tol=1e-7)
        assert longer.bound >= plain.bound - 1e-9


@every_type
def test_until_the_rise_is_small_every_step_is_that_of_em(kind):
    data = problem(kind)
    start = first(data, 4)
    plain, longer = (Run(start, data.statistics(start), b) for b in (0.0, 1e-5))
    for _ in range(200):
        plain.step(data, 0.0)
        longer.step(data, 0.0)
        np.testing.assert_array_equal(plain.parameters.means, longer.parameters.means)
        if longer.rise <= 1e-5:
            break
    assert longer.acceleration is None


@every_type
def test_a_refused_step_changes_nothing_and_the_next_is_that_of_em(kind, monkeypatch):
    data = problem(kind)
    start = first(data, 4)
    run = Run(start, data.statistics(start), ALWAYS)
    run.step(data, 0.0)
    propose = Acceleration.propose

    def astray(self, parameters, plain):
        proposal = propose(self, parameters, plain)
        parameters, at_floor = proposal
        far = Parameters(
            parameters.weights,
            parameters.means + 50.0,
            parameters.covariances,
            parameters.factors,
        )
        return far, at_floor

    before, bound = run.parameters, run.bound
    monkeypatch.setattr(Acceleration, "propose", astray)
    run.step(data, 0.0)
    assert run.refused
    assert run.parameters is before
    assert not run.converged
    assert run.bounds[-1] == bound  # the pass counts
    expected, _ = data.maximise(run.statistics, run.parameters)
    run.step(data, 0.0)
    assert not run.refused
    np.testing.assert_array_equal(run.parameters.means, expected.means)


def test_some_steps_are_refused_without_help():
    refused = 0
    for seed in range(10):
        data = problem("full", n=60, seed=seed)
        refused += ended(data, first(data, 5, seed), ALWAYS, tol=1e-6)[1]
    assert refused > 0


def matrix(kind, d, rng):
    """Return an affine map that keeps the family of a covariance."""
    return {
        "full": lambda: rng.standard_normal((d, d)) + 2 * np.eye(d),
        "tied": lambda: rng.standard_normal((d, d)) + 2 * np.eye(d),
        "diag": lambda: np.diag(rng.uniform(0.1, 10, size=d)),
        "spherical": lambda: 3.0 * np.linalg.qr(rng.standard_normal((d, d)))[0],
    }[kind]()


@every_type
def test_steps_move_along_with_the_rows(kind, rng):
    data = problem(kind, floor=0.0)
    A = matrix(kind, 3, rng)
    turned = Problem(
        data.X @ A.T + 2.0, data.sample_weight, data.covariance, 0.0, data.degenerate
    )
    shares = initial_responsibilities(data.X, data.sample_weight, 4, "kmeans", rng)
    runs = []
    for each in (data, turned):
        start = each.from_responsibilities(shares, 4)
        run = Run(start, each.statistics(start), ALWAYS)
        for _ in range(12):
            run.step(each, 0.0)
        runs.append(run)
    means = runs[0].parameters.means @ A.T + 2.0
    assert runs[0].acceleration._moves  # there was something to compare
    np.testing.assert_allclose(runs[1].parameters.means, means, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(
        np.diff(runs[0].bounds), np.diff(runs[1].bounds), atol=1e-8
    )


@every_type
def test_the_metric_is_the_information_of_the_complete_data(kind, rng):
    # Half the squared length is the divergence between the mixtures of rows that show
    # their component, to second order.
    data = problem(kind)
    here = data.maximise(data.statistics(first(data, 3)), first(data, 3))[0]
    there = data.maximise(data.statistics(here), here)[0]
    filled = np.ones(3, dtype=bool)
    step = 1e-4 * (flat(there, filled) - flat(here, filled))
    length = np.linalg.norm(in_metric(step[None], here, data.covariance))
    logs, means = step[:3], here.means + step[3:12].reshape(3, 3)
    covariances = here.covariances + step[12:].reshape(here.covariances.shape)
    dense = {
        "full": lambda C: C,
        "tied": lambda C: np.tile(C, (3, 1, 1)),
        "diag": lambda C: np.stack([np.diag(v) for v in C]),
        "spherical": lambda C: np.stack([np.diag(v) for v in C]),
    }[kind]
    divergence = 0.0
    for k, (C, D) in enumerate(
        zip(dense(here.covariances), dense(covariances), strict=True)
    ):
        difference = means[k] - here.means[k]
        quadratic = difference @ np.linalg.solve(D, difference)
        ratio = np.linalg.solve(D, C)
        normal = 0.5 * (quadratic + np.trace(ratio) - 3 - np.linalg.slogdet(ratio)[1])
        # The weights are not normalised: of counts, as of Poisson numbers.
        counts = np.exp(logs[k]) - 1 - logs[k]
        divergence += here.weights[k] * (normal + counts)
    assert 0.5 * length**2 == pytest.approx(divergence, rel=1e-3)


def test_lbfgs_solves_a_quadratic_in_as_many_steps_as_dimensions(rng):
    root = rng.standard_normal((4, 4))
    H = root @ root.T + 0.1 * np.eye(4)
    x, gradients, points = rng.standard_normal(4), [], []
    for _ in range(25):
        points.append(x)
        gradients.append(-H @ x)
        moves, changes = np.diff(points, axis=0)[-8:], np.diff(gradients, axis=0)[-8:]
        shares = lbfgs(moves, -changes, gradients[-1])
        pieces = np.vstack([gradients[-1][None], moves, changes])
        direction = shares @ pieces
        # The exact length along the direction, which is the last thing EM has not.
        x = x + direction * (gradients[-1] @ direction) / (direction @ H @ direction)
        if np.linalg.norm(x) < 1e-9:
            break
    assert len(points) <= 6


def test_lbfgs_does_not_learn_from_what_rises():
    gradient, move = np.array([1.0, 0.0]), np.array([[1.0, 0.0]])
    np.testing.assert_array_equal(lbfgs(move, -move, gradient), [1.0, 0.0, 0.0])


@every_type
def test_history_is_dropped_with_a_component(kind):
    data = problem(kind)
    start = first(data, 4)
    run = Run(start, data.statistics(start), ALWAYS)
    for _ in range(4):
        run.step(data, 0.0)
    assert run.acceleration._moves
    plain, _ = data.maximise(run.statistics, run.parameters)
    gone = np.where(np.arange(4) == 2, 0.0, plain.weights)
    fewer = Parameters(gone / gone.sum(), plain.means, plain.covariances, plain.factors)
    assert run.acceleration.propose(run.parameters, fewer) is None
    assert not run.acceleration._moves


@every_type
def test_reseeding_survives_longer_steps(kind):
    X = np.concatenate([rows(100, 2), rows(100, 2) + 40])
    data = Problem(
        (X - X.mean(axis=0)) / X.std(axis=0),
        np.ones(200),
        COVARIANCES[kind],
        1e-6,
        np.zeros(2, dtype=bool),
    )
    start = first(data, 2)
    means = np.array([[0.0, 0.0], [1e6, 1e6]])
    unit = data.covariance.unit(2, 2)
    start = Parameters(np.full(2, 0.5), means, unit, data.covariance.factors(unit))
    run, _ = ended(data, start, ALWAYS, tol=1e-8)
    assert run.reseeded == {1}
    assert run.parameters.weights.min() > 0
    assert (np.diff(run.bounds) >= 0).all()


@every_type
def test_degenerate_directions_keep_the_variance_one(kind):
    data = problem(kind)
    if kind == "spherical":
        pytest.skip("has one variance for all directions")
    X = np.column_stack([data.X, np.zeros(200)])
    degenerate = np.array([False, False, False, True])
    data = Problem(X, data.sample_weight, data.covariance, 1e-6, degenerate)
    run, _ = ended(data, first(data, 3), ALWAYS, tol=1e-9)
    covariances = run.parameters.covariances
    last = covariances[..., 3] if kind == "diag" else covariances[..., 3, 3]
    np.testing.assert_array_equal(last, 1.0)


def test_fits_to_the_end_take_fewer_iterations():
    X = rows(300, 2)
    options = {"tol": 1e-9, "max_iter": 3000, "random_state": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert EMGaussianMixture(4, **options).fit(X).n_iter_ < 60


@every_type
def test_steps_that_halve_are_taken_to_their_limit(kind):
    data = problem(kind)
    start, move = first(data, 3), np.linspace(0.0, 0.1, 9).reshape(3, 3)
    acceleration = Acceleration(data.family)

    def moved(times):
        return replace(start, means=start.means + times * move)

    assert acceleration.propose(moved(0.0), moved(1.0)) is None
    proposal, _ = acceleration.propose(moved(1.0), moved(1.5))
    # 1 + 1/2 + 1/4 + ... = 2
    np.testing.assert_allclose(proposal.means, moved(2.0).means, rtol=1e-10)
    np.testing.assert_allclose(proposal.weights, start.weights, rtol=1e-10)
    np.testing.assert_allclose(proposal.covariances, start.covariances, atol=1e-10)


def test_lbfgs_is_the_update_of_bfgs(rng):
    # Steps of any length, so that the gradient is along all of them.
    directions, _ = np.linalg.qr(rng.standard_normal((5, 5)))
    H = (directions * [0.1, 0.2, 0.3, 0.5, 0.8]) @ directions.T
    moves, gradient = rng.standard_normal((3, 5)), rng.standard_normal(5)
    bends = moves @ H
    scale = moves[-1] @ bends[-1] / (bends[-1] @ bends[-1])
    inverse = scale * np.eye(5)
    for move, bend in zip(moves, bends, strict=True):
        left = np.eye(5) - np.outer(move, bend) / (move @ bend)
        inverse = left @ inverse @ left.T + np.outer(move, move) / (move @ bend)
    step = lbfgs(moves, bends, gradient) @ np.vstack([gradient, moves, -bends])
    assert 1 < scale < 10  # within the limits
    np.testing.assert_allclose(step, inverse @ gradient, rtol=1e-10)


@every_type
def test_the_rise_of_the_iteration_before_decides_the_end(kind):
    data = problem(kind)
    start = first(data, 3)
    run = Run(start, data.statistics(start), ALWAYS)
    while not run.converged:
        before, n_bounds = run.rise, len(run.bounds)
        run.step(data, 1e-3)
        assert n_bounds < 500
    assert before < 1e-3


@every_type
def test_a_step_that_is_lower_by_a_little_is_refused(kind, monkeypatch):
    data = problem(kind)
    start = first(data, 4)
    run, _ = ended(data, start, 0.0)  # the optimum
    run.accelerate_below = ALWAYS

    def astray(self, parameters, plain):
        self._length = 1.0
        return replace(parameters, means=parameters.means + 0.1), np.zeros(4, bool)

    monkeypatch.setattr(Acceleration, "propose", astray)
    before, bound = run.parameters, run.bound
    run.step(data, 0.0)
    assert run.refused
    assert run.parameters is before
    assert run.bound == bound


@every_type
def test_steps_add_at_most_one_deviation(kind):
    data = problem(kind)
    start, move = first(data, 3), np.linspace(0.0, 3.0, 9).reshape(3, 3)
    acceleration = Acceleration(data.family)

    def moved(times):
        return replace(start, means=start.means + times * move)

    acceleration.propose(moved(0.0), moved(1.0))
    proposal, _ = acceleration.propose(moved(1.0), moved(1.5))
    added = flat(proposal, np.ones(3, bool)) - flat(moved(1.5), np.ones(3, bool))
    _, deviations, _ = in_own_units(added[None], moved(1.0), data.covariance)
    lengths = np.linalg.norm(deviations[0], axis=1)  # (K,)
    assert lengths.max() == pytest.approx(1.0)
