"""EM against scikit-learn's: ten iterations from one start, and whole fits."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from benchmarks._harness import compare, main
from skgen import EMGaussianMixture

_N_ITERATIONS = 10


def rows(pairs, scale=1.0):
    """Yield the rows of the table; `scale` shrinks the work for a smoke test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # ten iterations are few
        for covariance_type in ("full", "tied", "diag", "spherical"):
            yield _iterations(int(200_000 * scale), 16, 16, covariance_type, pairs)
        for covariance_type in ("full", "tied", "diag"):
            yield _iterations(int(100_000 * scale), 64, 32, covariance_type, pairs)
        yield _whole_fit(int(20_000 * scale), 2, 5, pairs)


def clusters(n, d, K):
    """Return rows from K normal clusters of different shapes, and their means."""
    rng = np.random.RandomState(0)
    # So alike that EM is far from its end after ten iterations, and rises by a
    # thousandth in the last: it would stop where rounding ends the rise,
    # scikit-learn's would go on.
    means = 0.5 * rng.standard_normal((K, d))
    mixing = 0.5 * rng.standard_normal((K, d, d)) / np.sqrt(d) + np.eye(d)
    label = rng.randint(K, size=n)
    X = rng.standard_normal((n, d))
    for k in range(K):
        X[label == k] = X[label == k] @ mixing[k] + means[k]
    return X, means


def _iterations(n, d, K, covariance_type, pairs):
    n = max(n, 200 * K)  # fewer have no covariance of their own
    X, means = clusters(n, d, K)
    precisions = {
        "full": np.tile(np.eye(d), (K, 1, 1)),
        "tied": np.eye(d),
        "diag": np.ones((K, d)),
        "spherical": np.ones(K),
    }[covariance_type]
    options = {
        "covariance_type": covariance_type,
        "weights_init": np.full(K, 1 / K),
        "means_init": means + 0.25,
        "precisions_init": precisions,
        "reg_covar": 0.0,
        "tol": 0.0,
        "max_iter": _N_ITERATIONS,
    }
    return compare(
        f"{_N_ITERATIONS} iterations, {n:,} x {d}, K={K}, {covariance_type}, float64",
        "GaussianMixture",
        lambda: EMGaussianMixture(K, **options).fit(X),
        lambda: GaussianMixture(K, **options).fit(X),
        lambda a, b: (
            f"{a.n_iter_} and {b.n_iter_} iterations, means differ by "
            f"{np.abs(a.means_ - b.means_).max():.0e} at most"
        ),
        pairs,
    )


def _whole_fit(n, d, K, pairs):
    X, _ = clusters(n, d, K)
    return compare(
        f"whole fit, {n:,} x {d}, K={K}, defaults",
        "GaussianMixture",
        lambda: EMGaussianMixture(K, random_state=0).fit(X),
        lambda: GaussianMixture(K, random_state=0).fit(X),
        lambda a, b: f"nats per row: {a.score(X):.3f} against {b.score(X):.3f}",
        pairs,
    )


if __name__ == "__main__":
    main(rows, "gaussian_mixture")
