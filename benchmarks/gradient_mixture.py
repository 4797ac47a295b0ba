"""Mixtures by gradients: held-out likelihood, time to it, low rank, and a stream."""

import gzip
import os
import sys
import warnings
from pathlib import Path
from time import perf_counter

import numpy as np
from sklearn.exceptions import ConvergenceWarning, UndefinedMetricWarning
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback

from benchmarks._harness import Row, compare_once, main
from skgen import (
    EMGaussianMixture,
    SGDGaussianMixture,
    dequantize,
    make_generative_pipeline,
)

# The tables, and whether they lie on a grid.
_TABLES = {"cover": True, "pendigits": True, "satimage-2": True, "mammography": False}


def rows(pairs, scale=1.0):
    """Yield the rows of the table; `scale` shrinks the work for a smoke test."""
    root = os.environ.get("SKGEN_DATA")
    if not root:
        sys.stderr.write("gradient_mixture: SKGEN_DATA is not set, nothing to fit\n")
        return
    root = Path(root)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        seeds = range(5 if scale == 1 else 1)
        for name in _TABLES:
            yield _held_out(name, _table(root, name, scale), seeds)
        yield _time_to_level(_table(root, "cover", scale), scale)
        yield _low_rank(_digits(root, scale), scale)
        yield _stream(_table(root, "cover", scale), seeds)


def _table(root, name, scale):
    """Return shuffled rows of a table, dequantised where they lie on a grid."""
    with np.load(root / "tabular" / f"{name}.npz", allow_pickle=False) as archive:
        X = archive["X"].astype(float)
    if _TABLES[name]:
        X = dequantize(X, random_state=0)
    X = X[np.random.RandomState(0).permutation(X.shape[0])]
    return X[: max(1000, int(scale * X.shape[0]))]


def _split(X, seed):
    X = X[np.random.RandomState(seed).permutation(X.shape[0])]
    return np.split(X, [int(0.8 * X.shape[0])])


def _held_out(name, X, seeds):
    """Fit ten full components to four fifths of the rows, with several seeds."""

    def scores(build):
        found = []
        for seed in seeds:
            training, held_out = _split(X, seed)
            log_density = build(seed).fit(training).score_samples(held_out)
            found.append(log_density.mean())
        return float(np.median(found))

    em = scores(lambda seed: EMGaussianMixture(10, random_state=seed))
    return compare_once(
        f"{len(seeds)} fits, {name}, {X.shape[0]:,} x {X.shape[1]}, K=10, full",
        "GaussianMixture",
        lambda: scores(lambda seed: SGDGaussianMixture(10, random_state=seed)),
        lambda: scores(
            lambda seed: make_generative_pipeline(
                StandardScaler(), GaussianMixture(10, random_state=seed)
            )
        ),
        lambda a, b: (
            f"held-out nats per row, median: {a:.3f}, EMGaussianMixture {em:.3f}, "
            f"GaussianMixture {b:.3f}"
        ),
    )


class Clock(Callback):
    """Note after each epoch how long it took so far, and the held-out likelihood.

    What scoring takes does not count.
    """

    def __init__(self, held_out):
        self.held_out = held_out
        self.model, self.start, self.lost, self.curve = None, None, 0.0, []

    def __deepcopy__(self, memo):
        return self  # what it notes is wanted after the fit

    def on_epoch_end(self, net, **kwargs):
        import torch

        now = perf_counter()
        rows = torch.from_numpy(self.model._encoded(self.held_out))
        nats = -net.mean_loss(rows) - self.model._loss_offset()
        self.curve.append((now - self.start - self.lost, nats))
        self.lost += perf_counter() - now


def _time_to_level(cover, scale):
    """Time both to within 0.05 nats of where scikit-learn's EM ends."""
    K, n = (50, 1_000_000) if scale == 1 else (5, 10_000)
    source = EMGaussianMixture(K, max_iter=30, random_state=0).fit(cover[:100_000])
    X, held_out = np.split(source.sample(n + n // 20, random_state=1), [n])
    scaler = StandardScaler().fit(X)
    Z, Z_held_out = scaler.transform(X), scaler.transform(held_out)
    units = np.log(scaler.scale_).sum()
    theirs = GaussianMixture(K, warm_start=True, max_iter=1, tol=0, random_state=0)
    curve, seconds, before = [], 0.0, -np.inf
    for _ in range(100):
        start = perf_counter()
        theirs.fit(Z)
        seconds += perf_counter() - start
        curve.append((seconds, theirs.score(Z_held_out) - units))
        if theirs.lower_bound_ - before < 1e-3:  # its own rule
            break
        before = theirs.lower_bound_
    end = curve[-1][1]
    clock = Clock(held_out)
    ours = SGDGaussianMixture(K, net_callbacks=[clock], random_state=0)
    clock.model, clock.start = ours, perf_counter()
    ours.fit(X)
    whole = perf_counter() - clock.start - clock.lost
    reached, their_time = (
        next((t for t, nats in c if nats > end - 0.05), np.inf)
        for c in (clock.curve, curve)
    )
    ratio = their_time / reached
    return Row(
        f"to within 0.05 nats of EM's end, {n:,} x 10, K={K}, full",
        "GaussianMixture",
        reached,
        their_time,
        ratio,
        (ratio, ratio),
        f"held-out nats at the end: {ours.score(held_out):.3f} after {whole:.0f} s and "
        f"{ours.n_iter_} epochs, {end:.3f} after {curve[-1][0]:.0f} s and "
        f"{len(curve)} iterations; one run",
    )


def _digits(root, scale):
    """Return MNIST as grey levels with uniform noise: training and held-out rows."""
    rng = np.random.RandomState(0)
    parts = []
    for name in ("train", "t10k"):
        path = root / "mnist" / f"{name}-images-idx3-ubyte.gz"
        pixels = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=16)
        X = pixels.reshape(-1, 784)
        X = X[: max(600, int(scale * X.shape[0]))]
        parts.append((X + rng.uniform(size=X.shape)).astype(np.float32))
    return parts


def _low_rank(parts, scale):
    """Fit low-rank and diagonal mixtures to images."""
    training, held_out = parts
    K, rank = (50, 10) if scale == 1 else (3, 2)

    def ours():
        model = SGDGaussianMixture(
            K, covariance_type="lowrank", rank=rank, random_state=0
        )
        return model.fit(training)

    def described(a, b):
        mine, other = a.score_samples(held_out), b.score_samples(held_out)
        return (
            f"held-out nats per image: mean {mine.mean():.0f} against "
            f"{other.mean():.0f}, median {np.median(mine):.0f} against "
            f"{np.median(other):.0f}"
        )

    return compare_once(
        f"MNIST, {training.shape[0]:,} x 784, K={K}, lowrank of rank {rank}",
        "GaussianMixture, diag",
        ours,
        lambda: GaussianMixture(K, covariance_type="diag", random_state=0).fit(
            training
        ),
        described,
    )


def _stream(X, seeds):
    """Feed a table in blocks, once, and fit it as a whole."""
    training, held_out = np.split(X, [int(0.9 * X.shape[0])])

    def stream(K, seed):
        model = SGDGaussianMixture(K, random_state=seed)
        order = np.random.RandomState(seed).permutation(training.shape[0])
        for block in np.array_split(order, 100 if X.shape[0] > 10_000 else 3):
            model.partial_fit(training[block])
        return model

    def described(a, b):
        gaps = [
            s.score(held_out) - w.score(held_out) for s, w in zip(a, b, strict=True)
        ]
        listed = ", ".join(f"{gap:+.3f}" for gap in gaps)
        return f"held-out nats, stream less whole fit, by seed: {listed}"

    return compare_once(
        f"cover in 100 blocks, once, {training.shape[0]:,} x 10, K=10, full",
        "SGDGaussianMixture.fit",
        lambda: [stream(10, seed) for seed in seeds],
        lambda: [SGDGaussianMixture(10, random_state=s).fit(training) for s in seeds],
        described,
    )


if __name__ == "__main__":
    main(rows, "gradient_mixture")
