"""EM on a device: fits and answers of PyTorch against NumPy's.

PyTorch on the CPU takes the place of a device, but for the tests marked `gpu`.
"""

import sys
import warnings
from subprocess import run

import numpy as np
import pytest
import torch
from estimators import rows
from mixtures import TYPES, K, assert_close, draws, family_of, mixture, one_iteration
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning

from skgen import EMGaussianMixture
from skgen._torch import without_tf32
from skgen.mixture import _backend, _em
from skgen.mixture._backend import LEAST_LOSS, NUMPY, TorchBackend
from skgen.mixture._pass import Pass

every_type = pytest.mark.parametrize("kind", TYPES)

CPU = torch.device("cpu")


def on_a_gpu(test):
    skip = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
    return pytest.mark.gpu(skip(test))


@pytest.fixture
def device(monkeypatch):
    """Let PyTorch on the CPU take the place of a GPU; return the name of a GPU."""
    monkeypatch.setattr(_em, "check_device", lambda model: None)
    monkeypatch.setattr(_backend, "device_of", lambda name: CPU)
    return "cuda"


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
    monkeypatch.setattr(_backend, "_CHUNK_BYTES", 2**10)
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


def assert_same_pass(backend, kind, width, rng, tolerance):
    """Assert that a pass of a backend is the same as NumPy's."""
    parameters = mixture(kind, rng, (width,) * K)
    X, weights = draws(parameters, kind, 1000, rng, backend)
    rest = X, weights, parameters, kind, LEAST_LOSS
    found, after = one_iteration(*rest, backend)
    here, expected = one_iteration(*rest, NUMPY)
    assert_allclose(found.log_likelihood, here.log_likelihood, rtol=tolerance)
    assert_array_equal(found.lowest_row, here.lowest_row)
    assert_close(after, expected, (width,) * K, tolerance)


@on_a_gpu
@every_type
@pytest.mark.parametrize("width", [1.0, 0.1, 1e-3])
@pytest.mark.parametrize("single", [False, True])
def test_sums_of_a_gpu_are_those_of_numpy(kind, width, single, rng):
    backend = TorchBackend(torch.device("cuda"), single=single)
    assert_same_pass(backend, kind, width, rng, 6e-5 if single else 1e-8)


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
def test_a_pass_waits_for_nothing(kind, width, rng, monkeypatch):
    backend = TorchBackend(torch.device("cuda"), single=True)
    parameters = mixture(kind, rng, (width,) * K)
    X, weights = draws(parameters, kind, 1000, rng, backend)
    kept = backend.hold(lambda part: X[part], weights)
    pass_ = Pass(parameters, family_of(kind), backend, LEAST_LOSS)
    fetch, before = TorchBackend.fetch, torch.cuda.get_sync_debug_mode()

    def fetched(self, arrays):  # the one synchronisation, after all chunks
        torch.cuda.set_sync_debug_mode(before)
        return fetch(self, arrays)

    def chunks(size, original=kept._chunks):
        for chunk in original(size):
            torch.cuda.set_sync_debug_mode("error")
            yield chunk

    monkeypatch.setattr(TorchBackend, "fetch", fetched)
    monkeypatch.setattr(kept, "_chunks", chunks)
    try:
        pass_.sums_of(kept)
    finally:
        torch.cuda.set_sync_debug_mode(before)


@on_a_gpu
def test_rows_that_do_not_fit_on_a_gpu_are_sent_in_every_pass(rng, monkeypatch):
    monkeypatch.setattr(_backend, "_RESIDENT", 0.0)
    backend = TorchBackend(torch.device("cuda"), single=False)
    assert_same_pass(backend, "full", 1.0, rng, 1e-11)


@on_a_gpu
def test_tf32_takes_no_digits(rng):
    settings = torch.backends.cuda.matmul
    before = settings.fp32_precision
    try:
        settings.fp32_precision = "tf32"
        backend = TorchBackend(torch.device("cuda"), single=True)
        assert_same_pass(backend, "full", 1.0, rng, 6e-5)
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
    assert peak < 4 * X.nbytes + 4 * _backend._CHUNK_BYTES
    assert torch.cuda.memory_allocated() <= before + 2**20
