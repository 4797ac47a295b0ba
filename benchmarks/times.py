"""Times of fits and answers, of this checkout and of another one in turn.

``python -m benchmarks.times`` prints the seconds of this checkout. ``--against FOLDER``
adds the seconds of another checkout: each runs in a process of its own, in turn, so
that a noisy machine slows both. Seconds are processor time on one thread, the minimum
of the runs. ``--passes`` times single passes of EM over the rows instead: the
difference between fits of six and of two iterations, divided by four.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import warnings
from pathlib import Path
from time import process_time

# Short jobs are repeated until they take this long.
_LEAST_SECONDS = 0.2

# Rows, features and components of the passes, and iterations of the two fits.
_PASSES, _FEW, _MANY = ((100_000, 16, 16), (30_000, 64, 32)), 2, 6

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def jobs(scale):
    """Return pieces of work by name: functions without arguments, ready to be timed."""
    import numpy as np
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    from skgen import (
        VAE,
        AutoEncoder,
        EMGaussianMixture,
        GaussianKDE,
        GenerativeClassifier,
        GenerativePipeline,
        SGDGaussianMixture,
    )

    rng = np.random.RandomState(0)

    def rows(n, d):
        n = max(int(n * scale), 60)
        return rng.standard_normal((n, d)) + 3 * rng.randint(4, size=(n, 1))

    found = {}
    X = rows(50_000, 16)
    for kind in ("full", "tied", "diag", "spherical"):
        em = EMGaussianMixture(
            8, covariance_type=kind, max_iter=5, tol=0, init_params="random_from_data",
            n_init=1, random_state=0,
        )  # fmt: skip
        found[f"EM {kind}, 50,000 x 16, 5 iterations"] = lambda em=em: em.fit(X)
    narrow = rows(2_000, 4)
    em = EMGaussianMixture(5, random_state=0).fit(narrow)
    found["EM, 2,000 x 4, a whole fit"] = lambda: em.fit(narrow)
    found["EM score_samples, 2,000 x 4"] = lambda: em.score_samples(narrow)
    kde = GaussianKDE(algorithm="exact").fit(narrow)
    found["KDE exact, 2,000 x 4"] = lambda: kde.score_samples(narrow)
    plane = rows(100_000, 2)
    fast = GaussianKDE().fit(plane)
    found["KDE of 100,000 x 2"] = lambda: fast.score_samples(plane)
    found["KDE 'likelihood', 2,000 x 4"] = lambda: GaussianKDE("likelihood").fit(narrow)
    sgd = SGDGaussianMixture(4, max_epochs=5, early_stopping=False, random_state=0)
    found["SGD, 2,000 x 4, 5 epochs"] = lambda: sgd.fit(narrow)
    small = {"hidden_layer_sizes": (32,), "max_epochs": 5, "random_state": 0}
    vae, auto = VAE(2, **small).fit(narrow), AutoEncoder(2, **small).fit(narrow)
    found["VAE, 2,000 x 4, 5 epochs"] = lambda: vae.fit(narrow)
    found["VAE score_samples, 200 x 4"] = lambda: vae.score_samples(narrow[:200])
    found["AutoEncoder, 2,000 x 4, 5 epochs"] = lambda: auto.fit(narrow)
    pipe = GenerativePipeline(
        [("s", StandardScaler()), ("p", PCA(2)), ("d", GaussianKDE())]
    )
    found["Pipeline, 2,000 x 4"] = lambda: pipe.fit(narrow).score_samples(narrow)
    labels = np.arange(len(narrow)) % 3
    model = GenerativeClassifier(EMGaussianMixture(2, random_state=0))
    found["Classifier, 2,000 x 4"] = lambda: model.fit(narrow, labels).predict(narrow)
    found["EM, 100 x 2, a small fit"] = lambda: em.__class__(2, random_state=0).fit(
        narrow[:100, :2]
    )
    return found


def passes(scale):
    """Return functions by name that fit a mixture in a number of iterations of EM."""
    import numpy as np

    from skgen import EMGaussianMixture

    found = {}
    for n, d, K in _PASSES:
        rng = np.random.RandomState(0)
        means = 0.5 * rng.standard_normal((K, d))
        X = rng.standard_normal((max(int(n * scale), 4 * K), d))
        X += means[rng.randint(K, size=len(X))]
        eyes = {"full": np.tile(np.eye(d), (K, 1, 1)), "tied": np.eye(d)}
        eyes |= {"diag": np.ones((K, d)), "spherical": np.ones(K)}
        for kind, precisions in eyes.items():
            # Complete initial parameters: no other passes than those of iterations.
            em = EMGaussianMixture(
                K, covariance_type=kind, tol=0.0, weights_init=np.full(K, 1 / K),
                means_init=means + 0.25, precisions_init=precisions,
            )  # fmt: skip
            name = f"EM {kind}, a pass over {n:,} x {d}, K={K}"
            found[name] = lambda n, em=em, X=X: em.set_params(max_iter=n).fit(X)
    return found


def seconds_of_passes(scale, runs):
    """Return the seconds of one pass of each kind of mixture."""
    seconds = {}
    for name, fit in passes(scale).items():
        extra = fit(_MANY).n_iter_ - _FEW
        few, many = (
            min(timed(lambda n=n, fit=fit: fit(n), 1) for _ in range(runs))
            for n in (_FEW, _MANY)
        )
        seconds[name] = (many - few) / extra
    return seconds


def measured(scale, runs):
    """Return the least seconds of each piece of work."""
    seconds = {}
    for name, job in jobs(scale).items():
        job()
        first = timed(job, 1)
        times = max(1, int(_LEAST_SECONDS / first))
        seconds[name] = min(timed(job, times) for _ in range(runs))
    return seconds


def timed(job, times):
    """Return the seconds of the processor for one of several calls in a row."""
    start = process_time()
    for _ in range(times):
        job()
    return (process_time() - start) / times


def seconds_of(folder, options):
    """Run this script on the package of a checkout; return its seconds."""
    command = [sys.executable, __file__, "--json"]
    command += ["--scale", str(options.scale), "--runs", str(options.runs)]
    command += ["--passes"] * options.passes
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    environment |= dict.fromkeys(THREADS, "1")
    output = subprocess.run(
        command, check=True, env=environment, cwd=folder, stdout=subprocess.PIPE
    ).stdout
    return json.loads(output)


def table(ours, theirs):
    """Return rounds of seconds, ours and perhaps another checkout's, as Markdown."""
    lines = ["| work | seconds |", "|---|---:|"]
    if theirs:
        lines = ["| work | before | now | now / before |", "|---|---:|---:|---:|"]
    for name in ours[0]:
        now = min(seconds[name] for seconds in ours)
        if not theirs:
            lines.append(f"| {name} | {now:.4f} |")
            continue
        before = min(seconds[name] for seconds in theirs)
        pairs = zip(ours, theirs, strict=True)
        ratio = statistics.median(a[name] / b[name] for a, b in pairs)
        lines.append(f"| {name} | {before:.4f} | {now:.4f} | {ratio:.2f} |")
    return "\n".join(lines)


def main():
    """Time this checkout, perhaps another one as well, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--against", type=Path, help="the folder of another checkout")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each")
    parser.add_argument("--runs", type=int, default=3, help="runs in a process")
    parser.add_argument("--scale", type=float, default=1.0, help="of the rows")
    parser.add_argument("--passes", action="store_true", help="times of passes of EM")
    parser.add_argument("--json", action="store_true", help="one process, as JSON")
    options = parser.parse_args()
    if options.json:
        warnings.simplefilter("ignore")
        work = seconds_of_passes if options.passes else measured
        sys.stdout.write(json.dumps(work(options.scale, options.runs)))
        return
    here = Path(__file__).resolve().parent.parent
    ours, theirs = [], []
    for _ in range(options.rounds):
        ours.append(seconds_of(here, options))
        if options.against:
            theirs.append(seconds_of(options.against.resolve(), options))
    sys.stdout.write(table(ours, theirs) + "\n")


if __name__ == "__main__":
    main()
