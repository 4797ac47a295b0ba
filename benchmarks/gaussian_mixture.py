"""EM against scikit-learn's, pomegranate's and Spark's, from a file and on Dask.

``python -m benchmarks.gaussian_mixture [PART ...]`` writes one section for each part;
the sections of other parts stay in the file.
"""

import argparse
import os
import warnings
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler

from benchmarks._harness import compare, table, timed
from benchmarks._iterations import (
    apart,
    clusters,
    counts,
    how,
    in_turn,
    ratios,
    seconds,
    start,
)
from benchmarks._mixture_peers import peers
from benchmarks._out_of_core import disk, on_workers
from benchmarks._sections import data, grid, paragraphs, say, share, write_sections
from skgen import EMGaussianMixture, dequantize

_SHAPES = [
    *((200_000, 16, 16, kind) for kind in ("full", "tied", "diag", "spherical")),
    *((100_000, 64, 32, kind) for kind in ("full", "tied", "diag")),
]


def iterations(options):
    """Compare an iteration with one of scikit-learn's, from one start."""
    lines = []
    for n, d, K, covariance_type in _SHAPES:
        n = max(int(n * options.scale), 200 * K)  # fewer have no covariance each
        X, means = clusters(n, d, K)
        first = start(means, covariance_type)

        def fit(model, X=X, K=K, first=first):
            return lambda max_iter: model(K, max_iter=max_iter, **first).fit(X)

        fits = [fit(EMGaussianMixture), fit(GaussianMixture)]
        ours, theirs = in_turn(fits, options.pairs, *counts(options))
        work = f"{n:,} x {d}, K={K}, {covariance_type}"
        ratio = ratios(ours.iteration, theirs.iteration)
        say(f"{work}: {ratio}")
        lines.append(
            [
                work,
                seconds(ours.iteration),
                seconds(theirs.iteration),
                *ratio,
                seconds(ours.rest),
                seconds(theirs.rest),
                apart(ours.fitted, theirs.fitted),
            ]
        )
    heads = ["rows", "skgen", "GaussianMixture", "ratio", "pairs"]
    heads += ["rest of skgen's fit", "rest of GaussianMixture's fit", "answers"]
    return paragraphs(
        grid(heads, lines),
        how(*counts(options)) + " Both libraries have the same `weights_init`, "
        "`means_init` and `precisions_init`, `reg_covar=0`, `tol=0`, and float64. "
        f"Medians of {options.pairs} fits of each, in turn; *ratio* is the ratio of "
        "the medians, and *pairs* are the smallest and the largest ratio of a pair. "
        "Near the optimum, skgen takes longer steps than EM. With 64 features and "
        "full covariances this may include the last step, so the means differ by the "
        "remaining distance to the optimum.",
    )


def cover(options):
    """Compare whole fits of a real table, by default settings, for several seeds."""
    if not os.environ.get("SKGEN_DATA"):
        return "SKGEN_DATA is not set, nothing to fit."
    with np.load(data("tabular", "cover.npz"), allow_pickle=False) as archive:
        X = dequantize(archive["X"].astype(float), random_state=0)
    X = StandardScaler().fit_transform(X)
    some = np.random.RandomState(0).permutation(len(X))[: share(len(X), options, 1000)]
    X, K = X[np.sort(some)], 20
    models = [EMGaussianMixture, GaussianMixture]
    for model in models:  # not counted
        model(K, max_iter=1, random_state=0).fit(X[:1000])
    taken, scores, lines = [], [], []
    for seed in range(5 if options.scale == 1 else 1):
        runs = [timed(partial(_fit, m, K, seed, X)) for m in models]
        fitted = [model for _, model in runs]
        taken.append([took for took, _ in runs])
        scores.append([model.score(X) for model in fitted])
        counts = [f"{model.n_iter_}" for model in fitted]
        lines.append(_line_of_cover(f"{seed}", taken[-1], scores[-1], counts))
        say(f"seed {seed}: {lines[-1]}")
    totals = np.sum(taken, axis=0), np.mean(scores, axis=0)
    lines.append(_line_of_cover("all", *totals, ["", ""]))
    heads = ["seed", "skgen", "GaussianMixture", "ratio", "iterations, skgen"]
    heads += ["GaussianMixture", "nats per row, skgen", "GaussianMixture", "difference"]
    return paragraphs(
        grid(heads, lines),
        f"cover, {X.shape[0]:,} x {X.shape[1]}, dequantised and standardised, K={K}, "
        "full, default settings except `random_state`. The two libraries take turns, "
        "with one fit for each seed. Log-likelihoods are means over the training "
        "rows. The last line has the sums of the times and the means of the "
        "log-likelihoods.",
    )


def _fit(model, K, seed, X):
    return model(K, random_state=seed).fit(X)


def _line_of_cover(name, taken, scores, counts):
    (ours, theirs), (score, their_score) = taken, scores
    return [
        name,
        f"{ours:.3g} s",
        f"{theirs:.3g} s",
        f"**{theirs / ours:.1f}**",
        *counts,
        f"{score:.4f}",
        f"{their_score:.4f}",
        f"{score - their_score:+.4f}",
    ]


def small(options):
    """Compare whole fits of few rows, by default settings."""
    rows = []
    for n in (20_000, 1_000):
        n, K = max(int(n * options.scale), 100), 5
        X, _ = clusters(n, 2, K)
        rows.append(
            compare(
                f"whole fit, {n:,} x 2, K={K}, defaults",
                "GaussianMixture",
                lambda X=X, K=K: EMGaussianMixture(K, random_state=0).fit(X),
                lambda X=X, K=K: GaussianMixture(K, random_state=0).fit(X),
                lambda a, b, X=X: (
                    f"nats per row: {a.score(X):.3f} after {a.n_iter_} iterations, "
                    f"{b.score(X):.3f} after {b.n_iter_}"
                ),
                options.pairs,
            )
        )
    return paragraphs(
        table(rows),
        f"Medians of {options.pairs} runs of each, in turn, after one untimed run. "
        "*pairs* are the smallest and the largest ratio of a pair.",
    )


PARTS = {
    "iterations": ("An iteration", iterations),
    "peers": ("An iteration, other peers", peers),
    "cover": ("Whole fits of a real table", cover),
    "small": ("Whole fits of few rows", small),
    "disk": ("Rows of a file", disk),
    "dask": ("Rows on Dask's workers", on_workers),
}


def _command(part, options):
    """Return the command of a part."""
    command = f"python -m benchmarks.gaussian_mixture {part}"
    if options.scale != 1:
        command += f" --scale {options.scale:g}"
    return command if options.pairs == 5 else f"{command} --pairs {options.pairs}"


def main():
    """Run the parts that the command names, all by default."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gaussian_mixture", description=__doc__
    )
    parser.add_argument("--pairs", type=int, default=5, help="runs of each, in turn")
    page = Path(__file__).with_name("gaussian_mixture.md")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a dozen iterations
        write_sections(parser, PARTS, _command, page)


if __name__ == "__main__":
    main()
