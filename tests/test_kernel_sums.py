"""Every way to sum kernels keeps its promise, against sums in extended precision."""

import logging
import pickle
import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from estimators import rows, thorough
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp
from sklearn import config_context

from skgen import GaussianKDE
from skgen._threads import lock_across_forks
from skgen.kde import _fourier, _gaussian_kde, _kernel_sum
from skgen.kde._bandwidth import scott_factor
from skgen.kde._fourier import REACH, FourierSum, Grid, absolute_error
from skgen.kde._kernel_sum import DeviceSum, KernelSum, boxes_around, neighbours

EPS = np.finfo(np.float64).eps


def naive(X, points, bandwidth, weights):
    """Return log p(x), the log of its sum and normaliser, and the mean of the points.

    Of all pairs, in extended precision where the machine has it.
    """
    X, points, weights, h = (
        np.asarray(a, dtype=np.longdouble) for a in (X, points, weights, bandwidth)
    )
    h = np.broadcast_to(h, points.shape[1])
    a = np.log(weights / weights.sum()) - sum(
        ((X[:, None, j] - points[None, :, j]) / h[j]) ** 2 / 2 for j in range(h.size)
    )  # (m, n)
    top = a.max(axis=1)
    shares = np.exp(a - top[:, None])
    log_sum = top + np.log(shares.sum(axis=1))
    log_norm = -np.log(h * np.sqrt(8 * np.arctan(np.longdouble(1)))).sum()
    mean = shares @ points / shares.sum(axis=1)[:, None]
    return log_sum + log_norm, log_sum, log_norm, mean


def assert_promise(kde, problem):
    """Assert what the docstring of GaussianKDE says of its error."""
    expected, log_sum, log_norm, _ = naive(
        problem.queries, problem.X, kde.bandwidth_, problem.weights
    )
    error = np.abs(kde.score_samples(problem.queries) - expected)
    parts = [np.abs(expected), np.abs(log_sum), np.full(error.size, abs(log_norm))]
    largest = np.maximum(1.0, np.max(parts, axis=0))
    assert (error <= kde.rtol + 8 * EPS * largest).all(), error.max()


@dataclass(frozen=True)
class Problem:
    """Rows in clusters of unlike widths, copies, weights, and queries far out."""

    d: int
    n: int
    n_clusters: int
    spread: int
    copies: bool
    weighted: bool
    log_factor: float
    seed: int

    def __post_init__(self):
        d, n, rng = self.d, self.n, np.random.RandomState(self.seed)
        widths = 10.0 ** rng.uniform(-4, 1, size=self.n_clusters)
        cluster = rng.randint(self.n_clusters, size=n)
        centres = self.spread * rng.standard_normal((self.n_clusters, d))
        X = centres[cluster] + widths[cluster, None] * rng.standard_normal((n, d))
        if self.copies:
            X[: n // 2] = X[rng.randint(n // 2, n, size=n // 2)]
        weights = 10.0 ** rng.uniform(-6, 3, size=n) if self.weighted else np.ones(n)
        h = 10.0**self.log_factor * scott_factor(n, d) * max(X.std(), 1e-4)
        far = rng.standard_normal((40, d)) * h * 10.0 ** rng.uniform(-1, 4, (40, 1))
        queries = np.vstack([X[:60], X[rng.randint(n, size=40)] + far])
        for name, value in {
            **{"X": X, "weights": weights, "bandwidth": h, "queries": queries}
        }.items():
            object.__setattr__(self, name, value)

    def fitted(self, **parameters):
        kde = GaussianKDE(self.bandwidth, **parameters)
        return kde.fit(self.X, sample_weight=self.weights)


def problems(dimensions, most_rows=400):
    return st.builds(
        Problem,
        d=st.sampled_from(dimensions),
        n=st.integers(1, most_rows),
        n_clusters=st.integers(1, 3),
        spread=st.sampled_from([0, 1, 30]),
        copies=st.booleans(),
        weighted=st.booleans(),
        log_factor=st.floats(-3, 3),
        seed=st.integers(0, 2**20),
    )


def transformed(problem, rtol):
    """Return the fit by a transform; None where that takes too large a grid."""
    try:
        with config_context(working_memory=64):
            return problem.fitted(algorithm="fourier", rtol=rtol)
    except ValueError as refused:
        if "needs a grid that fits" in str(refused) and problem.log_factor < 0:
            return None
        raise


# -- the promise ---------------------------------------------------------------------


@given(problems([1, 2, 3, 5, 16, 60, 200]), st.sampled_from([0.0, 1e-13, 1e-9, 1e-6]))
def test_exact_sums_keep_the_promise(problem, rtol):
    assert_promise(problem.fitted(algorithm="exact", rtol=rtol), problem)


@given(problems([1, 2, 3]), st.sampled_from([1e-9, 1e-6, 1e-3]))
def test_transforms_keep_the_promise(problem, rtol):
    kde = transformed(problem, rtol)
    if kde is not None:
        assert kde.algorithm_ == "fourier"
        assert_promise(kde, problem)


@pytest.mark.parametrize("d", [1, 2, thorough(3)])
@pytest.mark.parametrize("heavy", [False, True])
def test_many_rows_are_transformed_and_keep_the_promise(d, heavy):
    rng = np.random.RandomState(d)
    X = rng.standard_normal((20_000, d))
    if heavy:
        X[::10] = rng.standard_t(3, size=X[::10].shape)
    algorithm = "fourier" if heavy and d == 3 else "auto"
    kde = GaussianKDE(20_000 ** (-1 / (d + 4)), algorithm=algorithm).fit(X)
    assert kde.algorithm_ == "fourier"
    scores = kde.score_samples(X)
    some = np.r_[np.argsort(scores)[:150], rng.randint(20_000, size=50)]
    expected, *_ = naive(X[some], X, kde.bandwidth_, np.ones(20_000))
    assert_allclose(scores[some], expected.astype(float), rtol=0, atol=1e-6)


@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical"])
def test_rules_are_transformed_in_whitened_coordinates(covariance_type):
    X, queries = rows(10_000, 2), rows(500, 2, seed=1) * 1.5
    fast = GaussianKDE(covariance_type=covariance_type).fit(X)
    exact = GaussianKDE(covariance_type=covariance_type, algorithm="exact").fit(X)
    assert fast.algorithm_ == "fourier"
    expected = exact.score_samples(queries)
    assert_allclose(fast.score_samples(queries), expected, rtol=0, atol=1e-6)
    assert_allclose(
        fast.transform(queries), exact.transform(queries), rtol=0, atol=1e-5
    )


@given(problems([1, 2, 3]))
def test_means_of_transforms_are_those_of_all_pairs(problem):
    kde = transformed(problem, 1e-6)
    if kde is None:
        return
    *_, mean = naive(problem.queries, problem.X, problem.bandwidth, problem.weights)
    error = np.abs(kde.transform(problem.queries) - mean).max()
    assert error <= problem.bandwidth * 3e-5 + 1e-11 * np.abs(mean).max()


# -- a row depends on that row alone ---------------------------------------------------


@pytest.mark.parametrize(
    "parameters",
    [
        *({"algorithm": "exact"}, {"algorithm": "exact", "rtol": 0}),
        *({"algorithm": "fourier"}, {"algorithm": "fourier", "bounds": (-4, None)}),
    ],
)
@pytest.mark.parametrize("bandwidth", [0.03, 0.3, 5.0])
def test_an_answer_depends_on_its_row_alone(parameters, bandwidth, rng):
    X = np.clip(rows(3000, 2), -4, None)
    X[:100] *= 10.0
    X = np.abs(X) - 4
    kde = GaussianKDE(bandwidth, **parameters).fit(X)
    queries = np.vstack([X[:300], X[:100] + 10.0])
    together = kde.score_samples(queries)
    order = rng.permutation(400)
    assert_allclose(kde.score_samples(queries[order]), together[order], rtol=1e-12)
    alone = [kde.score_samples(queries[[i]])[0] for i in range(0, 400, 29)]
    assert_allclose(alone, together[::29], rtol=1e-12, atol=1e-12)
    means = np.vstack([kde.transform(queries[[i]]) for i in range(0, 400, 29)])
    assert_allclose(means, kde.transform(queries)[::29], rtol=1e-9, atol=1e-9)


# -- exact sums, by cells --------------------------------------------------------------


@pytest.mark.parametrize("memory", [1, 2**17, 2**30])
@pytest.mark.parametrize("n_points", [1, 1023, 1024, 1025, 3000])
@pytest.mark.parametrize(
    "h", [np.ones(2), np.array([0.01, 3.0])], ids=["equal", "unlike"]
)
def test_cells_of_any_size_give_the_sums_of_all_pairs(
    memory, n_points, h, rng, monkeypatch
):
    monkeypatch.setattr(_kernel_sum, "working_memory", lambda: memory)
    points, queries = rows(n_points, 2), rows(150, 2, seed=1)
    weights = rng.uniform(0.1, 2, n_points)
    diff = (queries[:, None] - points[None]) / h
    a = np.log(weights) - 0.5 * (diff**2).sum(axis=2)  # (m, n)
    expected = logsumexp(a, axis=1)
    log_sum, mean = KernelSum(points, np.log(weights), h)(queries, with_mean=True)
    assert_allclose(log_sum, expected, rtol=1e-12, atol=1e-12)
    expected_mean = np.exp(a - expected[:, None]) @ points
    assert_allclose(mean, expected_mean, rtol=1e-11, atol=1e-11)


def test_far_cells_are_left_out_and_near_ones_are_not(monkeypatch):
    points = np.linspace(0, 1e4, 20_000)[:, None]
    kernel_sum = KernelSum(points, np.full(20_000, -np.log(20_000)), np.ones(1))
    visited = []
    pairs = kernel_sum._pairs
    monkeypatch.setattr(
        kernel_sum, "_pairs", lambda q, c: visited.append(c) or pairs(q, c)
    )
    query = np.array([[5000.0]])
    log_sum, _ = kernel_sum(query)
    assert 1 <= len(visited) <= 2 < len(kernel_sum.cells.slices)
    expected = logsumexp(-0.5 * (points[:, 0] - 5000) ** 2) - np.log(20_000)
    assert_allclose(log_sum, expected, rtol=1e-14)


def test_a_heavy_cell_far_away_is_not_left_out():
    # Two nats beat the distance: light rows near, one that weighs e^50 as much far.
    points = np.r_[np.zeros(1024), np.full(1024, 11.0)][:, None]
    log_weights = np.r_[np.full(1024, -100.0), np.full(1024, -38.0)]
    kernel_sum = KernelSum(points, log_weights, np.ones(1))
    log_sum, mean = kernel_sum(np.zeros((1, 1)), with_mean=True)
    expected = logsumexp(log_weights - 0.5 * points[:, 0] ** 2)
    assert_allclose(log_sum, expected, rtol=1e-14)
    shares = np.exp(log_weights - 0.5 * points[:, 0] ** 2 - expected)
    assert_allclose(mean[0], shares @ points, rtol=1e-12)


def test_sums_below_the_floor_may_be_left_out():
    points = rows(3000, 2)
    kernel_sum = KernelSum(points, np.full(3000, -np.log(3000)), np.ones(2))
    queries = np.vstack([points[:50], points[:50] + 100.0])
    right, mean = kernel_sum(queries, with_mean=True)
    floor = np.full(100, -60.0)
    log_sum, of_floor = kernel_sum(queries, with_mean=True, floor=floor)
    assert_allclose(log_sum[:50], right[:50], rtol=1e-14)
    assert_allclose(of_floor[:50], mean[:50], rtol=1e-12)
    assert (log_sum[50:] == -np.inf).all()
    assert np.isfinite(of_floor).all()


@pytest.mark.parametrize("n", [0, 1, 7, 1000])
@pytest.mark.parametrize("d", [1, 3])
def test_groups_hold_every_row_once(n, d):
    X = rows(n, d) if n else np.empty((0, d))
    groups = neighbours(X, 64)
    assert sorted(np.concatenate([[], *groups]).astype(int)) == list(range(n))
    assert all(group.size <= 64 for group in groups)
    assert len(groups) == -(-n // 64)


def test_distances_to_boxes():
    X = rows(200, 3)
    around = boxes_around(X, np.split(np.arange(200), 20))
    lower, upper = np.array([3.0, 0.0, -1.0]), np.array([4.0, 0.1, 5.0])
    nearest = np.clip(X, lower, upper)
    squares = ((X - nearest) ** 2).sum(axis=1).reshape(20, 10).min(axis=1)
    assert (around.squared_distances(lower, upper) <= squares + 1e-12).all()
    each = boxes_around(X, np.arange(200)[:, None])
    points = each.squared_distances(lower, upper)
    assert_allclose(points, ((X - nearest) ** 2).sum(axis=1), atol=1e-15)
    each = around.squared_distances_of_rows(X[:5])
    for row, squares in zip(X[:5], each, strict=True):
        assert_allclose(squares, around.squared_distances(row, row), rtol=1e-15)


# -- on a device -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("error", [1e-3, 1e-7])
@pytest.mark.parametrize("d", [2, 16])
def test_sums_on_a_device_are_those_of_numpy(dtype, error, d, monkeypatch, rng):
    # The arithmetic of a GPU, on the CPU.
    monkeypatch.setattr(DeviceSum, "_usable_device", lambda self: torch.device("cpu"))
    monkeypatch.setattr(_kernel_sum, "_DEVICE_POINTS", 700)
    monkeypatch.setattr(_kernel_sum, "_DEVICE_QUERIES", 100)
    points = rows(2000, d).astype(dtype)
    queries = np.vstack([rows(300, d, seed=1), rows(5, d, seed=2) * 1e6])
    log_weights = np.log(rng.dirichlet(np.ones(2000)))
    for scale in (np.ones(d), rng.uniform(0.5, 2, d)):
        exact = KernelSum(points, log_weights, scale)
        on_device = DeviceSum(exact, "cuda", error)
        log_sum, mean = exact(queries, with_mean=True)
        of_device, mean_of_device = on_device(queries, with_mean=True)
        assert_allclose(of_device, log_sum, rtol=1e-12, atol=8 * error)
        assert_allclose(mean_of_device, mean, rtol=1e-9, atol=300 * error)
        single = dtype == np.float32 and error == 1e-3
        assert (np.abs(of_device[:300] - log_sum[:300]).max() > 1e-9) == single


def test_a_device_that_is_missing_leaves_the_work_to_the_cpu(monkeypatch):
    X = rows(100, 2)
    monkeypatch.setattr(_gaussian_kde, "check_device", lambda model: None)
    kde = GaussianKDE(0.5, device="cuda:7").fit(X)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    expected = GaussianKDE(0.5).fit(X).score_samples(X)
    assert_array_equal(kde.score_samples(X), expected)
    assert_array_equal(
        GaussianKDE(0.5, device="auto").fit(X).score_samples(X), expected
    )


@pytest.mark.parametrize("device", ["gpu", None, "cuda:99"])
def test_a_bad_device_is_named(device):
    message = r"The 'device' parameter of GaussianKDE must be .* Got .* instead\."
    with pytest.raises(ValueError, match=message):
        GaussianKDE(device=device).fit(rows(9, 2))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-3), (np.float64, 1e-6)])
def test_a_gpu_scores_as_a_cpu_does(dtype, rtol):
    X, queries = rows(30_000, 16).astype(dtype), rows(5_000, 16, seed=1).astype(dtype)
    cpu = GaussianKDE(rtol=rtol).fit(X)
    gpu = GaussianKDE(rtol=rtol, device="cuda").fit(X)
    scores = cpu.score_samples(queries)
    assert_allclose(gpu.score_samples(queries), scores, rtol=1e-6, atol=rtol)
    means = cpu.transform(queries)
    assert_allclose(gpu.transform(queries), means, atol=100 * rtol)


# -- the transform ---------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 2, thorough(3)])
def test_error_of_one_kernel(d, rng):
    # The sum of weights is one: no sum of kernels can have a larger error.
    worst = 0.0
    for _ in range(12):
        lower = rng.uniform(-50, 50, d)
        upper = lower + rng.uniform(0.1, 20, d)
        point = rng.uniform(lower - REACH, upper + REACH, (1, d))
        grid = Grid(lower, upper, np.full(d, REACH))
        queries = rng.uniform(lower, upper, (4000, d))
        near = point + rng.standard_normal((2000, d))
        queries[:2000] = np.clip(near, lower, upper)
        difference = queries - point
        kernel = np.exp(-0.5 * (difference**2).sum(axis=1))
        fourier = FourierSum(point, np.ones(1), grid)
        worst = max(worst, np.abs(fourier(queries) - kernel).max())
        slopes = -difference * kernel[:, None]
        assert_allclose(fourier.gradient(queries), slopes, rtol=0, atol=1e-12)
    assert worst < absolute_error(d) / 2


@pytest.mark.parametrize("d", [1, 2, 3])
def test_rows_do_not_reach_around_the_grid(d):
    # Queries and rows at opposite ends, rows inside, on and beyond the border.
    lower, upper = np.zeros(d), np.full(d, 5.0)
    for outside in (-2.0, 0.0, 3.0, REACH):
        grid = Grid(lower, upper, np.full(d, outside))
        fourier = FourierSum(upper[None] + outside, np.ones(1), grid)
        expected = np.exp(-0.5 * d * (5.0 + outside) ** 2)
        assert_allclose(fourier(lower[None])[0], expected, rtol=0, atol=1e-13)


def test_a_few_rows_far_out_do_not_size_the_grid():
    X = rows(20_000, 2)
    without = GaussianKDE(0.1).fit(X)
    X[0], X[1] = 1e9, [-1e6, 3.0]
    kde = GaussianKDE(0.1).fit(X)
    assert kde.algorithm_ == "fourier"
    assert kde._sum.fourier.grid.n_nodes < 4 * without._sum.fourier.grid.n_nodes
    queries = np.vstack([X[:200], X[:2] + 0.05, [[1e6, 1e6]]])
    exact = GaussianKDE(0.1, algorithm="exact").fit(X).score_samples(queries)
    assert_allclose(kde.score_samples(queries), exact, rtol=1e-12, atol=1e-6)


@pytest.mark.parametrize("bounds", [(0, None), thorough((0, 3)), [(0, 3), None]])
def test_bounded_kernels_are_transformed_too(bounds):
    X = np.random.RandomState(0).uniform(0, 3, size=(10_000, 2))
    queries = np.vstack([X[:50], [[0.0, 0.0], [3.0, 3.0], [1e-9, 3.0], [0.0, 2.0]]])
    for bandwidth in (0.05, 2.0):
        fast = GaussianKDE(bandwidth, bounds=bounds).fit(X)
        exact = GaussianKDE(bandwidth, bounds=bounds, algorithm="exact").fit(X)
        assert (fast.algorithm_, exact.algorithm_) == ("fourier", "exact")
        expected = exact.score_samples(queries)
        assert_allclose(fast.score_samples(queries), expected, rtol=0, atol=1e-6)
        means = exact.transform(queries)
        assert_allclose(fast.transform(queries), means, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fits_are_pickled_with_their_grid(dtype):
    X = rows(10_000, 1).astype(dtype)
    kde = GaussianKDE().fit(X)
    again = pickle.loads(pickle.dumps(kde))
    assert again.algorithm_ == "fourier"
    assert_array_equal(again.score_samples(X), kde.score_samples(X))
    assert kde.score_samples(X).dtype == dtype


# -- the choice ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "d", "bandwidth", "rtol"),
    [
        (2000, 2, 0.2, 1e-6),  # few rows
        (9000, 4, 0.5, 1e-6),  # many features
        (9000, 2, 0.2, 0.0),
        (9000, 2, 0.2, 1e-13),
        (9000, 3, 1e-3, 1e-6),  # no grid fits the memory
        (9000, 1, 1e-9, 1e-6),
    ],
)
def test_auto_takes_exact_sums_where_a_transform_does_not_pay(n, d, bandwidth, rtol):
    kde = GaussianKDE(bandwidth, rtol=rtol).fit(rows(n, d))
    assert kde.algorithm_ == "exact"


def test_the_grid_fits_the_working_memory():
    X = rows(30_000, 2)
    assert GaussianKDE(0.1).fit(X).algorithm_ == "fourier"
    with config_context(working_memory=1):
        assert GaussianKDE(0.1).fit(X).algorithm_ == "exact"
        with pytest.raises(ValueError, match="'working_memory'"):
            GaussianKDE(0.1, algorithm="fourier").fit(X)


@pytest.mark.parametrize(
    ("d", "parameters", "reason"),
    [
        (4, {}, "takes at most 3 features, not 4"),
        (2, {"rtol": 0.0}, "has errors of up to 6e-13, more than rtol=0"),
        (1, {"rtol": 1e-14}, "has errors of up to 3e-13, more than rtol=1e-14"),
        (3, {"bandwidth": 1e-4}, "needs a grid that fits scikit-learn's 'working_mem"),
        (1, {"bandwidth": 3e-6, "rtol": 1e-10}, "rounds coordinates"),
    ],
)
def test_a_forced_transform_that_cannot_keep_the_tolerance_says_why(
    d, parameters, reason
):
    kde = GaussianKDE(**{"bandwidth": 0.5, "algorithm": "fourier", **parameters})
    message = (
        "The 'algorithm' parameter of GaussianKDE must be 'auto' or 'exact' here: the "
        f"transform {reason}.* Got 'fourier' instead."
    )
    with pytest.raises(ValueError, match=message):
        kde.fit(rows(500, d))


def test_without_finufft_exact_sums_serve_and_the_log_says_what_would_help(
    monkeypatch, caplog
):
    monkeypatch.setattr(_fourier, "is_installed", lambda package: False)
    caplog.set_level(logging.INFO, logger="skgen")
    X = rows(10_000, 1)
    kde = GaussianKDE().fit(X)
    assert kde.algorithm_ == "exact"
    assert 'pip install "scikit-generative[fourier]"' in caplog.text
    with pytest.raises(ValueError, match=r"needs finufft .*scikit-generative\[fouri"):
        GaussianKDE(algorithm="fourier").fit(X)
    caplog.clear()
    GaussianKDE().fit(X[:1000])
    assert not caplog.text


@pytest.mark.parametrize("rtol", [-1e-9, np.nan, np.inf, "small", None, True])
def test_a_bad_tolerance_is_named(rtol):
    message = r"The 'rtol' parameter of GaussianKDE must be .* Got .* instead\."
    with pytest.raises(ValueError, match=message):
        GaussianKDE(rtol=rtol).fit(rows(9, 1))


@pytest.mark.parametrize("d", [1, 2, 3])
def test_transforms_use_no_pool_that_a_fork_shuts_down(d, monkeypatch):
    # A fork in any thread, while another thread transforms, had made it fail.
    monkeypatch.setattr(_fourier, "most_threads", lambda: 4)
    workers = []
    for name in ("rfftn", "irfftn"):
        function = getattr(_fourier.fft, name)

        def spy(*arguments, function=function, **options):
            workers.append(options.get("workers"))
            return function(*arguments, **options)

        monkeypatch.setattr(_fourier.fft, name, spy)
    kde = GaussianKDE(0.5, algorithm="fourier").fit(rows(50, d))
    kde.transform(rows(5, d))
    assert workers == [1] * (3 + d)


def test_the_library_of_transforms_runs_under_a_lock_across_forks(monkeypatch):
    # It has a lock of its own, which a child of another thread never gets.
    finufft = pytest.importorskip("finufft")
    lock, depths = _fourier._FINUFFT, []
    assert type(lock) is type(lock_across_forks())

    class Held:
        depth = 0

        def __enter__(self):
            Held.depth += 1

        def __exit__(self, *error):
            Held.depth -= 1

    def watched(method):
        def call(*arguments, **options):
            depths.append(Held.depth)
            return method(*arguments, **options)

        return call

    monkeypatch.setattr(_fourier, "_FINUFFT", Held())
    for name in ("__init__", "setpts", "execute"):
        monkeypatch.setattr(finufft.Plan, name, watched(getattr(finufft.Plan, name)))
    kde = GaussianKDE(0.5, algorithm="fourier").fit(rows(50, 2))
    kde.score_samples(rows(5, 2))
    assert len(depths) >= 6
    assert set(depths) == {1}
    assert Held.depth == 0


@pytest.mark.parametrize("algorithm", ["fft", None, 1])
def test_a_bad_algorithm_is_named(algorithm):
    message = "The 'algorithm' parameter of GaussianKDE must be one of 'auto', 'exact'"
    with pytest.raises(ValueError, match=message):
        GaussianKDE(algorithm=algorithm).fit(rows(9, 1))


def test_the_threshold_of_the_transform_is_where_its_error_is_the_tolerance():
    # Of one kernel, at the distances where the transform is left for exact sums.
    for rtol, nearest in ((1e-6, 5.0), (1e-9, 3.5)):
        for offset in np.linspace(0.0, 0.35, 40):
            kde = GaussianKDE(1.0, algorithm="fourier", rtol=rtol)
            kde.fit([[offset], [offset + 1e-9]])
            queries = np.linspace(nearest, 7.0, 500)[:, None]
            expected, *_ = naive(queries, kde.X_train_, 1.0, np.ones(2))
            assert np.abs(kde.score_samples(queries) - expected).max() < rtol
            # What errors could be, and not only what they are here.
            assert kde._sum.least * rtol >= absolute_error(1)


@pytest.mark.parametrize("far", [1e12, 1e15, 1e20, 1e38])
@pytest.mark.parametrize("algorithm", ["auto", "exact"])
def test_an_outlier_costs_other_rows_no_digits(far, algorithm):
    X = rows(10_000, 1)
    with_outlier = X.copy()
    with_outlier[0] = far
    kde = GaussianKDE(0.5, algorithm=algorithm).fit(with_outlier)
    without = GaussianKDE(0.5, algorithm="exact", rtol=0).fit(X[1:])
    shift = np.log(9999 / 10_000)
    queries = X[1:200]
    expected = without.score_samples(queries) + shift
    assert_allclose(kde.score_samples(queries), expected, rtol=0, atol=1e-6)
    means = without.transform(queries)
    assert_allclose(kde.transform(queries), means, rtol=0, atol=1e-5)
    assert_allclose(kde.transform([[far]]), [[far]])


def test_a_bandwidth_far_below_all_distances_needs_no_grid():
    X = rows(9000, 2)
    for bandwidth in (1e-18, [1e-20, 1.0], [1e-150, 1e150]):
        assert GaussianKDE(bandwidth).fit(X).algorithm_ == "exact"


def test_large_grids_of_one_feature_take_the_memory_that_they_say():
    X = np.random.RandomState(0).uniform(size=(50_000, 1))
    kde = GaussianKDE(1e-5, algorithm="fourier")
    tracemalloc.start()
    kde.fit(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    rows_bytes = 30 * X.nbytes
    assert kde._sum.fourier.grid.n_nodes * _fourier.BYTES_PER_NODE + rows_bytes > peak


def test_constants_agree():
    assert _kernel_sum.PRODUCT_ERROR <= 1e-11
    assert np.exp(-0.5 * REACH**2) < absolute_error(1)
    assert np.exp(-0.5 * (np.pi / _fourier.STEP) ** 2) < absolute_error(1)
