"""The sliced-Wasserstein distance between two samples, as a public function."""

import numpy as np
from sklearn.utils import check_array

from skgen._parameters import (
    RANDOM_STATE_RULE,
    is_integer,
    is_random_state,
    is_real,
    numbers_only,
    wrong_argument,
)
from skgen._validation import generator

_NAME = "sliced_wasserstein_distance"


def sliced_wasserstein_distance(X, Y, n_projections=50, *, p=2, random_state=None):
    r"""Return the sliced-Wasserstein distance between two samples.

    Along a direction :math:`\theta` the samples are numbers, and the best way to move
    one onto the other keeps their order. The distance is the mean cost over random
    directions,

    .. math:: \mathrm{SW}_p(X, Y) = \Big( \frac1L \sum_{l=1}^L
              \int_0^1 |F_{l,X}^{-1}(t) - F_{l,Y}^{-1}(t)|^p \, dt \Big)^{1/p},

    with :math:`F_{l,X}^{-1}` the quantiles of :math:`\theta_l^\top X` [1]_.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        The rows of one sample.
    Y : array-like of shape (m_samples, n_features)
        The rows of the other, as many or not.
    n_projections : int, default=50
        The number :math:`L` of directions, uniform on the sphere.
    p : float, default=2
        The power of the cost, at least 1.
    random_state : int, RandomState instance or None, default=None
        Seeds the directions. None takes fresh entropy; the global generator is
        never used.

    Returns
    -------
    float
        The distance, in the units of the features.

    Raises
    ------
    ValueError
        If a table does not hold finite numbers, the tables have not the same
        features, or an argument is not what it must be.

    See Also
    --------
    SWAE : The autoencoder whose codes this distance draws to a prior.

    Notes
    -----
    It costs ``n_projections`` sorts. The mean of its square over directions is about
    the squared Wasserstein distance divided by the number of features.

    References
    ----------
    .. [1] Bonneel, N., Rabin, J., Peyre, G. and Pfister, H. (2015). Sliced and Radon
       Wasserstein barycenters of measures. Journal of Mathematical Imaging and
       Vision 51, 22-45.

    Examples
    --------
    >>> import numpy as np
    >>> from skgen import sliced_wasserstein_distance
    >>> X = np.random.RandomState(0).normal(size=(500, 1))
    >>> round(sliced_wasserstein_distance(X, X + 3, random_state=0), 6)
    3.0
    """
    if not is_integer(n_projections, 1):
        raise _invalid("n_projections", "an int of at least 1", n_projections)
    if not (is_real(p) and p >= 1):
        raise _invalid("p", "a finite number of at least 1", p)
    if not is_random_state(random_state):
        raise _invalid("random_state", RANDOM_STATE_RULE, random_state)
    X, Y = (
        numbers_only(
            f"The {name!r} argument of {_NAME}", check_array, table, input_name=name
        ).astype(np.float64)
        for name, table in (("X", X), ("Y", Y))
    )
    if X.shape[1] != Y.shape[1]:
        rule = f"a table of as many features as X, {X.shape[1]}"
        raise _invalid("Y", rule, Y.shape[1])
    rng = generator(random_state)
    directions = rng.standard_normal((X.shape[1], n_projections))
    directions /= np.linalg.norm(directions, axis=0)
    x, y = np.sort(X @ directions, axis=0), np.sort(Y @ directions, axis=0)
    if X.shape[0] == Y.shape[0]:
        costs = (np.abs(x - y) ** p).mean(axis=0)  # (L,)
    else:
        costs = _cost_of_quantiles(x, y, p)
    return float(costs.mean() ** (1 / p))


def _cost_of_quantiles(x, y, p):
    """Return the costs between sorted columns of other lengths: (L,)."""
    n, m = x.shape[0], y.shape[0]
    # Between two of these ranks neither quantile changes.
    ranks = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)  # of n m
    widths = np.diff(ranks, prepend=0) / (n * m)
    gaps = np.abs(x[(ranks - 1) // m] - y[(ranks - 1) // n])  # (ranks, L)
    return widths @ gaps**p


def _invalid(name, rule, got):
    return wrong_argument(_NAME, name, rule, got)
