"""Seconds of one iteration, by fits of a few and of many in turn."""

from dataclasses import dataclass

import numpy as np

from benchmarks._harness import timed


def counts(options):
    """Return the iterations of the two fits whose difference is taken."""
    return (2, 8) if options.scale >= 0.1 else (1, 3)


def how(few, many):
    """Return the explanation of the seconds of an iteration."""
    return (
        f"The time of an iteration is the difference between a fit of {many} "
        f"iterations and a fit of {few}, divided by {many - few}. It "
        "excludes what a fit does once (checks, whitening, final scores). The rest is "
        f"the time of the fit of {few} without its iterations."
    )


@dataclass(frozen=True)
class Seconds:
    """What one of several fits took, a number for each time that it was run."""

    iteration: np.ndarray  # of one iteration
    rest: np.ndarray  # of a fit beside its iterations
    fitted: object  # after the longer fit


def clusters(n, d, K, seed=0):
    """Return rows from K normal clusters of different shapes, and their means.

    They are so alike that EM is not at its end after eight iterations. With 64 features
    and full covariances it is near enough for longer steps to begin.

    Parameters
    ----------
    n, d, K : int
        Number of rows, features and clusters.
    seed : int, default=0
        Seeds the rows. The clusters are the same for all seeds.

    Returns
    -------
    X : ndarray of shape (n, d)
    means : ndarray of shape (K, d)
    """
    rng = np.random.RandomState(0)
    means = 0.5 * rng.standard_normal((K, d))
    mixing = 0.5 * rng.standard_normal((K, d, d)) / np.sqrt(d) + np.eye(d)
    rng = rng if seed == 0 else np.random.RandomState(seed)
    label = rng.randint(K, size=n)
    X = rng.standard_normal((n, d))
    for k in range(K):
        X[label == k] = X[label == k] @ mixing[k] + means[k]
    return X, means


def start(means, covariance_type="full"):
    """Return the parameters of a mixture that starts beside given means.

    Parameters
    ----------
    means : ndarray of shape (K, d)
    covariance_type : {"full", "tied", "diag", "spherical"}

    Returns
    -------
    dict
        Equal weights, the means beside and precisions of one, no floor, and no end
        before the last iteration.
    """
    K, d = means.shape
    precisions = {
        "full": np.tile(np.eye(d), (K, 1, 1)),
        "tied": np.eye(d),
        "diag": np.ones((K, d)),
        "spherical": np.ones(K),
    }
    return {
        "covariance_type": covariance_type,
        "weights_init": np.full(K, 1 / K),
        "means_init": means + 0.25,
        "precisions_init": precisions[covariance_type],
        "reg_covar": 0.0,
        "tol": 0.0,
    }


def in_turn(fits, pairs, few, many):
    """Return the seconds of an iteration of each of several fits, run in turn.

    Parameters
    ----------
    fits : list of callable
        Each maps a number of iterations to a fitted mixture, whose `n_iter_` is the
        number done. Each is run once, untimed, before the others.
    pairs : int
        Number of runs of each.
    few, many : int
        The iterations of the two fits whose difference is taken.

    Returns
    -------
    list of Seconds
    """
    fitted = [fit(many) for fit in fits]
    measured = np.empty((len(fits), 2, pairs))
    for i in range(pairs):
        for j, fit in enumerate(fits):
            measured[j, :, i] = difference(fit, few, many)
    return [Seconds(*both, last) for both, last in zip(measured, fitted, strict=True)]


def difference(fit, few, many):
    """Return the seconds of an iteration, and of the rest of a fit."""
    short, first = timed(lambda: fit(few))
    long, second = timed(lambda: fit(many))
    # Fewer than requested if a fit ended early, which the page would show.
    iteration = (long - short) / max(1, second.n_iter_ - first.n_iter_)
    return iteration, short - first.n_iter_ * iteration


def ratios(ours, theirs):
    """Return theirs over ours: of the medians, and the range of the pairs, in words.

    Parameters
    ----------
    ours, theirs : ndarray of shape (pairs,)
        Seconds.

    Returns
    -------
    ratio : str
        In bold.
    pairs : str
        The least and the largest.
    """
    each = theirs / ours
    ratio = np.median(theirs) / np.median(ours)
    return f"**{ratio:.1f}**", f"{each.min():.1f} to {each.max():.1f}"


def apart(a, b):
    """Return how far the means of two mixtures with equal numbers are apart."""
    return (
        f"{a.n_iter_} and {b.n_iter_} iterations, means differ by at most "
        f"{np.abs(a.means_ - b.means_).max():.0e}"
    )


def seconds(values):
    """Return the median of some seconds in words."""
    return f"{np.median(values):.3g} s"
