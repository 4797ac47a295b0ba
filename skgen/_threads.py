"""How many threads the linear algebra of small blocks gets: one."""

from functools import cache

from threadpoolctl import ThreadpoolController


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
