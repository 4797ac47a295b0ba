"""Threads and devices: what is taken, and that it is given back."""

import copy
import functools
import os
import pickle
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from estimators import rows
from processes import in_fork
from sklearn.base import clone
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from skgen import (
    RAE,
    SWAE,
    VAE,
    AutoEncoder,
    DensityOutlierDetector,
    EMGaussianMixture,
    GaussianKDE,
    GenerativeClassifier,
    SGDGaussianMixture,
    _threads,
    _torch,
    make_generative_pipeline,
)
from skgen._checks import InvalidParameterError
from skgen._lazy import cached_property
from skgen._threads import (
    changed,
    in_parallel,
    lock_across_forks,
    most_threads,
)
from skgen._torch import resolved_device, threads_for


@pytest.mark.parametrize(
    ("limit", "expected"), [("1", 1), ("3", 3), ("8", 4), ("", 4), ("many", 4)]
)
def test_threads_are_limited_by_cores_and_by_the_environment(
    limit, expected, monkeypatch
):
    monkeypatch.setattr(_threads, "cpu_count", lambda: 4)
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", limit)
    assert most_threads() == expected


def test_tasks_run_side_by_side_and_answer_in_order(monkeypatch):
    monkeypatch.setattr(_threads, "most_threads", lambda: 3)
    barrier = threading.Barrier(3)

    def task(number):
        barrier.wait(timeout=30)  # which one thread would never pass
        return number

    assert in_parallel(task, [2, 0, 1]) == [2, 0, 1]


def test_training_leaves_the_number_of_threads_as_it_was():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with threads_for(1):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        with threads_for(10**9):
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


# -- several threads of the user --------------------------------------------------


def test_the_last_of_several_threads_restores_a_setting():
    setting, seen = [2], []

    def limited():
        before = setting[0]
        setting[0] = 1
        return before

    def limit():
        return changed("a test", limited, lambda before: setting.__setitem__(0, before))

    entered, leave = threading.Event(), threading.Event()

    def first():
        with limit():
            entered.set()
            leave.wait(30)

    thread = threading.Thread(target=first)
    thread.start()
    entered.wait(30)
    with limit():
        leave.set()
        thread.join()  # the first is out
        seen.append(setting[0])
    assert [*seen, *setting] == [1, 2]


def test_threads_at_once_leave_the_number_of_threads_of_torch():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    barrier, found = threading.Barrier(2), []

    def body(first):
        if not first:
            barrier.wait(30)
        with threads_for(1):
            if first:
                barrier.wait(30)
            barrier.wait(30)  # both are in the body
            if not first:
                barrier.wait(30)
            found.append(torch.get_num_threads())
        if first:
            barrier.wait(30)
        found.append(torch.get_num_threads())

    threads = [threading.Thread(target=body, args=(i,)) for i in (True, False)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        new = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        new.start()
        new.join()
        assert sorted(found) == [1, 1, 2, 2, 2]
    finally:
        torch.set_num_threads(before)


def test_a_score_within_a_fit_leaves_the_threads_of_the_fit():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with threads_for(1):
            with threads_for(10**9):
                assert torch.get_num_threads() == 2
            assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore")  # of forks with threads
def test_a_fork_waits_for_a_lock():
    lock, held = lock_across_forks(), threading.Event()

    def hold():
        with lock:
            held.set()
            time.sleep(0.05)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(30)
    child = os.fork()
    if not child:
        os._exit(not lock.acquire(timeout=5))
    thread.join()
    assert os.waitpid(child, 0)[1] == 0
    with lock:  # the parent has it back
        pass


# -- forked processes ---------------------------------------------------------------


@pytest.fixture
def two_threads(monkeypatch):
    """Let OpenMP take two threads, whose pools a fork kills."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with threadpool_limits(limits=2, user_api="openmp"):
        yield
    torch.set_num_threads(before)


few = {"max_epochs": 1, "random_state": 0}


@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "model",
    [
        pytest.param(
            model,
            id=type(model).__name__,
            marks=[pytest.mark.thorough][type(model) in (EMGaussianMixture, VAE) :],
        )
        for model in (
            GaussianKDE(),
            EMGaussianMixture(3, max_iter=2, random_state=0),
            SGDGaussianMixture(3, **few),
            VAE(2, batch_size=1000, hidden_layer_sizes=(200, 200), **few),
            AutoEncoder(2, **few),
            RAE(2, **few),
            SWAE(2, **few),
            make_generative_pipeline(StandardScaler(), VAE(1, **few)),
            DensityOutlierDetector(EMGaussianMixture(2, random_state=0)),
            GenerativeClassifier(SGDGaussianMixture(2, **few)),
        )
    ],
)
def test_a_forked_child_fits_and_scores(model, two_threads):
    X, y = rows(1000, 3), np.arange(1000) % 2
    model = clone(model).fit(X, y)
    expected = model.score_samples(X[:20])
    # With this sum, the thread has a pool of PyTorch's.
    torch.ones(10**6).add(1).sum()

    def child():
        copied = pickle.loads(pickle.dumps(copy.deepcopy(model)))
        for one in (model, copied, clone(model).fit(X, y)):
            if hasattr(one, "sample"):
                one.sample(10)
            found = one.score_samples(X[:20])
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)

    assert in_fork(child, generations=2) == 0
    assert torch.get_num_threads() == 2


@pytest.mark.thorough
@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "model",
    [
        GaussianKDE(algorithm="fourier"),
        EMGaussianMixture(3, max_iter=2, random_state=0),
        VAE(2, batch_size=1000, hidden_layer_sizes=(200, 200), **few),
    ],
    ids=lambda model: type(model).__name__,
)
def test_any_thread_may_fork_while_others_fit(model, two_threads):
    X = rows(1000, 3)
    model = clone(model).fit(X)
    expected, statuses = model.score_samples(X[:20]), []
    done, errors = threading.Event(), []

    def answer():
        refitted = clone(model).fit(X)
        for one in (model, refitted):
            found = one.score_samples(X[:20])
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)

    def child():
        answer()
        thread = threading.Thread(target=answer)
        thread.start()
        thread.join()

    def fork():
        torch.ones(10**6).add(1).sum()  # a pool of this thread
        statuses.extend(in_fork(child) for _ in range(3))
        done.set()

    def keep_busy():
        try:
            while not done.is_set():
                answer()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=target) for target in (fork, keep_busy)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [0, 0, 0]
    assert not errors


@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore")
def test_a_cached_property_leaves_no_lock_to_a_child():
    computing, leave = threading.Event(), threading.Event()

    class Slow:
        def __init__(self, waits):
            self.waits = waits

        @cached_property
        def value(self):
            if self.waits:
                computing.set()
                leave.wait(30)
            return object()

    assert isinstance(vars(Slow)["value"], functools.cached_property)
    thread = threading.Thread(target=lambda: Slow(True).value)
    thread.start()
    computing.wait(30)
    status = in_fork(lambda: Slow(False).value, seconds=20)
    leave.set()
    thread.join()
    assert status == 0
    one = Slow(False)
    assert one.value is one.value


@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore")
def test_a_child_forgets_the_limits_of_other_threads():
    restored = []
    entered, leave = threading.Event(), threading.Event()

    def other():
        with changed("a test", lambda: 2, restored.append):
            entered.set()
            leave.wait(30)

    thread = threading.Thread(target=other)
    thread.start()
    entered.wait(30)

    def child():
        assert restored == [2]
        with changed("a test", lambda: 3, restored.append):
            pass
        assert restored == [2, 3]

    def child_within_a_body():
        assert restored == []

    try:
        assert in_fork(child) == 0
        with changed("a test", lambda: 4, restored.append):
            assert in_fork(child_within_a_body) == 0
    finally:
        leave.set()
        thread.join()
    assert restored == [2]


# -- devices ----------------------------------------------------------------------


@pytest.mark.parametrize("model", [EMGaussianMixture(), GaussianKDE()])
def test_a_number_beyond_the_devices_is_named(model, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InvalidParameterError, match="finds 2 CUDA devices"):
        model.set_params(device="cuda:2").fit(rows(9, 2))


@pytest.mark.parametrize(
    ("name", "identity", "device"),
    [
        ("MainProcess", (), "cuda:0"),
        ("ForkPoolWorker-2", (2,), "cuda:1"),
        ("ForkPoolWorker-5", (1, 5), "cuda:1"),
        ("LokyProcess-1", (), "cuda:0"),
        ("LokyProcess-3", (), "cuda:2"),
        ("LokyProcess-4", (), "cuda:0"),
    ],
)
def test_workers_spread_over_the_devices(name, identity, device, monkeypatch):
    process = SimpleNamespace(name=name, _identity=identity)
    monkeypatch.setattr(_torch.multiprocessing, "current_process", lambda: process)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert resolved_device("auto") == torch.device(device)
    assert resolved_device("cpu") == torch.device("cpu")
