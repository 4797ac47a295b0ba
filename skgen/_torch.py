"""Devices, seeds and threads of PyTorch, which is imported when it is first used."""

import copy
import multiprocessing
import re
import threading
from contextlib import ExitStack, contextmanager
from functools import partial

import numpy as np

from skgen._checks import invalid_parameter
from skgen._lazy import is_installed, lazy_module, missing_package

torch = lazy_module("torch", "The 'device' parameter")

# Multiplications in a training step from which a second thread saves time.
_SHARED_WORK = 10_000_000

# Settings of PyTorch before the first of several concurrent fits changed them, and the
# number of these fits.
_LOCK = threading.Lock()
_BEFORE: dict = {}

_DEVICE = re.compile(r"cpu|mps|auto|cuda(:\d+)?")


def check_device(model):
    """Raise unless `device` names a device that PyTorch can use here.

    The CPU needs no PyTorch, and neither does the error for an unknown name.
    """
    name = model.device
    if not (isinstance(name, str) and _DEVICE.fullmatch(name)):
        rule = "'cpu', 'cuda', 'cuda:0' (or another number), 'mps' or 'auto'"
        raise invalid_parameter(model, "device", rule, name)
    if name == "cpu":
        return
    if not is_installed("torch"):
        raise missing_package("torch", f"{type(model).__name__}(device={name!r})")
    if name.startswith("cuda"):
        count = torch.cuda.device_count()
        if int(name.partition(":")[2] or 0) >= count:
            found = f"{count or 'no'} CUDA device{'' if count == 1 else 's'}"
            rule = f"a device that PyTorch can use here; it finds {found}"
            raise invalid_parameter(model, "device", rule, name)
    if name == "mps" and not torch.backends.mps.is_available():
        rule = "a device that PyTorch can use here; it finds no MPS device"
        raise invalid_parameter(model, "device", rule, name)


def usable_device(name):
    """Return the name of a device, or "cpu" where PyTorch cannot use the device."""
    if name.startswith("cuda"):
        number = int(name.partition(":")[2] or 0)
        return name if number < torch.cuda.device_count() else "cpu"
    if name == "mps" and not torch.backends.mps.is_available():
        return "cpu"
    return name


def resolved_device(name):
    """Return the PyTorch device of a name; "auto" is a GPU where there is one.

    Among joblib's workers, "auto" assigns each worker the GPU of its number.
    """
    if name != "auto":
        return torch.device(name)
    count = torch.cuda.device_count()
    if count:
        return torch.device("cuda", _worker_number() % count)
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _worker_number():
    """Return the number of this worker process among its siblings; 0 in the first."""
    identity = multiprocessing.current_process()._identity
    if identity:
        return identity[-1] - 1
    # The number of a loky worker is part of its name.
    number = re.search(r"(\d+)$", multiprocessing.current_process().name)
    return int(number.group(1)) - 1 if number else 0


def torch_seed(rng):
    """Draw a seed for PyTorch from a NumPy generator."""
    return int(rng.randint(np.iinfo(np.int32).max))


@contextmanager
def _changed(owner, read, change, restore):
    """Change a global setting for the body; the last concurrent body restores it."""
    with _LOCK:
        _BEFORE.setdefault(owner, [read(), 0])[1] += 1
        change()
    try:
        yield
    finally:
        with _LOCK:
            _BEFORE[owner][1] -= 1
            if not _BEFORE[owner][1]:
                restore(_BEFORE.pop(owner)[0])


@contextmanager
def seeded(seed, device):
    """Seed PyTorch's global generators for the body; restore their states after it."""
    generators = [torch.default_generator]
    if device.type == "cuda":
        torch.cuda.init()
        index = torch.cuda.current_device() if device.index is None else device.index
        generators.append(torch.cuda.default_generators[index])
    with ExitStack() as stack:
        for one in generators:
            seeds = partial(one.manual_seed, seed)
            stack.enter_context(_changed(one, one.get_state, seeds, one.set_state))
        yield


def without_tf32():
    """Return a context with full float32 matrix products, whatever the setting."""
    settings = torch.backends.cuda.matmul
    write = partial(setattr, settings, "fp32_precision")
    read = partial(getattr, settings, "fp32_precision")
    return _changed(settings, read, partial(write, "ieee"), write)


@contextmanager
def threads_for(work):
    """Run the body on PyTorch's threads where `work` multiplications a step repay them.

    Small batches lose more time to synchronisation than a second thread saves.
    """
    before = torch.get_num_threads()
    # joblib limits the threads of its worker processes, but not of its worker threads.
    alone = threading.current_thread() is threading.main_thread()
    threads = before if alone and work >= _SHARED_WORK else 1
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def float64_copy(module):
    """Return a copy of a module in double precision, without gradients.

    Answers in double precision do not depend on the other rows of a batch.
    """
    twin = copy.deepcopy(module).requires_grad_(False).eval()
    parameter = next(twin.parameters(), None)
    # MPS has no float64: it trains the model, and the CPU answers.
    if parameter is not None and parameter.device.type == "mps":
        twin = twin.to("cpu")
    return twin.to(torch.float64)
