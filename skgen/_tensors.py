"""Devices, seeds and threads: what lies between NumPy arrays and PyTorch.

PyTorch is imported inside the functions, so that ``import skgen`` stays light for
those who fit no model by gradients.
"""

import copy
import multiprocessing
import re
import threading
from contextlib import contextmanager

import numpy as np

from skgen._parameters import invalid_parameter

# The multiplications of a step from which on a second thread is worth its waiting.
_SHARED_WORK = 10_000_000

# The states of generators before the first fit of several threads.
_SEEDED, _BEFORE = threading.Lock(), {}

# The precision of CUDA's matrix products before the first pass of several threads.
_COUNTED, _PRODUCTS = threading.Lock(), {}

_DEVICE = re.compile(r"cpu|mps|auto|cuda(:\d+)?")


def check_device(model):
    """Raise unless `device` names a device that PyTorch can use here."""
    import torch

    name = model.device
    rule = "'cpu', 'cuda', 'cuda:1' (of any number), 'mps' or 'auto'"
    if not (isinstance(name, str) and _DEVICE.fullmatch(name)):
        raise invalid_parameter(model, "device", rule, name)
    if name.startswith("cuda"):
        count = torch.cuda.device_count()
        if int(name.partition(":")[2] or 0) >= count:
            rule = f"one of the {count} CUDA devices that PyTorch finds"
            raise invalid_parameter(model, "device", rule, name)
    if name == "mps" and not torch.backends.mps.is_available():
        rule = "a device that PyTorch can use here; it finds no MPS"
        raise invalid_parameter(model, "device", rule, name)


def resolved_device(name):
    """Return the PyTorch device of a name; "auto" takes the fastest there is.

    Beside other workers of joblib, "auto" takes the GPU of the worker's number, so
    that a parallel search spreads over all of them.
    """
    import torch

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
    # loky names its workers in place of numbering them.
    number = re.search(r"(\d+)$", multiprocessing.current_process().name)
    return int(number.group(1)) - 1 if number else 0


def torch_seed(rng):
    """Draw a seed for PyTorch from a NumPy generator."""
    return int(rng.randint(np.iinfo(np.int32).max))


@contextmanager
def seeded(seed, device):
    """Run the body under PyTorch's own generators seeded, and put them back."""
    import torch

    generators = [torch.default_generator]
    if device.type == "cuda":
        torch.cuda.init()
        index = (
            device.index if device.index is not None else torch.cuda.current_device()
        )
        generators.append(torch.cuda.default_generators[index])
    with _SEEDED:
        for generator in generators:
            _BEFORE.setdefault(generator, [generator.get_state(), 0])[1] += 1
            generator.manual_seed(seed)
    try:
        yield
    finally:
        with _SEEDED:
            for generator in generators:
                _BEFORE[generator][1] -= 1
                if not _BEFORE[generator][1]:
                    generator.set_state(_BEFORE.pop(generator)[0])


@contextmanager
def threads_for(work):
    """Run the body on as many threads as its batches keep busy.

    Small batches lose more to threads that wait for each other than they gain. Nor
    are there threads to spare where other threads of this process work as well:
    joblib tells its processes how many threads are theirs, but not its threads.

    Parameters
    ----------
    work : int
        Rows in a batch times parameters: the multiplications of a step.
    """
    import torch

    before = torch.get_num_threads()
    alone = threading.current_thread() is threading.main_thread()
    threads = before if alone and work >= _SHARED_WORK else 1
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def without_tf32():
    """Run the body with all digits of float32 in matrix products, whatever is set."""
    import torch

    settings = torch.backends.cuda.matmul
    with _COUNTED:
        _PRODUCTS.setdefault(settings, [settings.fp32_precision, 0])[1] += 1
        settings.fp32_precision = "ieee"
    try:
        yield
    finally:
        with _COUNTED:
            _PRODUCTS[settings][1] -= 1
            if not _PRODUCTS[settings][1]:
                settings.fp32_precision = _PRODUCTS.pop(settings)[0]


def float64_copy(module):
    """Return a copy of a module in double precision, without gradients.

    Answers come from it, so that a row's answer does not depend on the rows beside
    it. A device without float64 (MPS) keeps the original, and the copy moves to the
    CPU: training is on the device, answers are not.
    """
    import torch

    twin = copy.deepcopy(module).requires_grad_(False).eval()
    parameter = next(twin.parameters(), None)
    if parameter is not None and parameter.device.type == "mps":
        twin = twin.to("cpu")
    return twin.to(torch.float64)
