"""Kernel densities of rows with missing values, against complete rows alone.

``python -m benchmarks.incomplete_kde [TABLE ...]`` writes one section for each table;
the others stay in the file. Data are found through `SKGEN_DATA`.
"""

import argparse
import warnings
from functools import partial
from pathlib import Path
from time import process_time

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer, load_iris, load_wine

from benchmarks._sections import data, grid, paragraphs, say, share, write_sections
from skgen import GaussianKDE, dequantize

# Maximum number of rows of a table, and splits of each.
_ROWS, _SPLITS = 1500, 3

_BUNDLED = {
    "iris": load_iris,
    "chemistry of wine": load_wine,
    "breast cancer": load_breast_cancer,
}
_HEADS = "bandwidth", "missing", "complete", "complete rows alone", "with NaN"
_HEADS += "complete rows", "CPU seconds"
_MECHANISMS = "5 %", "20 %", "50 %", "at random"


def load(name, rng):
    """Return rows, shuffled, dequantised and standardised."""
    if name in _BUNDLED:
        X = _BUNDLED[name]().data[:, :13]
    else:
        X = pd.read_csv(data("uci", f"{name}.csv.gz"), header=None).to_numpy(float)
    X = X[rng.permutation(len(X))[:_ROWS]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        X = dequantize(X[:, X.std(axis=0) > 0], random_state=0)
    return (X - X.mean(axis=0)) / X.std(axis=0)


def with_holes(X, mechanism, rng):
    """Return rows with missing values; every row keeps at least one value.

    "at random" hides the second half of the features, with a probability that rises
    with the mean of the first half.
    """
    if mechanism == "at random":
        half = X.shape[1] // 2
        known = X[:, :half].mean(axis=1)
        p = 0.6 / (1 + np.exp(-2 * (known - known.mean()) / known.std()))
        p = np.where(np.arange(X.shape[1]) < half, 0.0, p[:, None])
    else:
        p = float(mechanism.split()[0]) / 100
    missing = rng.uniform(size=X.shape) < p
    missing[missing.all(axis=1), 0] = False
    return np.where(missing, np.nan, X)


def table(name, options):
    """Return the section of one table."""
    lines = []
    for bandwidth in ("scott", "likelihood"):
        for mechanism in _MECHANISMS:
            scores, seconds, n_complete = [], 0.0, 0
            for seed in range(share(_SPLITS, options, 1)):
                rng = np.random.RandomState(seed)
                X = load(name, rng)
                test, train = np.split(X, [len(X) // 4])
                holes = with_holes(train, mechanism, rng)
                cases = holes[~np.isnan(holes).any(axis=1)]
                n_complete += len(cases)
                row = []
                for rows in (train, cases, holes):
                    start = process_time()
                    enough = len(rows) > X.shape[1] + 1
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        row.append(
                            GaussianKDE(bandwidth).fit(rows).score(test)
                            if enough
                            else np.nan
                        )
                    seconds += (process_time() - start) * (rows is holes)
                scores.append(row)
            means = [f"{mean:.2f}" for mean in np.mean(scores, axis=0)]
            n = len(scores)
            cost = f"{n_complete / n:.0f}", f"{seconds / n:.1f}"
            lines.append([bandwidth, mechanism, *means, *cost])
            say(f"{name} {' '.join(lines[-1])}")
    return paragraphs(
        f"{len(train):,} training rows and {len(test):,} test rows of {X.shape[1]} "
        "features, dequantised and standardised.",
        grid(
            _HEADS,
            [[cell.replace("nan", "-") for cell in line] for line in lines],
            left=2,
        ),
    )


TABLES = (*_BUNDLED, "concrete", "wine")
PARTS = {name.replace(" ", "-"): (name, partial(table, name)) for name in TABLES}


def _command(part, options):
    """Return the command of a part."""
    command = f"python -m benchmarks.incomplete_kde {part}"
    return command if options.scale == 1 else f"{command} --scale {options.scale:g}"


def main():
    """Run the tables that the command names, all by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.incomplete_kde")
    page = Path(__file__).with_name("incomplete_kde.md")
    write_sections(parser, PARTS, _command, page)


if __name__ == "__main__":
    main()
