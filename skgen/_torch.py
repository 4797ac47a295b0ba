"""Devices, seeds and threads of PyTorch, which is imported when it is first used."""

import copy
import multiprocessing
import re
import sys
import threading
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial

import numpy as np

from skgen._checks import invalid_parameter
from skgen._lazy import is_installed, lazy_module, missing_package
from skgen._threads import changed, is_forked, one_openmp_thread

torch = lazy_module("torch", "The 'device' parameter")

# Multiplications in a training step from which a second thread saves time.
_SHARED_WORK = 10_000_000

_here = threading.local()

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


def without_tf32():
    """Return a context with full float32 matrix products, whatever the setting."""
    settings = torch.backends.cuda.matmul
    write = partial(setattr, settings, "fp32_precision")

    def change():
        before = settings.fp32_precision
        write("ieee")
        return before

    return changed("TF32", change, write)


@contextmanager
def threads_for(work):
    """Run the body on PyTorch's threads where `work` multiplications a step repay them.

    Small batches lose more time to synchronisation than a second thread saves.
    """
    # PyTorch has a number of threads for each thread. At its first operation, a new
    # thread takes the last number that any thread has set: before we set a number.
    torch.get_num_threads()
    outer = getattr(_here, "n_threads", None)
    with changed("PyTorch", torch.get_num_threads, torch.set_num_threads) as before:
        # joblib limits the threads of its worker processes, not of its worker threads.
        alone = threading.current_thread() is threading.main_thread()
        worth_it = alone and work >= _SHARED_WORK and not is_forked()
        _here.n_threads = before if worth_it else 1
        torch.set_num_threads(_here.n_threads)
        try:
            yield
        finally:
            _here.n_threads = outer
            torch.set_num_threads(before if outer is None else outer)


def _default_modes():
    """Return a context in which PyTorch's modes for this thread have their defaults."""
    stack = ExitStack()
    # Tensors of inference mode cannot be trained. Other modes cost time if entered.
    if torch.is_inference_mode_enabled():
        stack.enter_context(torch.inference_mode(False))
    if torch.get_default_device().type != "cpu":
        stack.enter_context(torch.device("cpu"))
    for device in "cpu", "cuda", "mps":
        if torch.is_autocast_enabled(device):
            stack.enter_context(torch.autocast(device, enabled=False))
    return stack


@contextmanager
def undisturbed():
    """Run the body without the caller's modes or threads that a fork has killed."""
    # The caller's `errstate` of NumPy may raise for underflow, which is to give 0.
    # The GNU library of OpenMP keeps a pool for each thread that has used it. In a
    # forked process, a thread would wait for the others of its pool forever.
    forked, loaded = is_forked(), sys.modules.get("torch") is not None
    with (
        np.errstate(under="ignore"),
        one_openmp_thread() if forked else nullcontext(),
        threads_for(0) if forked and loaded else nullcontext(),
        _default_modes() if loaded else nullcontext(),
    ):
        yield


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
