"""Exact kernel sums against scikit-learn's tree, and the choice of a bandwidth."""

import numpy as np
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity

from benchmarks._harness import compare, compare_once, main
from skgen import GaussianKDE


def rows(pairs, scale=1.0):
    """Yield the rows of the table; `scale` shrinks the work for a smoke test."""
    for n, m, d in ((50_000, 5_000, 2), (50_000, 5_000, 16)):
        yield _scores(int(n * scale), int(m * scale), d, pairs)
    yield _bandwidth(int(20_000 * scale), 4)


def _scores(n, m, d, pairs):
    rng = np.random.RandomState(0)
    X, queries = rng.standard_normal((n, d)), rng.standard_normal((m, d))
    bandwidth = n ** (-1 / (d + 4))
    ours = GaussianKDE(bandwidth).fit(X)
    theirs = KernelDensity(bandwidth=bandwidth).fit(X)
    return compare(
        f"score {m:,} rows, {n:,} training rows, d={d}, float64",
        "KernelDensity",
        lambda: ours.score_samples(queries),
        lambda: theirs.score_samples(queries),
        lambda a, b: f"log-densities differ by {np.abs(a - b).max():.0e} nats at most",
        pairs,
    )


def _bandwidth(n, d):
    rng = np.random.RandomState(0)
    mixing = rng.standard_normal((d, d))

    def clusters(n):
        X = rng.standard_normal((n, d)) @ mixing
        X[: n // 3] = 0.3 * X[: n // 3] + 4
        return X

    X, held_out = clusters(n), clusters(max(n // 4, 50))
    scale = X.std(axis=0).mean() * n ** (-1 / (d + 4))
    grid = {"bandwidth": scale * np.geomspace(0.1, 2, 20)}

    def score(a, b):
        ours, theirs = (m.score_samples(held_out).mean() for m in (a, b))
        return f"held out, {ours:.3f} nats a row, and theirs {theirs:.3f}"

    return compare_once(
        f'choose the bandwidth, {n:,} rows, d={d}: "likelihood"',
        "GridSearchCV, 20 bandwidths, 5 folds, KernelDensity",
        lambda: GaussianKDE("likelihood").fit(X),
        lambda: GridSearchCV(KernelDensity(), grid).fit(X).best_estimator_,
        score,
    )


if __name__ == "__main__":
    main(rows, "kernel_density")
