"""Threads and memory: thread pools whose tasks run BLAS in one thread each."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import cache

from joblib import cpu_count
from sklearn import get_config
from threadpoolctl import ThreadpoolController

_here = threading.local()

# Settings of the process that `changed` has changed: the value before, the function
# that restores it, and the threads in a body, one entry for each body.
_LOCK = threading.Lock()
_CHANGED: dict = {}


@contextmanager
def changed(owner, change, restore):
    """Change a setting of the process for the body; yield what `change` returns.

    Of several bodies at once, the first calls `change`, and the last `restore` with the
    value that `change` returned. Threads that restored it in turn would leave a wrong
    setting behind.
    """
    me = threading.get_ident()
    with _LOCK:
        if owner not in _CHANGED:
            _CHANGED[owner] = change(), restore, []
        before, _, threads = _CHANGED[owner]
        threads.append(me)
    try:
        yield before
    finally:
        with _LOCK:
            threads.remove(me)
            if not threads:
                restore(_CHANGED.pop(owner)[0])


def _after_fork():
    """Restore in a child process what threads of the parent have changed."""
    _LOCK.release()
    _here.is_forked = True
    _controller.cache_clear()
    me = threading.get_ident()
    for owner, (_, restore, threads) in list(_CHANGED.items()):
        threads[:] = [thread for thread in threads if thread == me]
        if not threads:
            restore(_CHANGED.pop(owner)[0])


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_LOCK.acquire,
        after_in_parent=_LOCK.release,
        after_in_child=_after_fork,
    )


def lock_across_forks():
    """Return a lock that no thread holds while the process forks.

    In the child, the lock would never be released.
    """
    lock = threading.RLock()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=lock.acquire,
            after_in_parent=lock.release,
            after_in_child=lock.release,
        )
    return lock


@cache
def _controller():
    # Finding the libraries takes milliseconds; setting a limit takes microseconds.
    return ThreadpoolController()


def one_blas_thread():
    """Return a context in which BLAS and LAPACK run in the calling thread."""
    # Blocks that fit into the cache are too small for two threads, which would spend up
    # to half of their time waiting: NumPy and SciPy have a thread pool each.
    if _is_one_of_many():
        return nullcontext()
    return changed(
        "BLAS",
        lambda: _controller().limit(limits=1, user_api="blas"),
        lambda limit: limit.restore_original_limits(),
    )


def is_forked():
    """Return whether this thread has called fork, so that its pools are dead."""
    return getattr(_here, "is_forked", False)


def one_openmp_thread():
    """Return a context in which this thread, unlike others, has no pool of OpenMP."""
    return _controller().limit(limits=1, user_api="openmp")


def most_threads():
    """Return the number of CPU cores, or OMP_NUM_THREADS if that is smaller."""
    # joblib sets this variable in its worker processes, which share the cores.
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(int(limit), cpu_count()) if limit.isdigit() else cpu_count()


def in_parallel(function, tasks, *, worth_it=True):
    """Return [function(task) for task in tasks], computed with one BLAS thread each.

    Tasks run in a thread pool if `worth_it`, unless this thread belongs to one already.
    """
    if _is_one_of_many():
        return [function(task) for task in tasks]
    n_threads = min(most_threads(), len(tasks)) if worth_it else 1
    with one_blas_thread():
        if n_threads <= 1:
            return [function(task) for task in tasks]

        def run(task):
            with one_of_many():
                return function(task)

        with ThreadPoolExecutor(n_threads) as pool:
            return list(pool.map(run, tasks))


@contextmanager
def one_of_many():
    """Mark this thread as a member of a pool: it starts no pool and limits no BLAS."""
    before = _is_one_of_many()
    _here.one_of_many = True
    try:
        yield
    finally:
        _here.one_of_many = before


def _is_one_of_many():
    return getattr(_here, "one_of_many", False)


def working_memory():
    """Return scikit-learn's option `working_memory` in bytes, at least 64 KiB."""
    return max(int(get_config()["working_memory"] * 2**20), 2**16)
