"""Gaussian mixtures on a cluster of processes, some of which are killed."""

import logging
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")
distributed = pytest.importorskip("distributed")
pd = pytest.importorskip("pandas")
psutil = pytest.importorskip("psutil")

from skgen import VAE, EMGaussianMixture  # noqa: E402
from skgen.mixture._iterations import Run  # noqa: E402

pytestmark = pytest.mark.process

# How long to wait for what takes seconds on an idle machine.
PATIENCE = 180

FITTED = ("weights_", "means_", "covariances_", "lower_bounds_", "lower_bound_")


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    settings = {
        "distributed.comm.timeouts.connect": PATIENCE,
        "distributed.admin.large-graph-warning-threshold": "1 GiB",
        "distributed.scheduler.allowed-failures": 10,
    }
    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=":0",
            local_directory=str(tmp_path_factory.mktemp("workers")),
            silence_logs=logging.CRITICAL,
        ) as cluster,
        distributed.Client(cluster, timeout=PATIENCE) as client,
    ):
        yield cluster, client


@pytest.fixture
def client(two):
    two[1].wait_for_workers(2, timeout=PATIENCE)
    return two[1]


def rows(n=20_000, d=4):
    rng = np.random.RandomState(0)
    centres = 1.5 * rng.standard_normal((3, d))
    return rng.standard_normal((n, d)) + centres[rng.randint(0, 3, n)]


def mixture():
    # A poor start, for dozens of iterations.
    return EMGaussianMixture(
        3,
        tol=1e-6,
        max_iter=500,
        weights_init=[0.8, 0.1, 0.1],
        means_init=rows()[:3],
        precisions_init=np.tile(np.eye(4), (3, 1, 1)),
    )


@pytest.fixture(scope="module")
def in_memory():
    model = mixture().fit(rows())
    assert model.n_iter_ > 6
    return model


def check_same(one, other):
    for name in FITTED:
        given, expected = getattr(one, name), getattr(other, name)
        assert_allclose(given, expected, rtol=1e-9, atol=1e-9, err_msg=name)


def workers(client):
    """Return the process of each worker."""
    processes = client.run(lambda: __import__("os").getpid())
    return {name: psutil.Process(pid) for name, pid in processes.items()}


def holding(client):
    """Return how many blocks each worker holds."""
    return {name: len(keys) for name, keys in client.has_what().items()}


def test_fit_and_answers(client, in_memory, monkeypatch):
    brought = []
    gather = distributed.Client.gather

    def measured(self, *arguments, **options):
        answer = gather(self, *arguments, **options)
        brought.append(len(pickle.dumps(answer)))
        return answer

    X = rows()
    lazy = client.persist(da.from_array(X, chunks=(2_500, 4)))
    distributed.wait(lazy)
    assert min(holding(client).values()) > 0  # both have work
    monkeypatch.setattr(distributed.Client, "gather", measured)
    model = mixture().fit(lazy)
    check_same(model, in_memory)
    assert len(brought) > model.n_iter_
    # The sample to start from is in these few rows most of them; then come sums.
    assert sorted(brought)[-2] < 5_000
    brought.clear()
    answers = [model.score_samples(lazy), model.transform(lazy), model.predict(lazy)]
    assert not brought
    expected = [model.score_samples(X), model.transform(X), model.predict(X)]
    for answer, in_one in zip(answers, expected, strict=True):
        assert_allclose(answer.compute(), in_one, rtol=1e-9, atol=1e-12)
    assert model.score(lazy) == pytest.approx(model.score(X), abs=1e-12)


def test_dataframe_with_weights(client):
    X = rows()
    frame, w = pd.DataFrame(X, columns=list("abcd")), pd.Series(1 + X[:, 0] ** 2)
    lazy, lazy_w = (
        dd.from_pandas(frame, npartitions=7),
        dd.from_pandas(w, npartitions=7),
    )
    model = mixture().fit(lazy, sample_weight=lazy_w)
    check_same(model, mixture().fit(frame, sample_weight=w))
    assert_array_equal(model.feature_names_in_, list("abcd"))
    # Weights in memory are cut to the blocks and sent once.
    lazy = da.from_array(X, chunks=(3_000, 4))
    again = mixture().fit(lazy, sample_weight=w)
    check_same(again, model)


def test_a_model_of_networks_learns_from_the_cluster_and_answers_there(client):
    X = rows()
    lazy = client.persist(da.from_array(X, chunks=(2_500, 4)))
    model = VAE(2, hidden_layer_sizes=(8,), max_epochs=2, random_state=0).fit(lazy)
    blocks = [X[i : i + 2_500] for i in range(0, len(X), 2_500)]
    same = VAE(2, hidden_layer_sizes=(8,), max_epochs=2, random_state=0)
    assert_allclose(
        model.score_samples(lazy[:100]).compute(),
        same.fit(lambda: iter(blocks)).score_samples(X[:100]),
        rtol=1e-9,
    )
    assert_allclose(model.transform(lazy).compute(), model.transform(X), rtol=1e-9)
    assert model.score(lazy[:100]) == pytest.approx(model.score(X[:100]), rel=1e-9)


def test_errors_reach_the_user(client):
    X = rows()
    X[12_345, 2] = np.inf
    lazy = da.from_array(X, chunks=(2_000, 4))
    with pytest.raises(ValueError, match="Input X contains infinity"):
        mixture().fit(lazy)
    w = da.full(20_000, -1.0, chunks=2_000)
    with pytest.raises(ValueError, match=r"'sample_weight' .* nowhere negative"):
        mixture().fit(da.from_array(rows(), chunks=(2_000, 4)), sample_weight=w)


def test_a_worker_dies_in_the_middle_of_a_task(client, in_memory, tmp_path):
    passes = tmp_path / "passes"

    def deadly(block):
        # Once, when the block is read for the sixth time.
        import os
        import signal

        with passes.open("a") as file:
            file.write("x")
        if passes.stat().st_size == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        return block

    blocks = da.from_array(rows(), chunks=(2_500, 4)).to_delayed().ravel()
    blocks = [dask.delayed(deadly)(blocks[0]), *blocks[1:]]
    sizes = [(2_500, 4)] * len(blocks)
    lazy = da.concatenate(
        [
            da.from_delayed(block, shape, dtype=float)
            for block, shape in zip(blocks, sizes, strict=True)
        ]
    )
    before = {process.pid for process in workers(client).values()}
    check_same(mixture().fit(lazy), in_memory)
    assert passes.stat().st_size > 7
    client.wait_for_workers(2, timeout=PATIENCE)
    assert {process.pid for process in workers(client).values()} != before


# The last tests of the cluster: in the end it has one worker.
@pytest.mark.parametrize("restarts", [True, False])
def test_a_worker_that_holds_rows_is_killed(
    two, client, in_memory, monkeypatch, restarts
):
    for nanny in two[0].workers.values():
        nanny.auto_restart = restarts
    lazy = client.persist(da.from_array(rows(), chunks=(2_500, 4)))
    distributed.wait(lazy)
    held = holding(client)
    victim = max(held, key=held.get)
    assert held[victim] > 0
    process, step, steps = workers(client)[victim], Run.step, []

    def deadly(run, problem, tol):
        if len(steps) == 3:
            process.kill()
        steps.append(tol)
        step(run, problem, tol)

    monkeypatch.setattr(Run, "step", deadly)
    check_same(mixture().fit(lazy), in_memory)
    assert len(steps) > 4
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    if restarts:
        client.wait_for_workers(2, timeout=PATIENCE)
