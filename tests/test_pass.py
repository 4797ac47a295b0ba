"""One pass of EM, for every covariance type and backend, against plain loops.

PyTorch on the CPU takes the place of a device.
"""

import pickle
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from estimators import rows
from mixtures import (
    OF_D,
    TYPES,
    D,
    K,
    assert_close,
    dense,
    draws,
    family_of,
    mixture,
    one_iteration,
    parameters_of,
)
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from skgen import EMGaussianMixture
from skgen.mixture import _backend, _covariance, _pass
from skgen.mixture._answers import log_density, posterior
from skgen.mixture._backend import (
    LEAST_LOSS,
    NUMPY,
    NumPyRows,
    TorchBackend,
    TorchRows,
)
from skgen.mixture._covariance import COVARIANCES, Parameters
from skgen.mixture._iterations import Run, allowed_loss
from skgen.mixture._pass import (
    Collector,
    Joint,
    Kernel,
    Pass,
    Problem,
    Statistics,
    far,
    losses,
    maximise,
)

EPS = np.finfo(np.float64).eps
CPU = torch.device("cpu")
DOUBLE, SINGLE = TorchBackend(CPU, single=False), TorchBackend(CPU, single=True)

every_type = pytest.mark.parametrize("kind", list(OF_D))
every_backend = pytest.mark.parametrize(
    "backend", [NUMPY, DOUBLE, SINGLE], ids=["numpy", "float64", "float32"]
)


def log_joint(X, parameters, kind):
    """Return the log-densities (n, K) row by row, in more digits than float64."""
    columns = []
    for k, C in enumerate(dense(parameters.factors, kind).astype(np.longdouble)):
        y = (X.astype(np.longdouble) - parameters.means[k]) @ C
        constant = np.log(parameters.weights[k]) + np.log(np.diag(C)).sum()
        columns.append(constant - 0.5 * (y**2).sum(axis=1))
    return np.column_stack(columns) - 0.5 * X.shape[1] * np.log(2 * np.pi)


def plain_iteration(X, weights, parameters, kind):
    """Return the mean log-likelihood, and the parameters after one iteration."""
    joint = log_joint(X, parameters, kind)
    top = joint.max(axis=1, keepdims=True)
    r = np.exp(joint - top)
    density = r.sum(axis=1, keepdims=True)
    r *= weights[:, None] / density
    counts = r.sum(axis=0)
    means = r.T @ X / counts[:, None]
    full = np.stack([(r[:, [k]] * (X - m)).T @ (X - m) for k, m in enumerate(means)])
    full = full.sum(axis=0)[None] if kind == "tied" else full
    full /= counts.sum() if kind == "tied" else counts[:, None, None]
    if kind == "spherical":
        full = np.trace(full, axis1=1, axis2=2)[:, None, None] / D * np.eye(D)
    found = parameters_of(kind, counts / counts.sum(), means, full.astype(float))
    return weights @ (top + np.log(density))[:, 0] / weights.sum(), found


def features_of(parameters, kind, X, backend=NUMPY, loss=np.inf, shift=None):
    """Return a kernel, rows (1, d, n) as columns, and their features (1, p, n)."""
    joint = Joint(parameters, OF_D[kind], backend, loss, shift)
    kernel, z = Kernel(joint), backend.array(X.T[None])
    return kernel, z, kernel.features(z)


def lost_by(parameters, kind, shift):
    """Return `losses` of a mixture: (K,)."""
    precisions = OF_D[kind].precisions(parameters.factors)
    return losses(parameters, OF_D[kind], precisions, shift)


# -- products --------------------------------------------------------------------------


@every_type
@every_backend
def test_coefficients_times_features_are_log_densities(kind, backend, rng):
    parameters, shift = mixture(kind, rng), rng.standard_normal(D)
    X = backend.rounded(3 * rng.standard_normal((50, D)))
    kernel, z, F = features_of(parameters, kind, X, backend, shift=shift)
    expected = [
        np.log(weight) + multivariate_normal(m, S).logpdf(X)
        for weight, m, S in zip(
            parameters.weights,
            parameters.means,
            dense(parameters.covariances, kind),
            strict=True,
        )
    ]
    rtol = 1e-4 if backend.single else 1e-11
    assert_allclose(kernel(z, F)[0], expected, rtol=rtol)


@every_backend
@pytest.mark.parametrize("d", range(1, 9))
def test_each_product_of_two_coordinates_is_a_feature_once(d, backend, rng):
    X = rng.standard_normal((7, d))
    i, j = backend.pair_index(d)
    assert {tuple(sorted(pair)) for pair in zip(i, j, strict=True)} == {
        (a, b) for a in range(d) for b in range(a, d)
    }
    out = backend.array(np.full((1, i.size, 7), np.nan))
    backend.pairs(backend.array(X.T[None]), out)
    rtol = 1e-6 if backend.single else 1e-15
    assert_allclose(out[0], (X[:, i] * X[:, j]).T, rtol=rtol)
    sums = np.hstack([np.zeros((1, 1 + d)), (X[:, i] * X[:, j]).sum(axis=0)[None]])
    moments = COVARIANCES["full"].second_moments(backend, sums, d)
    assert_allclose(moments[0], X.T @ X, rtol=1e-13, atol=1e-13)


@every_type
@pytest.mark.parametrize("width", [1.0, 1e-2, 1e-4])
def test_losses_bound_what_products_lose(kind, width, rng):
    parameters = mixture(kind, rng, (width,) * K)
    X, _ = draws(parameters, kind, 100, rng)
    X[::5] = parameters.means[0] + 1e3 * (X[::5] - parameters.means[0])
    lost = lost_by(parameters, kind, np.zeros(D))
    kernel, z, F = features_of(parameters, kind, X)
    exact = log_joint(X, parameters, kind).T  # (K, n)
    error = np.abs(kernel(z, F)[0] - exact)
    assert (error <= 4 * EPS * lost[:, None] * np.maximum(1, np.abs(exact))).all()
    # The bound is tight to two digits.
    assert (error.max(axis=1) >= 1e-2 * EPS * lost).all()


@pytest.mark.parametrize("kind", ["full", "tied", "diag"])
def test_losses_do_not_depend_on_the_units_of_the_features(kind, rng):
    parameters, units = mixture(kind, rng), np.array([1e-12, 1.0, 1e12])
    full = dense(parameters.covariances, kind) * np.outer(units, units)
    means, shift = parameters.means * units, np.ones(D)
    scaled = parameters_of(kind, parameters.weights, means, full)
    assert_allclose(
        lost_by(scaled, kind, shift * units),
        lost_by(parameters, kind, shift),
        rtol=1e-9,
    )


@pytest.mark.parametrize("kind", ["full", "tied"])
def test_nearly_collinear_features_lose_digits(kind):
    full = np.tile(np.ones((D, D)) + 1e-6 * np.eye(D), (K, 1, 1))
    parameters = parameters_of(kind, np.full(K, 1 / K), np.zeros((K, D)), full)
    lost = lost_by(parameters, kind, np.zeros(D))
    # The precisions are about 1e6 times 2/3 on the diagonal, -1/3 beside it.
    assert_allclose(lost, 4e6, rtol=1e-4)


# -- products or differences -----------------------------------------------------------


@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
def test_narrow_components_take_differences(kind, rng, monkeypatch):
    parameters = mixture(kind, rng, (1.0, 1e-6, 1.0, 1e-6))
    rest = OF_D[kind], NUMPY
    joint = Joint(parameters, *rest, 1e7)
    assert (joint.near.tolist(), joint.apart.tolist()) == ([0, 2], [1, 3])
    assert Joint(parameters, *rest, 1e4, parameters.means[1]).near.tolist() == [0, 1, 2]
    pass_ = Pass(parameters, family_of(kind), NUMPY, 1e7)
    assert (pass_.near.tolist(), pass_.apart.tolist()) == ([0, 2], [1, 3])
    assert_array_equal(pass_.origins[[1, 3]], parameters.means[[1, 3]])
    monkeypatch.setattr(_covariance, "_MOST_FEATURES", 0)
    assert Joint(parameters, *rest, 1e7).apart.tolist() == [0, 1, 2, 3]


def test_components_with_one_covariance_take_the_same_form(rng):
    parameters, covariance = mixture("tied", rng), COVARIANCES["tied"]
    parameters.means[2] += 1e6
    assert Joint(parameters, covariance, NUMPY, 1e7).near.size == 0
    assert far(parameters, covariance, np.zeros(D), 1e6).all()
    moved = np.arange(K) == 1, parameters.means
    parameters.means[2] -= 1e6
    assert Pass(parameters, family_of("tied"), NUMPY, 1e4, moved).near.size == 0


@every_type
def test_components_out_of_range_or_without_weight_take_differences(kind, rng):
    parameters, covariance = mixture(kind, rng), OF_D[kind]
    parameters.weights[1] = 0.0
    assert 1 in Joint(parameters, covariance, NUMPY, 1e7).apart
    full = 1e-200 * dense(parameters.covariances, kind)
    with np.errstate(all="ignore"):
        means = 1e-100 * parameters.means
        tiny = parameters_of(kind, parameters.weights, means, full)
        assert np.isinf(lost_by(tiny, kind, np.zeros(D))).all()


def test_rows_of_very_many_features_take_differences():
    assert COVARIANCES["full"].by_products(64)
    assert not COVARIANCES["full"].by_products(300)
    assert COVARIANCES["diag"].by_products(300)


@pytest.mark.parametrize("kind", TYPES)
def test_a_type_without_products_fits_the_same(kind, monkeypatch):
    X = rows(300, D)
    options = {"covariance_type": kind, "max_iter": 8, "tol": 0.0, "random_state": 0}
    by_products = EMGaussianMixture(3, **options)
    by_differences = EMGaussianMixture(3, **options)
    with pytest.warns(ConvergenceWarning):
        by_products.fit(X)
    expected = by_products.score_samples(X)
    monkeypatch.setattr(_covariance, "_MOST_FEATURES", 0)
    with pytest.warns(ConvergenceWarning):
        by_differences.fit(X)
    assert_allclose(by_products.means_, by_differences.means_, rtol=1e-9)
    assert_allclose(by_differences.score_samples(X), expected, rtol=1e-9)


# -- one pass --------------------------------------------------------------------------


@every_type
@every_backend
@pytest.mark.parametrize("loss", [0.0, 30.0, LEAST_LOSS, 1e7])
@pytest.mark.parametrize(
    "widths", [(1.0,) * 4, (1.0, 0.3, 1.0, 0.1), (1.0, 1e-3, 0.3, 1e-6), (1e-5,) * 4]
)
def test_an_iteration_is_a_plain_loop(kind, backend, loss, widths, rng):
    # With a loss of 30 some components take products and some differences.
    widths = np.array([widths[0]] * K if kind == "tied" else widths)
    parameters = mixture(kind, rng, widths)
    X, weights = draws(parameters, kind, 400, rng, backend)
    found, after = one_iteration(X, weights, parameters, kind, loss, backend)
    bound, expected = plain_iteration(X, weights, parameters, kind)
    tolerance = 6e-5 if backend.single else 1e-10 if min(widths) >= 0.1 else 1e-8
    assert_close(after, expected, widths, tolerance)
    rtol = 1e-5 if backend.single else 0.1 * tolerance
    assert_allclose(found.log_likelihood, float(bound), rtol=rtol)
    lowest = logsumexp(log_joint(X, parameters, kind).astype(float), axis=1).argmin()
    assert_array_equal(found.lowest_row, X[lowest])
    assert_allclose(found.lowest_weight, weights[lowest] / weights.sum(), rtol=1e-14)


@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
def test_products_of_narrow_components_would_lose_their_digits(kind, rng):
    parameters = mixture(kind, rng, (1.0, 1e-6, 1.0, 1e-6))
    X, weights = draws(parameters, kind, 200, rng)
    found, _ = one_iteration(X, weights, parameters, kind, 1e7)
    bound, _ = plain_iteration(X, weights, parameters, kind)
    assert found.log_likelihood == pytest.approx(float(bound), abs=1e-8)
    forced, _ = one_iteration(X, weights, parameters, kind, np.inf)
    assert abs(forced.log_likelihood - float(bound)) > 1e-6


@every_type
@every_backend
def test_moments_may_be_about_other_points(kind, backend, rng):
    parameters = mixture(kind, rng, (0.3,) * K)
    X, weights = draws(parameters, kind, 400, rng, backend)
    moved = np.arange(K) < 2, parameters.means + 0.1
    rest = X, weights, parameters, kind, LEAST_LOSS
    found, after = one_iteration(*rest, backend, moved)
    assert_allclose(found.origins[:2], parameters.means[:2] + 0.1, rtol=1e-6)
    tolerance = 2e-5 if backend.single else 1e-11
    _, expected = plain_iteration(X, weights, parameters, kind)
    assert_close(after, expected, (0.3,) * K, tolerance)


@every_type
@every_backend
def test_components_without_weight_have_no_rows(kind, backend, rng):
    parameters = mixture(kind, rng)
    parameters = replace(parameters, weights=np.array([0.2, 0.3, 0.0, 0.5]))
    X, weights = draws(parameters, kind, 200, rng, backend)
    found, after = one_iteration(X, weights, parameters, kind, LEAST_LOSS, backend)
    assert found.counts[2] == after.weights[2] == 0
    assert_array_equal(after.means[2], parameters.means[2])
    with np.errstate(divide="ignore"):
        density = logsumexp(log_joint(X, parameters, kind).astype(float), axis=1)
    rtol = 1e-5 if backend.single else 1e-12
    assert_allclose(found.log_likelihood, np.average(density, weights=weights), rtol)


@every_type
def test_a_component_without_rows_keeps_its_parameters(kind, rng):
    parameters = mixture(kind, rng)
    parameters.means[1] = 100.0
    X = rng.standard_normal((50, D))
    found = one_iteration(X, np.ones(50), parameters, kind, 1e7)[1]
    assert found.weights[1] == 0
    assert (found.means[1] == 100.0).all()


@every_type
def test_a_component_with_next_to_no_rows_gets_the_weight_0(kind, rng):
    parameters = mixture(kind, rng)
    X = rng.standard_normal((50, D))
    found, _ = one_iteration(X, np.ones(50), parameters, kind, 1e7)
    counts = found.counts.copy()
    counts[2] = 1e-14
    after, _ = maximise(replace(found, counts=counts), parameters, family_of(kind))
    assert after.weights[2] == 0
    assert_array_equal(after.means[2], parameters.means[2])
    assert after.weights.sum() == pytest.approx(1)


@every_type
def test_responsibilities_of_weighted_rows_are_those_of_repeated_ones(kind, rng):
    X, r = rng.standard_normal((40, D)), rng.dirichlet(np.ones(K), size=40)
    times = rng.randint(1, 4, size=40)
    rest = OF_D[kind], 0.0, np.zeros(D, dtype=bool)
    weighted = Problem(X, times.astype(float), *rest).from_responsibilities(
        lambda s: r[s], K
    )
    X, r = np.repeat(X, times, axis=0), np.repeat(r, times, axis=0)
    repeated = Problem(X, np.ones(len(X)), *rest).from_responsibilities(
        lambda s: r[s], K
    )
    for name in ("weights", "means", "covariances"):
        one, other = getattr(weighted, name), getattr(repeated, name)
        assert_allclose(one, other, rtol=1e-10, atol=1e-12)


@every_type
def test_moments_are_taken_again_about_means_that_moved_far(kind, rng):
    X = np.repeat(np.eye(D), 40, axis=0) + 1e-7 * rng.standard_normal((3 * 40, D))
    labels, weights = np.repeat(np.arange(D), 40), np.ones(3 * 40)
    problem = Problem(X, weights, OF_D[kind], 0.0, np.zeros(D, dtype=bool))

    def given(rows):
        return np.eye(K)[labels[rows]]

    found = problem.from_responsibilities(given, K)
    assert found.weights[3] == 0
    assert (found.means[3] == 0).all()  # where it was
    full = np.stack([np.cov(X[labels == k].T, ddof=0) for k in range(D)])
    if kind == "tied":
        full = np.tile(full.mean(axis=0), (D, 1, 1))
    if kind == "spherical":
        full = np.trace(full, axis1=1, axis2=2)[:, None, None] / D * np.eye(D)
    expected = parameters_of(kind, found.weights, found.means, full).covariances
    assert_allclose(found.covariances[:D], expected, rtol=1e-8, atol=1e-21)
    # About the origin they lose digits.
    unit = parameters_of(
        kind, np.full(K, 1 / K), np.zeros((K, D)), np.tile(np.eye(D), (K, 1, 1))
    )
    pass_ = Pass(unit, problem.family, NUMPY, 0.0)
    rough = pass_.statistics(pass_.sums_of(NumPyRows(X, weights), given))
    rough = maximise(rough, unit, problem.family)[0].covariances
    assert np.abs(rough - found.covariances)[:3].max() > 1e-18


def test_the_scatter_of_all_rows_is_summed_once(rng):
    parameters = mixture("tied", rng)
    X, weights = draws(parameters, "tied", 100, rng)
    rest = COVARIANCES["tied"], 0.0, np.zeros(D, dtype=bool)
    problem = Problem(X, weights, *rest)
    first = problem.statistics(parameters).scatter
    assert_allclose(first[0], (weights * X.T) @ X, rtol=1e-12)
    after, _ = problem.maximise(problem.statistics(parameters), parameters)
    assert problem.statistics(after).scatter is first
    expected, _ = Problem(X, weights, *rest).maximise(
        Problem(X, weights, *rest).statistics(after), after
    )
    found, _ = problem.maximise(problem.statistics(after), after)
    assert_array_equal(found.covariances, expected.covariances)
    # Narrow components have moments about their means.
    means = 1e5 + parameters.means
    far_away = replace(parameters, means=means)
    assert problem.statistics(far_away).scatter is not first


# -- chunks and threads ----------------------------------------------------------------


@every_type
def test_any_number_of_threads_finds_the_same_bits(kind, rng, monkeypatch):
    for name, value in (("_BLOCK_BYTES", 0), ("_LEAST_ROWS", 7), ("_LEAST_TASK", 1)):
        monkeypatch.setattr(_backend, name, value)
    monkeypatch.setattr(_backend, "_WORK_FOR_THREADS", 0)
    parameters = mixture(kind, rng, (1.0, 0.3, 1.0, 0.1))
    X, weights = draws(parameters, kind, 200, rng)
    results = []
    for n_threads in (1, 2, 5):
        monkeypatch.setattr("skgen._threads.most_threads", lambda n=n_threads: n)
        results.append(one_iteration(X, weights, parameters, kind, 30.0)[0])
    density = logsumexp(log_joint(X, parameters, kind).astype(float), axis=1)
    assert_array_equal(results[0].lowest_row, X[density.argmin()])
    for result in results[1:]:
        assert result.log_likelihood == results[0].log_likelihood
        assert_array_equal(result.scatter, results[0].scatter)
        assert_array_equal(result.first, results[0].first)


@pytest.mark.parametrize("n", [1, 127, 128, 129, 4096, 200_001])
def test_chunks_hold_every_row_once(n):
    rows = NumPyRows(np.arange(16.0 * n).reshape(n, 16), np.arange(n))
    p = COVARIANCES["full"].n_features(16)
    tasks = rows.map(list, p, 16)
    assert len(tasks) <= 32
    chunks, stop = [chunk for task in tasks for chunk in task], 0
    for start, z, w in chunks:
        assert start == stop
        assert_array_equal(z[0].T, rows.X[start : start + z.shape[2]])
        assert_array_equal(w[0, 0], rows.sample_weight[start : start + z.shape[2]])
        assert z.shape[2] <= chunks[0][1].shape[2]  # the first chunk is the largest
        stop += z.shape[2]
    assert stop == n


@every_type
@pytest.mark.parametrize("width", [1.0, 1e-5])
@pytest.mark.parametrize("resident", [True, False])
def test_chunks_of_a_device_make_no_difference(kind, width, resident, rng, monkeypatch):
    parameters = mixture(kind, rng, (width,) * K)
    X, weights = draws(parameters, kind, 500, rng)
    monkeypatch.setattr(_backend, "BLOCK_ROWS", 96)
    monkeypatch.setattr(_backend, "_SENT", 1000 * D)
    monkeypatch.setattr(_backend, "_CHUNK_BYTES", 2**18)
    monkeypatch.setattr(_backend, "fits", lambda device, n_bytes: resident)
    rest = X, weights, parameters, kind, LEAST_LOSS
    found, after = one_iteration(*rest, DOUBLE)
    here, expected = one_iteration(*rest, NUMPY)
    assert_allclose(found.log_likelihood, here.log_likelihood, rtol=1e-12)
    assert_array_equal(found.lowest_row, here.lowest_row)
    assert_close(after, expected, (width,) * K, 1e-10)


@every_type
@pytest.mark.parametrize("width", [1.0, 1e-3])
def test_a_device_without_float64_adds_on_the_cpu(kind, width, rng, monkeypatch):
    parameters = mixture(kind, rng, (width,) * K)
    X, weights = draws(parameters, kind, 500, rng, SINGLE)
    monkeypatch.setattr(TorchBackend, "_adds_on_cpu", True)
    found, after = one_iteration(X, weights, parameters, kind, LEAST_LOSS, SINGLE)
    bound, expected = plain_iteration(X, weights, parameters, kind)
    assert_allclose(found.log_likelihood, float(bound), rtol=1e-5)
    assert_close(after, expected, (width,) * K, 2e-5)


def test_rows_on_a_device_are_columns_with_copies_of_the_last(rng):
    X, weights = rng.standard_normal((2500, 3)), rng.uniform(1, 2, 2500)
    kept = TorchRows(lambda part: X[part], weights, DOUBLE)
    assert kept.X.shape == (2, 3, 2048)
    back = kept.X.transpose(1, 2).reshape(-1, 3).numpy()
    assert_array_equal(back[:2500], X)
    assert_array_equal(back[2500:], np.tile(X[-1], (4096 - 2500, 1)))
    assert_array_equal(kept.weights.flatten()[2500:], 0.0)
    row, weight = kept.row(2100)
    assert_array_equal(row, X[2100])
    assert weight == weights[2100]


@every_backend
def test_a_pass_can_be_pickled(backend, rng):
    parameters = mixture("full", rng)
    X, weights = draws(parameters, "full", 100, rng, backend)
    pass_ = Pass(parameters, family_of("full"), backend, LEAST_LOSS)
    a, b = (p.sums(X, weights) for p in (pass_, pickle.loads(pickle.dumps(pass_))))
    assert a.log_likelihood == b.log_likelihood
    for here, there in zip(a.moments, b.moments, strict=True):
        assert_array_equal(here, there)


def test_an_iteration_never_holds_all_rows_by_all_components(monkeypatch, rng):
    monkeypatch.setattr("skgen._threads.most_threads", lambda: 1)
    covariance = COVARIANCES["spherical"]
    X, means = rng.standard_normal((50_000, 2)), rng.standard_normal((50, 2))
    unit = covariance.unit(50, 2)
    parameters = Parameters(np.full(50, 0.02), means, unit, covariance.factors(unit))
    problem = Problem(X, np.ones(50_000), covariance, 0.0, np.zeros(2, dtype=bool))
    tracemalloc.start()
    problem.statistics(parameters)  # rows by components would be 20 MB
    posterior(X, parameters, covariance)
    peak = tracemalloc.get_traced_memory()[1] - 50_000 * 50 * 8
    tracemalloc.stop()
    assert peak < 8 * 2**20


# -- float32 ---------------------------------------------------------------------------


@every_type
def test_the_likelihood_is_that_of_the_parameters_before_rounding(kind):
    # Rounding of the parameters would hide the gain of late iterations.
    errors = []  # in nats a row
    for seed in range(3):
        rng = np.random.RandomState(seed)
        for width in (1.0, 0.2, 0.1, 1e-3):
            parameters = mixture(kind, rng, (width,) * K)
            X, weights = draws(parameters, kind, 1000, rng, SINGLE)
            rest = X, weights, parameters, kind, LEAST_LOSS
            (a, _), (b, _) = (one_iteration(*rest, each) for each in (SINGLE, NUMPY))
            errors.append(a.log_likelihood - b.log_likelihood)
    # A single error may be as large as that of rounded parameters. Together they are of
    # 2e-7 at most, and without the correction of 1e-6 to 4e-6.
    assert np.sqrt(np.mean(np.square(errors))) < 5e-7


@every_type
def test_the_likelihood_is_that_of_the_factors_before_rounding(kind, rng):
    step = float(np.spacing(np.float32(1024)))
    factor = 1024 + 0.49 * step  # the largest rounding error
    full = np.tile(np.eye(D) / factor**2, (K, 1, 1))
    means = rng.standard_normal((K, D))
    parameters = parameters_of(kind, np.full(K, 1 / K), means, full)
    X, weights = draws(parameters, kind, 1000, rng, SINGLE)
    rest = X, weights, parameters, kind, LEAST_LOSS
    (a, _), (b, _) = (one_iteration(*rest, each) for each in (SINGLE, NUMPY))
    # Rounding changes the squares of D standardised features by 2 * 6e-8 of them.
    assert abs(a.log_likelihood - b.log_likelihood) < 0.25 * D * 6e-8


@every_type
def test_log_densities_in_float32_allow_for_rounded_means(kind, rng):
    # Rounding moves the means by a hundredth of the width of their components.
    parameters = mixture(kind, rng, (1e-5,) * K)
    X, weights = draws(parameters, kind, 1000, rng, SINGLE)
    lowest = [
        Pass(parameters, family_of(kind), b, LEAST_LOSS).sums(X, weights).lowest
        for b in (SINGLE, NUMPY)
    ]
    assert_allclose(*lowest, rtol=1e-5)


# -- sparse moments --------------------------------------------------------------------


@pytest.fixture
def gathered(monkeypatch):
    """Let a few rows count as many, and return how many of them were gathered."""
    monkeypatch.setattr(_pass, "_LEAST_GATHERED", 1)
    monkeypatch.setattr(_pass, "_GATHERED", 200)
    monkeypatch.setattr(_backend, "_BLOCK_BYTES", 0)
    monkeypatch.setattr(_backend, "_LEAST_ROWS", 64)
    counts, add_few = [], Collector._add_few

    def spy(self):
        if self._start < self._stop:
            counts.append(self._stop - self._start)
        add_few(self)

    monkeypatch.setattr(Collector, "_add_few", spy)
    return counts


def clusters(rng, apart, n=3000, widths=(1.0,) * 8, d=24):
    """Return rows of clusters in turn, and their mixture."""
    K = len(widths)
    means = np.reshape(apart, (-1, 1)) * rng.standard_normal((K, d)) / np.sqrt(d)
    roots = np.eye(d) + 0.3 * rng.standard_normal((K, d, d)) / np.sqrt(d)
    roots *= np.reshape(widths, (K, 1, 1))
    label = np.arange(n) * K // n
    noise = np.einsum("nij,nj->ni", roots[label], rng.standard_normal((n, d)))
    full = roots @ roots.transpose(0, 2, 1)
    return means[label] + noise, parameters_of("full", np.full(K, 1 / K), means, full)


# Narrow components take their moments by differences; near ones share chunks in which
# many responsibilities count.
@pytest.mark.parametrize("widths", [(1.0,) * 8, (1.0, 1e-4, 1.0, 1e-5, *[1.0] * 4)])
@pytest.mark.parametrize("apart", [[30.0] * 4 + [2.0] * 4, 7.0, 30.0])
def test_sparse_moments_are_those_of_all(widths, apart, rng, gathered, monkeypatch):
    X, parameters = clusters(rng, apart, widths=widths)
    X[rng.randint(len(X), size=40)] *= 0.1  # between the clusters
    rest = X, rng.uniform(0.1, 3.0, len(X)), parameters, "full"
    found, after = one_iteration(*rest)
    n_gathered = sum(gathered)
    assert n_gathered == len(X) if apart == 30.0 else 0 < n_gathered
    assert max(gathered) > 64  # more than a chunk at once
    monkeypatch.setattr(_pass, "_LEAST_FEATURES", 25)
    whole, expected = one_iteration(*rest)
    assert sum(gathered) == n_gathered
    assert found.log_likelihood == whole.log_likelihood
    assert_allclose(found.counts, whole.counts, rtol=1e-12)
    assert_close(after, expected, widths, 2e-9)


def collected(moments, r, weights, size):
    """Return counts, first and second moments of responsibilities (K, n) in chunks."""
    X = moments.rows.X
    for start in range(0, len(X), size):
        rows = slice(start, start + size)
        z, w = X[rows].T[None], weights[None, None, rows]
        F = Kernel(moments.of.joint).features(z)
        moments.add(start, z, w, F, r[None, :, rows], np.zeros_like(w))
    found = moments.of.statistics(moments.finish())
    return found.counts, found.first, found.scatter


def moments_of(X, weights, K, least):
    """Return a `Collector` of rows (n, d) about 0."""
    d = X.shape[1]
    full = np.tile(np.eye(d), (K, 1, 1))
    unit = parameters_of("full", np.full(K, 1 / K), np.zeros((K, d)), full)
    pass_ = Pass(unit, family_of("full", d), NUMPY, LEAST_LOSS)
    pass_.least = least
    return Collector(pass_, NumPyRows(X, weights))


def test_only_negligible_responsibilities_are_left_out(rng, gathered):
    n, d, K = 1000, 24, 8
    X, r = rng.standard_normal((n, d)), 10.0 ** rng.uniform(-300, 0, (K, n))
    r *= rng.uniform(size=(K, n)) < 0.15
    weights = rng.uniform(0.5, 2.0, n)
    r *= weights
    least = np.array([0.0, 1e-290, 1e-200, 1e-100, 1e-20, 1e-3, 1e-2, 0.1])
    found = collected(moments_of(X, weights, K, least), r, weights, 90)
    assert gathered == [180] * 5 + [100]
    given = (r > 0).sum()
    for start in range(0, n, 180):
        rows = slice(start, start + 180)
        mean = weights[rows].mean()
        r[:, rows][r[:, rows] <= mean * least[:, None]] = 0.0
    assert 0.1 * given < (r > 0).sum() < 0.9 * given
    assert_allclose(found[0], r.sum(axis=1), rtol=1e-13)
    assert_allclose(found[1], r @ X, rtol=1e-10, atol=1e-12)
    scatter = np.einsum("kn,ni,nj->kij", r, X, X)
    assert_allclose(found[2], scatter, rtol=1e-10, atol=1e-12)


def test_chunks_of_many_responsibilities_are_summed_at_once(rng, gathered):
    n, d, K = 256, 24, 8
    X, few = rng.standard_normal((n, d)), np.repeat([True, False, False, True], 64)
    r = np.where(few, np.eye(K)[rng.randint(K, size=n)].T, 1 / K)  # (K, n)
    moments = moments_of(X, np.ones(n), K, np.full(K, 1e-13))
    moments._held = moments._held[:, :64]  # each chunk is looked at
    counts, first, scatter = collected(moments, r, np.ones(n), 64)
    assert gathered == [64, 64]
    assert_allclose(counts, r.sum(axis=1), rtol=1e-13)
    assert_allclose(first, r @ X, rtol=1e-12, atol=1e-12)
    expected = np.einsum("kn,ni,nj->kij", r, X, X)
    assert_allclose(scatter, expected, rtol=1e-12, atol=1e-12)


def test_a_fit_with_sparse_moments_ends_where_scikit_learn_ends(rng, gathered):
    X, parameters = clusters(rng, 12.0, n=2000)
    start = {
        "weights_init": parameters.weights,
        "means_init": parameters.means + 0.3,
        "precisions_init": np.tile(np.eye(24), (8, 1, 1)),
        "reg_covar": 0.0,
    }
    ours = EMGaussianMixture(8, tol=1e-12, max_iter=500, **start).fit(X)
    theirs = GaussianMixture(8, tol=1e-12, max_iter=500, **start).fit(X)
    assert sum(gathered) >= 4 * len(X)
    assert_allclose(ours.means_, theirs.means_, atol=1e-6)
    assert_allclose(ours.covariances_, theirs.covariances_, atol=1e-6)
    assert (np.diff(ours.lower_bounds_) >= 0).all()


def test_small_responsibilities_count(rng, gathered, monkeypatch):
    # Each row has a responsibility of about 1e-8 in the two clusters beside its own.
    n, K, d = 4000, 20, 24
    means = 6.0 * np.eye(1, d) * np.arange(K)[:, None]
    full = np.tile(np.eye(d), (K, 1, 1))
    parameters = parameters_of("full", np.full(K, 1 / K), means, full)
    X = means[np.arange(n) * K // n] + rng.standard_normal((n, d))
    found, _ = one_iteration(X, np.ones(n), parameters, "full")
    assert gathered
    monkeypatch.setattr(_pass, "_LEAST_FEATURES", d + 1)
    whole, _ = one_iteration(X, np.ones(n), parameters, "full")
    assert_allclose(found.counts, whole.counts, rtol=1e-11)


# -- answers ---------------------------------------------------------------------------


@every_type
def test_answers_do_not_depend_on_the_chunks(kind, rng, monkeypatch):
    parameters = mixture(kind, rng, (1.0, 1e-5, 1.0, 1e-2))
    parameters = replace(parameters, weights=np.array([0.0, 0.3, 0.4, 0.3]))
    X, _ = draws(parameters, kind, 30, rng)
    X[5] = 1e200
    rest = X, parameters, OF_D[kind]
    expected = posterior(*rest)
    monkeypatch.setattr(_backend, "_BLOCK_BYTES", 0)
    monkeypatch.setattr(_backend, "_LEAST_ROWS", 7)
    found, density = posterior(*rest), log_density(*rest)
    assert_allclose(found, expected, rtol=1e-12, atol=1e-13)
    assert_allclose(found.sum(axis=1), 1.0)
    assert (found[:, 0] == 0).all()
    with np.errstate(divide="ignore"):
        joint = np.delete(log_joint(X, parameters, kind), 5, axis=0).astype(float)
    exact = logsumexp(joint, axis=1)
    assert_allclose(np.delete(density, 5), exact, rtol=1e-11)
    exact = np.exp(joint - exact[:, None])
    assert_allclose(np.delete(found, 5, axis=0), exact, atol=1e-10)


@every_type
def test_log_densities_of_narrow_components_keep_their_digits(kind, rng):
    widths = (1e-4,) * K if kind == "tied" else (1.0, 1e-3, 1e-4, 1e-5)
    parameters = mixture(kind, rng, widths)
    X, _ = draws(parameters, kind, 50, rng)
    expected = logsumexp(log_joint(X, parameters, kind).astype(float), axis=1)
    found = log_density(X, parameters, OF_D[kind])
    assert_allclose(found, expected, rtol=0, atol=2e-11)


# -- rounding errors follow the rise of the likelihood ---------------------------------


def test_products_may_lose_less_as_the_rise_falls():
    assert allowed_loss(np.inf) == allowed_loss(1.0) == 1e7
    assert allowed_loss(1e-6) == pytest.approx(1e-10 / EPS)
    assert allowed_loss(0.0) == allowed_loss(-1.0) == 1e4


class Rounding:
    """A problem whose likelihood falls by what products lose, and rises else."""

    backend = NUMPY

    def maximise(self, collected, parameters):
        return replace(parameters, means=parameters.means + 1), np.zeros(K, bool)

    def statistics(self, parameters, loss=1e4):
        rise = 1e-9 * parameters.means[0, 0] - 1e-14 * (loss - 1e4)
        return Statistics(None, None, None, None, rise, None, 0.0)


def test_a_fall_by_what_products_lost_ends_nothing(rng):
    problem, start = Rounding(), replace(mixture("full", rng), means=np.zeros((K, D)))
    run = Run(start, problem.statistics(start))
    for _ in range(3):
        run.step(problem, 0.0)
    assert not run.converged
    assert_allclose(run.bounds, [1e-9, 2e-9, 3e-9], rtol=1e-6)


def test_a_likelihood_that_products_raised_is_found_anew(rng):
    problem, start = Rounding(), replace(mixture("full", rng), means=np.zeros((K, D)))
    run = Run(start, replace(problem.statistics(start), log_likelihood=1e-8))
    run.bounds = [1e-8]
    run.step(problem, 0.0)
    assert not run.converged
    assert (run.parameters.means == 1).all()
    assert run.bound == pytest.approx(1e-9)
    assert run.bounds == [1e-8, 1e-8]  # the trace never falls


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
    run = Run(start, found)
    run.step(problem, 0.0)
    assert (run.stalled, run.converged) == (stalled, not stalled)
    assert run.parameters is start
