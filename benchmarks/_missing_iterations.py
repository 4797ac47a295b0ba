"""CPU seconds of an EM iteration on incomplete rows, against the complete rows."""

import time
import warnings

import numpy as np

from benchmarks._sections import grid, paragraphs, share
from skgen import EMGaussianMixture

# Features, components, and fractions of the entries that are missing at random.
_D, _K, _FRACTIONS = 10, 10, (0.02, 0.2, 0.6)
_TYPES = ("full", "block", "tied", "diag", "spherical")

# Groups of correlated features for "block".
_BLOCKS = [range(0, 5), range(5, 10)]

# Number of iterations of a fit, and number of fits of each, in turn.
_ITERATIONS, _REPETITIONS = 10, 3


def _truth(rng):
    """Return a mixture with overlapping components."""
    roots = np.eye(_D) + 0.3 * rng.normal(size=(_K, _D, _D))
    means = 1.5 * rng.normal(size=(_K, _D))
    weights = np.full(_K, 1 / _K)
    return EMGaussianMixture.from_parameters(weights, means, roots @ roots.mT)


def _started(kind, truth):
    """Return a mixture that starts at the given means, so that no start is timed."""
    precisions = {
        "full": np.tile(np.eye(_D), (_K, 1, 1)),
        "block": np.tile(np.eye(_D), (_K, 1, 1)),
        "tied": np.eye(_D),
        "diag": np.ones((_K, _D)),
        "spherical": np.ones(_K),
    }[kind]
    return EMGaussianMixture(
        _K,
        covariance_type=kind,
        blocks=[list(block) for block in _BLOCKS] if kind == "block" else None,
        tol=0.0,
        weights_init=truth.weights_,
        means_init=truth.means_,
        precisions_init=precisions,
    )


def _seconds(model, X, max_iter):
    """Return the CPU seconds of a fit, and its iterations."""
    start = time.process_time()
    model.set_params(max_iter=max_iter).fit(X)
    return time.process_time() - start, model.n_iter_


def _of_an_iteration(model, X):
    """Return the CPU seconds of one iteration: a long fit less a fit without any."""
    none, _ = _seconds(model, X, 0)
    all_of_them, n = _seconds(model, X, _ITERATIONS)
    return (all_of_them - none) / n


def iterations(options):
    """Return the section on iterations as Markdown."""
    rng = np.random.RandomState(0)
    truth, n = _truth(rng), share(50_000, options, 2_000)
    X = truth.sample(n, random_state=0)
    lines = []
    for kind in _TYPES:
        for fraction in _FRACTIONS:
            holes = np.where(rng.uniform(size=X.shape) < fraction, np.nan, X)
            n_patterns = len(np.unique(np.isnan(holes), axis=0))
            model = _started(kind, truth)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                pairs = [
                    [_of_an_iteration(model, rows) for rows in (X, holes)]
                    for _ in range(_REPETITIONS)
                ]
            complete, incomplete = np.median(pairs, axis=0)
            lines.append(
                [
                    f'"{kind}"',
                    f"{fraction:.0%}",
                    f"{n_patterns}",
                    f"{1e3 * complete:.1f} ms",
                    f"{1e3 * incomplete:.1f} ms",
                    f"**{incomplete / complete:.1f}**",
                ]
            )
    heads = ["type", "missing", "patterns", "complete", "incomplete", "ratio"]
    return paragraphs(
        f"CPU time of one EM iteration: {n:,} rows of {_D} features, {_K} components, "
        "entries missing completely at random, against an iteration on the same rows "
        f"without missing entries. Medians of {_REPETITIONS} fits of {_ITERATIONS} "
        "iterations each, in turn, less the time of a fit without iterations.",
        grid(heads, lines),
    )
