"""EM on a device: PyTorch's sums and answers against NumPy's.

PyTorch on the CPU stands in for a device, but for the tests marked `gpu`.
"""

import pickle
import sys
import warnings
from subprocess import run

import numpy as np
import pytest
import torch
from estimators import rows
from numpy.testing import assert_allclose, assert_array_equal
from skgen.mixture._device import (
    DeviceExpectation,
    DeviceProblem,
    Place,
    device_problem,
)
from skgen.mixture._device_rows import DeviceRows
from skgen.mixture._device_shapes import FullOnDevice
from skgen.mixture._joint import Parameters
from skgen.mixture._precision import LEAST_LOSS
from skgen.mixture._products import products_of
from skgen.mixture._statistics import Expectation, Family, maximise
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning

from skgen import EMGaussianMixture
from skgen._torch import without_tf32
from skgen._whitening import DiagonalWhitening
from skgen.mixture import _device, _device_rows, _device_sums, _em
from skgen.mixture._covariance import COVARIANCES

every_type = pytest.mark.parametrize("kind", list(COVARIANCES))
K, D, N = 5, 4, 5000

CPU = torch.device("cpu")
SINGLE, DOUBLE = Place(CPU, single=True), Place(CPU, single=False)


def on_a_gpu(test):
    skip = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
    return pytest.mark.gpu(skip(test))


@pytest.fixture
def device(monkeypatch):
    """Let PyTorch on the CPU stand in for a GPU, and return the name of that."""
    monkeypatch.setattr(_em, "check_device", lambda model: None)
    monkeypatch.setattr(_device, "usable_device", lambda name: CPU)
    return "cuda"


def mixture(kind, rng, width):
    """Return a mixture of `K` components of about one width."""
    roots = rng.standard_normal((K, D, 2 * D)) * width / np.sqrt(2 * D)
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


def weighted_rows(parameters, width, rng, *, single=False):
    """Return rows near the components, of float32 where asked for, and weights."""
    component = rng.randint(K, size=N)
    X = parameters.means[component] + width * rng.standard_normal((N, D))
    X = X.astype(np.float32).astype(np.float64) if single else X
    return X, rng.uniform(0.1, 2.0, N)


def family_of(kind):
    covariance = COVARIANCES[kind]
    degenerate = np.zeros(D, dtype=bool)
    return Family(covariance, products_of(covariance), 0.0, degenerate)


def assert_same_pass(found, expected, parameters, kind, width, rtol):
    """Assert that two expectations and their sums say the same of rows."""
    found, expected = (e.statistics(sums) for e, sums in (found, expected))
    assert_allclose(found.log_likelihood, expected.log_likelihood, rtol=rtol)
    assert_allclose(found.counts, expected.counts, rtol=rtol, atol=1e-20)
    assert_array_equal(found.lowest_row, expected.lowest_row)
    assert_allclose(found.lowest_share, expected.lowest_share, rtol=1e-14)
    family = family_of(kind)
    a, b = (maximise(s, parameters, family)[0] for s in (found, expected))
    assert_allclose(a.means, b.means, rtol=0, atol=rtol * width)
    assert_allclose(a.covariances, b.covariances, rtol=0, atol=rtol * width**2)


def passes(X, weights, parameters, kind, place, loss=LEAST_LOSS, moved=None):
    """Return the expectations on a device and of NumPy, and their sums."""
    rest = family_of(kind), loss, moved
    there = DeviceExpectation(parameters, *rest, place=place)
    here = Expectation(parameters, *rest)
    return (there, there.sums(X, weights)), (here, here.sums(X, weights))


# -- one pass --------------------------------------------------------------------------


@every_type
@pytest.mark.parametrize("width", [1.0, 0.1, 1e-3, 1e-6])
def test_sums_are_those_of_numpy(kind, width, rng):
    parameters = mixture(kind, rng, width)
    X, weights = weighted_rows(parameters, width, rng)
    both = passes(X, weights, parameters, kind, DOUBLE)
    # Of moments about a point so many widths away, fewer digits remain.
    rtol = {0.1: 1e-11, 1e-3: 1e-8}.get(width, 1e-12)
    assert_same_pass(*both, parameters, kind, width, rtol)


@every_type
@pytest.mark.parametrize("width", [1.0, 1e-3, 1e-5])
@pytest.mark.parametrize("loss", [LEAST_LOSS, 1e7])
def test_sums_in_float32_keep_five_digits(kind, width, loss, rng):
    parameters = mixture(kind, rng, width)
    X, weights = weighted_rows(parameters, width, rng, single=True)
    both = passes(X, weights, parameters, kind, SINGLE, loss)
    assert_same_pass(*both, parameters, kind, width, 1e-5)
    (expectation, _), _ = both
    assert (expectation.joint.near.size == K) == (width == 1.0)


@pytest.mark.parametrize("d", range(1, 9))
def test_features_are_those_of_numpy_in_another_order(d, rng):
    products, shape = products_of(COVARIANCES["full"]), FullOnDevice()
    X = rng.standard_normal((7, d))
    room = np.empty((products.n_features(d), 7))
    expected = products.features(X, np.zeros(d), None, room)
    F = torch.empty(1, *room.shape, dtype=torch.float64)
    F[:, 0], F[0, 1 : 1 + d] = 1.0, torch.from_numpy(X.T)
    shape.fill(F, d, None)
    order = shape.order(d)
    assert_array_equal(np.sort(order), np.arange(order.size))
    assert_array_equal(F[0].numpy(), expected[order])


@every_type
def test_the_likelihood_is_that_of_the_parameters_before_rounding(kind):
    # Or late iterations would drown in what rounding of the parameters takes from it.
    errors = []  # in nats a row
    for seed in range(3):
        rng = np.random.RandomState(seed)
        for width in (1.0, 0.2, 0.1, 1e-3):
            parameters = mixture(kind, rng, width)
            X, weights = weighted_rows(parameters, width, rng, single=True)
            (_, found), (_, expected) = passes(X, weights, parameters, kind, SINGLE)
            error = found.log_likelihood - expected.log_likelihood
            errors.append(error / weights.sum())
    # A single error may be as large as that of rounded parameters. Together they are of
    # 2e-7 at most, and without the correction of 1e-6 to 4e-6.
    assert np.sqrt(np.mean(np.square(errors))) < 5e-7


@every_type
@pytest.mark.parametrize("place", [SINGLE, DOUBLE])
def test_components_without_rows_have_no_share(kind, place, rng):
    parameters = mixture(kind, rng, 1.0)
    weights = parameters.weights.copy()
    weights[2] = 0.0
    parameters = Parameters(
        weights / weights.sum(),
        parameters.means,
        parameters.covariances,
        parameters.factors,
    )
    X, sample_weight = weighted_rows(parameters, 1.0, rng, single=True)
    both = passes(X, sample_weight, parameters, kind, place)
    assert both[0][0].statistics(both[0][1]).counts[2] == 0
    assert_same_pass(*both, parameters, kind, 1.0, 1e-5 if place.single else 1e-12)


@every_type
@pytest.mark.parametrize("place", [SINGLE, DOUBLE])
def test_moments_may_be_about_other_points(kind, place, rng):
    parameters = mixture(kind, rng, 0.3)
    X, weights = weighted_rows(parameters, 0.3, rng, single=True)
    moved = np.arange(K) < 2, parameters.means + 0.1
    both = passes(X, weights, parameters, kind, place, moved=moved)
    assert_same_pass(*both, parameters, kind, 0.3, 2e-5 if place.single else 1e-12)


@every_type
@pytest.mark.parametrize("width", [1.0, 1e-5])
def test_chunks_make_no_difference(kind, width, rng, monkeypatch):
    parameters = mixture(kind, rng, width)
    X, weights = weighted_rows(parameters, width, rng)
    monkeypatch.setattr(_device_rows, "BLOCK_ROWS", 96)
    monkeypatch.setattr(_device_rows, "_SENT", 1000 * D)
    monkeypatch.setattr(_device_sums, "_CHUNK_BYTES", 2**18)
    both = passes(X, weights, parameters, kind, DOUBLE)
    assert_same_pass(*both, parameters, kind, width, 1e-12)


@every_type
@pytest.mark.parametrize("width", [1.0, 1e-3])
def test_a_device_without_float64_adds_up_on_the_cpu(kind, width, rng, monkeypatch):
    parameters = mixture(kind, rng, width)
    X, weights = weighted_rows(parameters, width, rng, single=True)
    monkeypatch.setattr(Place, "_adds_on_cpu", True)
    both = passes(X, weights, parameters, kind, SINGLE)
    assert_same_pass(*both, parameters, kind, width, 1e-5)


def test_rows_that_do_not_fit_are_sent_in_every_pass(rng, monkeypatch):
    parameters = mixture("full", rng, 1.0)
    X, weights = weighted_rows(parameters, 1.0, rng)
    monkeypatch.setattr(_device_rows, "fits", lambda device, n_bytes: False)
    both = passes(X, weights, parameters, "full", DOUBLE)
    assert_same_pass(*both, parameters, "full", 1.0, 1e-12)


def test_rows_are_columns_in_blocks_with_copies_of_the_last(rng):
    X, weights = rng.standard_normal((2500, 3)), rng.uniform(1, 2, 2500)
    kept = DeviceRows(lambda part: X[part], weights, DOUBLE)
    assert kept.X.shape == (2, 3, 2048)
    back = kept.X.transpose(1, 2).reshape(-1, 3).numpy()
    assert_array_equal(back[:2500], X)
    assert_array_equal(back[2500:], np.tile(X[-1], (4096 - 2500, 1)))
    assert_array_equal(kept.weights.flatten()[2500:], 0.0)
    assert kept.largest == np.abs(X).max()
    row, weight = kept.row(2100)
    assert_array_equal(row, X[2100])
    assert weight == weights[2100]


def test_an_expectation_travels(rng):
    parameters = mixture("full", rng, 1.0)
    X, weights = weighted_rows(parameters, 1.0, rng)
    rest = family_of("full"), LEAST_LOSS
    expectation = DeviceExpectation(parameters, *rest, place=SINGLE)
    there = pickle.loads(pickle.dumps(expectation))
    a, b = (e.sums(X, weights) for e in (expectation, there))
    assert a.log_likelihood == b.log_likelihood
    for here, travelled in zip(a.moments, b.moments, strict=True):
        assert_array_equal(here, travelled)


def coordinates(d):
    return DiagonalWhitening(np.zeros(d), np.ones(d), np.zeros(d, dtype=bool))


def test_rows_beyond_the_range_of_float32_take_float64(rng):
    X, weights = rng.standard_normal((100, 2)), np.ones(100)
    rest = coordinates(2), COVARIANCES["full"], 1e-6
    assert device_problem(X, weights, *rest, SINGLE).precision is SINGLE.precision
    X[3], weights[3] = 1e30, 1e-70
    problem = device_problem(X, weights, *rest, SINGLE)
    assert isinstance(problem, DeviceProblem)
    assert problem.precision is DOUBLE.precision
    X[3] = 1e90  # products leave the range of float64 as well
    assert device_problem(X, weights, *rest, SINGLE).family.products is None


def test_blocks_beyond_the_range_of_float32_go_to_numpy(rng):
    parameters = mixture("diag", rng, 1.0)
    X, weights = weighted_rows(parameters, 1.0, rng)
    X[7], weights[7] = 1e9, 1e-30
    there, here = passes(X, weights, parameters, "diag", SINGLE)
    assert_allclose(there[1].log_likelihood, here[1].log_likelihood, rtol=1e-14)


# -- whole fits ------------------------------------------------------------------------


def clusters(dtype=np.float64):
    rng = np.random.RandomState(0)
    parts = [(0, 1), (5, 0.01), (-4, 2), (1, 0.5)]
    return np.vstack([rng.normal(m, s, (800, 4)) for m, s in parts]).astype(dtype)


def fitted(X, **parameters):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return EMGaussianMixture(4, random_state=0, **parameters).fit(X)


def assert_same_fit(a, b, rtol):
    assert a.n_iter_ == b.n_iter_
    assert_allclose(a.lower_bounds_, b.lower_bounds_, rtol=rtol)
    assert_same_end(a, b, rtol)


def assert_same_end(a, b, rtol):
    # The likelihood is flat along some directions, which shows in float32.
    atol = rtol if rtol < 1e-6 else 1000 * rtol
    assert_allclose(a.weights_, b.weights_, atol=atol)
    assert_allclose(a.means_, b.means_, atol=atol)
    assert_allclose(a.lower_bound_, b.lower_bound_, rtol=rtol)


@every_type
@pytest.mark.parametrize("init_params", ["kmeans", "random_from_data"])
def test_a_device_finds_what_numpy_finds(kind, init_params, device):
    X = clusters()
    # Longer steps amplify rounding, and tell when a fit ends: ten steps are compared,
    # to a thousand times what one pass is (above).
    same = {"covariance_type": kind, "init_params": init_params}
    same |= {"tol": 0, "max_iter": 10}
    here, there = fitted(X, **same), fitted(X, **same, device=device)
    assert_same_fit(here, there, 1e-7)
    assert_allclose(here.score_samples(X), there.score_samples(X), rtol=1e-7)
    assert_allclose(here.transform(X), there.transform(X), atol=1e-7)
    assert_array_equal(here.predict(X), there.predict(X))


@every_type
def test_a_device_in_float32_finds_nearly_what_numpy_finds(kind, device):
    X = clusters(np.float32)
    same = {"covariance_type": kind, "tol": 0, "max_iter": 10}
    here, there = fitted(X, **same), fitted(X, **same, device=device)
    # Rounding may end one of them an iteration earlier.
    assert_same_end(here, there, 1e-5)
    # Scores of the same parameters; rows in the tails are many squares of rounded
    # deviations away.
    expected = here.score_samples(X)
    here.device = device
    assert here.score_samples(X).dtype == expected.dtype
    assert_allclose(here.score_samples(X), expected, 3e-4, 1e-3)


@every_type
def test_rounding_of_float32_ends_a_fit_without_a_warning(kind, device):
    X = clusters(np.float32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*did not converge.*")
        there = EMGaussianMixture(
            3, covariance_type=kind, tol=0, max_iter=300, device=device, random_state=0
        ).fit(X)
    assert there.converged_
    assert (np.diff(there.lower_bounds_) >= 0).all()


def test_weights_and_starts_of_the_user_reach_the_device(device, rng):
    X, weights = clusters(), rng.uniform(0.0, 2.0, 3200)
    start = fitted(X[::7])
    same = {
        "weights_init": start.weights_,
        "means_init": start.means_,
        "precisions_init": start.precisions_,
        "max_iter": 7,
    }
    fits = []
    for name in ("cpu", device):
        model = EMGaussianMixture(4, device=name, **same)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            fits.append(model.fit(X, sample_weight=weights))
    assert_same_fit(*fits, 1e-9)


def test_a_narrow_cluster_far_away_is_found(device, rng):
    # Means that move by thousands of deviations take another pass about the new ones.
    X = np.vstack([rng.normal(0, 1e-8, (500, 2)), rng.normal(1, 1e-8, (500, 2))])
    same = {"covariance_type": "diag", "reg_covar": 0.0, "random_state": 0}
    here = EMGaussianMixture(2, **same).fit(X)
    there = EMGaussianMixture(2, **same, device=device).fit(X)
    assert_allclose(here.covariances_, there.covariances_, rtol=1e-9, atol=1e-25)
    assert_allclose(here.lower_bound_, there.lower_bound_, rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_blocks_of_a_mapped_file_go_to_the_device(dtype, device, tmp_path):
    X = clusters(dtype)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    with config_context(working_memory=0):
        here, there = fitted(mapped), fitted(mapped, device=device)
    assert_same_fit(here, there, 1e-9 if dtype == np.float64 else 1e-5)


# -- answers ---------------------------------------------------------------------------


@every_type
def test_rows_far_away_get_their_answers(kind, device):
    X = 1e-6 * clusters()
    here, there = fitted(X, covariance_type=kind), fitted(X, covariance_type=kind)
    there.device = device
    queries = np.vstack([X[:100], 1e6 * X[:5], 1e100 * X[:5], 1e154 * X[:5]])
    assert_allclose(there.score_samples(queries), here.score_samples(queries), 1e-9)
    assert_allclose(there.transform(queries), here.transform(queries), atol=1e-9)
    assert_array_equal(there.predict(queries), here.predict(queries))
    alone = [there.score_samples(row[None])[0] for row in queries[::9]]
    assert_allclose(alone, there.score_samples(queries)[::9], rtol=1e-11)


def test_answers_come_in_chunks(device, monkeypatch):
    X = clusters()
    model = fitted(X)
    expected = model.score_samples(X)
    monkeypatch.setattr(_device_sums, "_CHUNK_BYTES", 2**10)
    model.device = device
    assert_allclose(model.score_samples(X), expected, rtol=1e-11)


def test_a_device_that_is_missing_leaves_the_work_to_the_cpu(monkeypatch):
    X = clusters()
    model = fitted(X)
    expected = model.score_samples(X)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("cuda:7", "mps"):
        model.device = name
        assert_array_equal(model.score_samples(X), expected)


# -- devices ---------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["gpu", None, "cuda:99"])
def test_a_bad_device_is_named(device):
    message = r"The 'device' parameter of EMGaussianMixture must be .* Got .* instead\."
    with pytest.raises(ValueError, match=message):
        EMGaussianMixture(device=device).fit(rows(9, 2))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_auto_is_the_cpu_where_there_is_nothing_faster():
    if torch.backends.mps.is_available():
        pytest.skip("there is a GPU")
    X = clusters()
    here, there = fitted(X), fitted(X, device="auto")
    assert_array_equal(here.means_, there.means_)
    assert_array_equal(here.score_samples(X), there.score_samples(X))


@pytest.mark.process
def test_the_cpu_does_not_load_pytorch():
    code = """
import sys
from skgen import EMGaussianMixture
EMGaussianMixture().fit([[0.0], [1.0], [3.0]]).score([[1.0]])
assert "torch" not in sys.modules
"""
    run([sys.executable, "-c", code], check=True)


def test_tf32_is_put_back():
    settings = torch.backends.cuda.matmul
    before = settings.fp32_precision
    try:
        settings.fp32_precision = "tf32"
        with without_tf32():
            assert settings.fp32_precision == "ieee"
            with without_tf32():
                assert settings.fp32_precision == "ieee"
            assert settings.fp32_precision == "ieee"
        assert settings.fp32_precision == "tf32"
    finally:
        settings.fp32_precision = before


# -- with a GPU ------------------------------------------------------------------------


@on_a_gpu
@every_type
@pytest.mark.parametrize("width", [1.0, 0.1, 1e-3])
@pytest.mark.parametrize("single", [False, True])
def test_sums_of_a_gpu_are_those_of_numpy(kind, width, single, rng):
    place = Place(torch.device("cuda"), single=single)
    parameters = mixture(kind, rng, width)
    X, weights = weighted_rows(parameters, width, rng, single=True)
    both = passes(X, weights, parameters, kind, place)
    rtol = 5e-5 if single else 1e-8
    assert_same_pass(*both, parameters, kind, width, rtol)


@on_a_gpu
@every_type
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-9), (np.float32, 1e-5)])
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "auto"])
def test_a_gpu_finds_what_a_cpu_finds(kind, dtype, rtol, device):
    X = clusters(dtype)
    same = {"covariance_type": kind, "tol": 1e-5}
    here, there = fitted(X, **same), fitted(X, **same, device=device)
    assert_same_fit(here, there, rtol)
    atol = 1e-9 if dtype == np.float64 else 2e-3
    assert_allclose(here.score_samples(X), there.score_samples(X), rtol=rtol, atol=atol)
    assert_allclose(here.transform(X), there.transform(X), atol=atol)


@on_a_gpu
@every_type
@pytest.mark.parametrize("width", [1.0, 1e-3])
def test_a_pass_waits_for_nothing(kind, width, rng):
    place = Place(torch.device("cuda"), single=True)
    parameters = mixture(kind, rng, width)
    X, weights = weighted_rows(parameters, width, rng)
    kept = DeviceRows(lambda part: X[part], weights, place)
    rest = family_of(kind), LEAST_LOSS
    expectation = DeviceExpectation(parameters, *rest, place=place)
    joint = _device_sums.DeviceJoint(expectation.joint, place)
    moments = _device_sums.DeviceMoments(expectation.moments, place)
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        expectation._added(kept, joint, moments)
    finally:
        torch.cuda.set_sync_debug_mode(before)


@on_a_gpu
def test_rows_that_do_not_fit_on_a_gpu_are_sent_in_every_pass(rng, monkeypatch):
    place = Place(torch.device("cuda"), single=False)
    parameters = mixture("full", rng, 1.0)
    X, weights = weighted_rows(parameters, 1.0, rng)
    monkeypatch.setattr(_device_rows, "_RESIDENT", 0.0)
    both = passes(X, weights, parameters, "full", place)
    assert_same_pass(*both, parameters, "full", 1.0, 1e-11)


@on_a_gpu
def test_tf32_takes_no_digits(rng):
    settings = torch.backends.cuda.matmul
    before = settings.fp32_precision
    try:
        settings.fp32_precision = "tf32"
        place = Place(torch.device("cuda"), single=True)
        parameters = mixture("full", rng, 1.0)
        X, weights = weighted_rows(parameters, 1.0, rng, single=True)
        both = passes(X, weights, parameters, "full", place)
        assert_same_pass(*both, parameters, "full", 1.0, 5e-5)
    finally:
        settings.fp32_precision = before


@on_a_gpu
def test_memory_of_a_gpu_is_that_of_the_rows_and_a_chunk(rng):
    n, d = 400_000, 64
    X = rng.standard_normal((n, d)).astype(np.float32)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        EMGaussianMixture(16, max_iter=2, device="cuda", random_state=0).fit(X)
    peak = torch.cuda.max_memory_allocated() - before
    assert peak < 4 * X.nbytes + 4 * _device_sums._CHUNK_BYTES
    assert torch.cuda.memory_allocated() <= before + 2**20


# -- rounding to float32 ---------------------------------------------------------------


@every_type
def test_log_densities_of_narrow_components_keep_their_digits(kind, rng):
    # Rounding moves the means by a hundredth of the width of their components.
    parameters = mixture(kind, rng, 1e-5)
    X, weights = weighted_rows(parameters, 1e-5, rng, single=True)
    (_, found), (_, expected) = passes(X, weights, parameters, kind, SINGLE)
    assert_allclose(found.lowest, expected.lowest, rtol=1e-5)


@every_type
def test_the_likelihood_is_that_of_the_factors_before_rounding(kind, rng):
    covariance = COVARIANCES[kind]
    step = float(np.spacing(np.float32(1024)))
    factor = 1024 + 0.49 * step  # rounded as far as can be
    covariances = covariance.unit(K, D) / factor**2
    means, factors = rng.standard_normal((K, D)), covariance.factors(covariances)
    parameters = Parameters(np.full(K, 1 / K), means, covariances, factors)
    X, weights = weighted_rows(parameters, 1 / 1024, rng, single=True)
    (_, found), (_, expected) = passes(X, weights, parameters, kind, SINGLE)
    error = found.log_likelihood - expected.log_likelihood
    # Rounding changes the squares of D standardised features by 2 * 6e-8 of them.
    assert abs(error) < 0.25 * D * 6e-8 * weights.sum()
