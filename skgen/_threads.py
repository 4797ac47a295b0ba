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


@cache
def _controller():
    # Finding the libraries takes milliseconds; setting a limit takes microseconds.
    return ThreadpoolController()


def one_blas_thread():
    """Return a context in which BLAS and LAPACK run in the calling thread."""
    # Blocks that fit into the cache are too small for two threads, which would spend up
    # to half of their time waiting: NumPy and SciPy have a thread pool each.
    # The limit holds for the whole process: two threads that set and restore it in turn
    # would leave a wrong limit behind.
    if _is_one_of_many():
        return nullcontext()
    return _controller().limit(limits=1, user_api="blas")


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
