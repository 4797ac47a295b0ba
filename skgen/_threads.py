"""Threads: blocks of work side by side, and one for the linear algebra of each."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache

from joblib import cpu_count
from threadpoolctl import ThreadpoolController

_here = threading.local()


@cache
def _controller():
    # Looking for the libraries takes milliseconds; a limit then takes microseconds.
    return ThreadpoolController()


def one_blas_thread():
    """Return a context in which BLAS and LAPACK run in the calling thread.

    Blocks that stay in the cache are too small to share: two threads gain nothing
    on them, and lose up to half the time to waiting for each other (numpy and scipy
    bring a pool each), the more so beside other processes.
    """
    return _controller().limit(limits=1, user_api="blas")


def most_threads():
    """Return how many threads there are cores for, or OMP_NUM_THREADS if fewer.

    joblib sets that variable in its processes, so that these do not get in each
    other's way.
    """
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(int(limit), cpu_count()) if limit.isdigit() else cpu_count()


def in_parallel(function, tasks, *, worth_it=True):
    """Apply a function to tasks, one BLAS thread each; return a list of the answers.

    Parameters
    ----------
    function : callable
        Takes one task. NumPy's loops leave the interpreter to the other threads.
    tasks : list
        The tasks, which do not depend on each other.
    worth_it : bool, default=True
        Whether the tasks take longer than threads take to start.

    Returns
    -------
    list
        The answers, in the order of the tasks.
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
    """Mark this thread as one of many that work: it starts no others.

    Nor does it set the number of threads of BLAS, which is that of the process: two
    threads that set it and set it back in turn would leave it wrong.
    """
    before = _is_one_of_many()
    _here.one_of_many = True
    try:
        yield
    finally:
        _here.one_of_many = before


def _is_one_of_many():
    return getattr(_here, "one_of_many", False)
