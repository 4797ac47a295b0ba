"""Kernel densities against scikit-learn's tree, KDEpy's grid, and the least error.

``python -m benchmarks.kernel_density [PART ...]`` writes one section for each part;
the sections of other parts stay in the file.
"""

import argparse
import multiprocessing
import resource
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter

import numpy as np
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity

from benchmarks._harness import compare, compare_once, table
from benchmarks._sections import grid, paragraphs, write_sections
from skgen import GaussianKDE

# Number of queries for the tree; its time is scaled to all queries.
_QUERIES_OF_TREE = 1_000

# Log-densities are compared at this number of the queries with the lowest density, and
# of others.
_CHECKED = 100


def normal(n, d, seed=0):
    """Return (n, d) standard normal rows."""
    return np.random.default_rng(seed).standard_normal((n, d))


def heavy_tailed(n, d, seed=0):
    """Return normal rows, a tenth of them with 3 degrees of freedom instead."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    X[: n // 10] = rng.standard_t(3, size=(n // 10, d))
    return X


def _bandwidth(n, d):
    return n ** (-1 / (d + 4))


def exact(options):
    """Compare exact sums with the tree, and with a tree of one leaf."""
    rows = []
    for d in (2, 16):
        n, m = int(50_000 * options.scale), int(5_000 * options.scale)
        X, queries = normal(n, d), normal(m, d, seed=1)
        ours = GaussianKDE(_bandwidth(n, d), algorithm="exact").fit(X)
        theirs = KernelDensity(bandwidth=_bandwidth(n, d)).fit(X)
        one_leaf = KernelDensity(bandwidth=_bandwidth(n, d), leaf_size=n).fit(X)
        some = queries[: max(1, m // 25)]
        away = np.abs(ours.score_samples(some) - one_leaf.score_samples(some)).max()
        rows.append(
            compare(
                f"score {m:,} rows, {n:,} training rows, d={d}, exact",
                "KernelDensity",
                lambda ours=ours, queries=queries: ours.score_samples(queries),
                lambda theirs=theirs, queries=queries: theirs.score_samples(queries),
                lambda a, b, away=away: (
                    f"differ by {np.abs(a - b).max():.0e} nats at most, from a tree of "
                    f"one leaf by {away:.0e}"
                ),
                options.pairs,
            )
        )
    return table(rows)


def millions(options):
    """Compare fits and scores of a million rows with the tree."""
    cases = [
        (1_000_000, 1, normal),
        (1_000_000, 1, heavy_tailed),
        (1_000_000, 2, normal),
        (1_000_000, 2, heavy_tailed),
        (300_000, 3, normal),
        (300_000, 3, heavy_tailed),
    ]
    lines = []
    for n, d, rows in cases:
        n = int(n * options.scale)
        context = multiprocessing.get_context("spawn")
        with context.Pool(1) as pool:  # a process of its own, to see its memory
            answer = pool.apply(_million, (n, d, rows, options.pairs))
        seconds, algorithm, error, memory = answer
        tree = _seconds_of_tree(n, d, rows)
        kind = rows.__name__.replace("_", " ")
        lines.append(
            [
                f"{n:,} x {d}, {kind}",
                algorithm,
                f"{seconds[0]:.2f} s",
                f"{seconds[1]:.2f} s",
                f"{tree / 3600:,.1f} h" if tree > 3600 else f"{tree:,.0f} s",
                f"**{tree / sum(seconds):,.0f}**",
                f"{error:.0e}",
                f"{memory / 2**20:,.0f} MB",
            ]
        )
    heads = ["rows and queries", "sums", "fit", "score", "KernelDensity"]
    heads += ["ratio", "largest error", "peak memory"]
    return paragraphs(
        grid(heads, lines, left=2),
        f"`rtol=1e-6`, the default; medians of {options.pairs} runs. KernelDensity "
        f"with default settings was fitted and scored once at {_QUERIES_OF_TREE:,} of "
        "the queries, and its time was scaled to all queries. Errors are the largest "
        f"ones, in nats, at the {_CHECKED} queries with the lowest density and at "
        f"{_CHECKED} others, against exact sums with `rtol=0`. Memory is the maximum "
        "of a process that generates the rows and the queries, fits and scores.",
    )


def _million(n, d, rows, times):
    """Return median seconds to fit and to score, how, the error and the memory."""
    X, queries = rows(n, d), rows(n, d, seed=1)
    seconds = []
    for _ in range(times):
        start = perf_counter()
        kde = GaussianKDE(_bandwidth(n, d)).fit(X)
        fitted = perf_counter()
        scores = kde.score_samples(queries)
        seconds.append((fitted - start, perf_counter() - fitted))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 2**10
    some = np.r_[np.argsort(scores)[:_CHECKED], np.arange(min(_CHECKED, n))]
    reference = GaussianKDE(_bandwidth(n, d), algorithm="exact", rtol=0).fit(X)
    error = np.abs(scores[some] - reference.score_samples(queries[some])).max()
    return np.median(seconds, axis=0), kde.algorithm_, error, memory


def _seconds_of_tree(n, d, rows):
    """Return the seconds of KernelDensity, in proportion to some queries."""
    X, queries = rows(n, d), rows(n, d, seed=1)
    some = queries[:: -(-n // _QUERIES_OF_TREE)]
    start = perf_counter()
    tree = KernelDensity(bandwidth=_bandwidth(n, d)).fit(X)
    fitted = perf_counter()
    tree.score_samples(some)
    return fitted - start + (perf_counter() - fitted) * n / some.shape[0]


def on_a_grid(options):
    """Compare a million rows at the points of a grid with KDEpy."""
    if find_spec("KDEpy") is None:
        return "KDEpy is not installed."
    from KDEpy import FFTKDE

    n, points = int(1_000_000 * options.scale), 4096
    X = normal(n, 1)
    h = _bandwidth(n, 1)
    queries, _ = FFTKDE(bw=h).fit(X[:, 0]).evaluate(points)
    queries = queries[:, None]
    right = GaussianKDE(h, algorithm="exact", rtol=0).fit(X).score_samples(queries)
    dense = right > right.max() + np.log(1e-6)

    def error(scores):
        return np.abs(scores - right)[dense].max()

    row = compare(
        f"fit {n:,} rows, d=1, score {points:,} points of a grid",
        "KDEpy.FFTKDE",
        lambda: GaussianKDE(h).fit(X).score_samples(queries),
        lambda: np.log(
            np.maximum(FFTKDE(bw=h).fit(X[:, 0]).evaluate(points)[1], 1e-300)
        ),
        lambda a, b: (
            f"largest error in nats where the density is above 1e-6 of its peak: "
            f"{error(a):.0e} against {error(b):.0e}"
        ),
        options.pairs,
    )
    return table([row])


def bandwidth(options):
    """Compare the choice of a bandwidth with a grid search."""
    n, d = int(20_000 * options.scale), 4
    rng = np.random.RandomState(0)
    mixing = rng.standard_normal((d, d))

    def clusters(n):
        X = rng.standard_normal((n, d)) @ mixing
        X[: n // 3] = 0.3 * X[: n // 3] + 4
        return X

    X, held_out = clusters(n), clusters(max(n // 4, 50))
    scale = X.std(axis=0).mean() * _bandwidth(n, d)
    candidates = {"bandwidth": scale * np.geomspace(0.1, 2, 20)}

    def score(a, b):
        ours, theirs = (m.score_samples(held_out).mean() for m in (a, b))
        return f"held-out nats per row: {ours:.3f} and {theirs:.3f}"

    row = compare_once(
        f'choose the bandwidth, {n:,} rows, d={d}: "likelihood"',
        "GridSearchCV, 20 bandwidths, 5 folds, KernelDensity",
        lambda: GaussianKDE("likelihood").fit(X),
        lambda: GridSearchCV(KernelDensity(), candidates).fit(X).best_estimator_,
        score,
    )
    return table([row])


def growth(options):
    """Draw how seconds grow with rows, for several numbers of features."""
    from benchmarks._growth import draw, measure

    seconds = measure(options.scale)
    if options.picture:
        draw(seconds, options.picture)
    most = {d: max(of_d) for d, of_d in seconds.items()}
    lines = [[f"{d}", f"{n:,}", f"{seconds[d][n]:.2f} s"] for d, n in most.items()]
    return paragraphs(
        grid(["features", "rows and queries", "fit and score"], lines),
        "The last point of each line of the picture: standard normal rows, Scott's "
        "bandwidth, the same number of queries and rows, one run.",
    )


PARTS = {
    "exact": ("Exact sums", exact),
    "millions": ("Millions of rows", millions),
    "on_a_grid": ("Points of a grid", on_a_grid),
    "bandwidth": ("Choice of the bandwidth", bandwidth),
    "growth": ("How the cost grows", growth),
}


def _command(part, options):
    """Return the command of a part."""
    command = f"python -m benchmarks.kernel_density {part}"
    if options.scale != 1:
        command += f" --scale {options.scale:g}"
    return command if options.pairs == 5 else f"{command} --pairs {options.pairs}"


def main():
    """Run the parts that the command names, all by default."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kernel_density", description=__doc__
    )
    parser.add_argument("--pairs", type=int, default=5, help="runs of each, in turn")
    parser.add_argument("--picture", metavar="PNG", help="where to draw the growth")
    page = Path(__file__).with_name("kernel_density.md")
    write_sections(parser, PARTS, _command, page)


if __name__ == "__main__":
    main()
