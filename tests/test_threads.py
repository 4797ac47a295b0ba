"""Threads and devices: what is taken, and that it is given back."""

import os
import threading
from types import SimpleNamespace

import pytest
import torch
from estimators import rows

from skgen import EMGaussianMixture, GaussianKDE, _threads, _torch
from skgen._checks import InvalidParameterError
from skgen._threads import in_parallel, most_threads
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
