"""How long a kernel density takes, by the number of rows and of features."""

from time import perf_counter

import numpy as np

from skgen import GaussianKDE

# More rows are measured until a fit and its scores take this number of seconds.
_LONGEST = 20.0

_FEATURES = 1, 2, 3, 8, 32


def measure(scale=1.0):
    """Return seconds to fit n rows and score n queries, ``{features: {rows: s}}``."""
    most = int(4_000_000 * scale)
    GaussianKDE().fit(np.arange(10_000.0)[:, None])  # what is loaded on first use
    seconds = {d: {} for d in _FEATURES}
    for d in _FEATURES:
        n = 1000
        while n <= max(most, 1000):
            rng = np.random.default_rng(0)
            X, queries = rng.standard_normal((n, d)), rng.standard_normal((n, d))
            start = perf_counter()
            GaussianKDE().fit(X).score_samples(queries)
            seconds[d][n] = perf_counter() - start
            if seconds[d][n] > _LONGEST:
                break
            n *= 2
    return seconds


def draw(seconds, path):
    """Draw them on logarithmic axes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    colours = plt.colormaps["viridis"](np.linspace(0.05, 0.85, len(seconds)))
    for colour, (d, of_d) in zip(colours, seconds.items(), strict=True):
        n, s = np.array(list(of_d)), np.array(list(of_d.values()))
        axis.loglog(n, s, "o-", color=colour, markersize=4, label=f"{d}")
        axis.annotate(
            f" d = {d}", (n[-1], s[-1]), va="center", color=colour, fontsize=9
        )
    axis.set_xlim(right=axis.get_xlim()[1] * 2)
    axis.set_xlabel("number of training rows and of queries")
    axis.set_ylabel("seconds to fit and score")
    axis.grid(which="major", alpha=0.3)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    figure.savefig(path, dpi=150)
