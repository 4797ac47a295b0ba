"""Exact sums over kernels, streamed in blocks that never hold all pairs."""

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.utils import gen_batches

from skgen._threads import in_parallel

# Training rows in a block, and query rows at most: a block of pairs then stays in
# the cache, which is worth 1.4 times the speed of blocks of 256 x 4096.
_TRAINING_BLOCK = 1024
_QUERY_BLOCK = 128

# From so many pairs, blocks of queries are shared among the cores.
_PAIRS_FOR_THREADS = 2**22

# The largest error of the exponent that squared distances by a matrix product may
# have, in nats. Rows that would exceed it take differences instead.
_PRODUCT_ERROR = 1e-11


def kernel_log_sum(
    queries, points, log_weights, values=None, *, squared_distances=None, memory=2**27
):
    r"""Sum unit normal kernels over the points, in the log domain.

    With :math:`a_i(q) = \log w_i - |q - p_i|^2 / 2` it returns

    .. math:: s(q) = \log \sum_i e^{a_i(q)}, \qquad
              v(q) = \sum_i e^{a_i(q) - s(q)} v_i.

    Parameters
    ----------
    queries : ndarray of shape (m, d)
        Where to evaluate, in units of the kernel.
    points : ndarray of shape (n, d)
        The centres, in the same units.
    log_weights : ndarray of shape (n,)
        The logarithms of the weights of the points.
    values : ndarray of shape (n, e), default=None
        What to average; None averages nothing.
    squared_distances : callable, default=None
        Maps indices of queries and a slice of points to their squared distances,
        (b, n), for queries where a matrix product would lose digits. None takes
        differences of the given coordinates.
    memory : int, default=2**27
        Bytes that a block of pairs and its copies may take.

    Returns
    -------
    log_sum : ndarray of shape (m,)
        :math:`s` at each query.
    mean : ndarray of shape (m, e) or None
        :math:`v` at each query.
    """
    m = queries.shape[0]
    log_sum = np.empty(m)
    mean = None if values is None else np.empty((m, values.shape[1]))
    squares = np.einsum("ij,ij->i", points, points)  # (n,)
    offsets = log_weights - 0.5 * squares  # (n,)
    by_product = _product_is_exact(queries, squares)  # (m,)
    block = int(np.clip(memory // (3 * 8 * _TRAINING_BLOCK), 1, _QUERY_BLOCK))

    def product(rows, columns):
        """Return exponents by one matrix product: fast, exact near the origin."""
        q = queries[rows]
        a = q @ points[columns].T  # (b, n)
        a += offsets[columns]
        a -= 0.5 * np.einsum("ij,ij->i", q, q)[:, None]
        return a

    def difference(rows, columns):
        """Return exponents by differences: exact anywhere, slower."""
        a = squared_distances(rows, columns)  # (b, n)
        a *= -0.5
        a += log_weights[columns]
        return a

    if squared_distances is None:
        squared_distances = _differences(queries, points)

    def answer(task):
        exponents, chosen = task
        log_sum[chosen], part_mean = _stream(exponents, chosen, points, values)
        if values is not None:
            mean[chosen] = part_mean

    tasks = [
        (exponents, index[start : start + block])
        for exponents, index in (
            (product, np.flatnonzero(by_product)),
            (difference, np.flatnonzero(~by_product)),
        )
        for start in range(0, index.size, block)
    ]
    in_parallel(answer, tasks, worth_it=m * points.shape[0] > _PAIRS_FOR_THREADS)
    return log_sum, mean


def _differences(queries, points):
    return lambda rows, columns: cdist(queries[rows], points[columns], "sqeuclidean")


def _product_is_exact(queries, squares):
    """Tell for each query whether ``|q|^2 - 2 q.p + |p|^2`` keeps enough digits.

    The answer depends on the query and the points, not on the other queries.
    """
    magnitude = np.einsum("ij,ij->i", queries, queries) + squares.max()  # (m,)
    return magnitude * np.finfo(np.float64).eps < _PRODUCT_ERROR


def _stream(exponents, rows, points, values):
    """Accumulate the sum over blocks of points about a running maximum."""
    b = rows.size
    top = np.full(b, -np.inf)
    total = np.zeros(b)
    average = None if values is None else np.zeros((b, values.shape[1]))
    for columns in gen_batches(points.shape[0], _TRAINING_BLOCK):
        a = exponents(rows, columns)  # (b, n)
        new_top = np.maximum(top, a.max(axis=1))
        a -= new_top[:, None]
        np.exp(a, out=a)
        shrink = np.exp(top - new_top)  # (b,)
        total = total * shrink + a.sum(axis=1)
        if values is not None:
            average = average * shrink[:, None] + a @ values[columns]
        top = new_top
    log_sum = top + np.log(total)
    return log_sum, None if values is None else average / total[:, None]
