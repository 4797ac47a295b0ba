"""Exact kernel sums against scikit-learn's tree, at the same bandwidth."""

import numpy as np
from sklearn.neighbors import KernelDensity

from benchmarks._harness import compare, main
from skgen import GaussianKDE


def rows(pairs, scale=1.0):
    """Yield the rows of the table; `scale` shrinks the work for a smoke test."""
    for n, m, d in ((50_000, 5_000, 2), (50_000, 5_000, 16)):
        yield _scores(int(n * scale), int(m * scale), d, pairs)


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


if __name__ == "__main__":
    main(rows, "kernel_density")
