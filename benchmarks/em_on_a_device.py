"""One iteration of EM on a device, as a share of what its arithmetic allows.

``python -m benchmarks.em_on_a_device --device cuda`` times ten iterations on 10 million
rows of 64 features in float32, K=64, "full". The limit is the rate of one large product
of float32 matrices, without TF32, times the multiplications and additions that an
iteration by products cannot avoid.
"""

import argparse
import time

import numpy as np
import torch

from skgen._torch import without_tf32
from skgen.mixture._backend import TorchBackend
from skgen.mixture._covariance import COVARIANCES, Parameters
from skgen.mixture._pass import Family
from skgen.mixture._problem import DeviceProblem

_ITERATIONS = 10


def problem_of(n, d, K, backend):
    """Return rows from K clusters of different shapes on the device, and a start."""
    rng = np.random.RandomState(0)
    means = 0.5 * rng.standard_normal((K, d))
    mixing = 0.5 * rng.standard_normal((K, d, d)) / np.sqrt(d) + np.eye(d)

    def read(rows):
        rng = np.random.RandomState(rows.start)
        X = rng.standard_normal((rows.stop - rows.start, d))
        for k in range(K):
            X[k::K] = X[k::K] @ mixing[k] + means[k]
        return X / 1.3

    covariance = COVARIANCES["full"]
    family = Family(covariance, 1e-6, np.zeros(d, dtype=bool))
    rows = backend.hold(read, np.ones(n))
    unit = covariance.unit(K, d)
    start = Parameters(np.full(K, 1 / K), means + 0.25, unit, covariance.factors(unit))
    return DeviceProblem(rows, family, backend), start


def iterations(problem, parameters):
    """Return the seconds of every iteration, and of its pass over the rows."""
    wholes, passes = [], []
    collected = problem.statistics(parameters, 1e7)
    for _ in range(_ITERATIONS):
        start = time.perf_counter()
        parameters, _ = problem.maximise(collected, parameters)
        before = time.perf_counter()
        collected = problem.statistics(parameters, 1e7)
        end = time.perf_counter()
        wholes.append(end - start)
        passes.append(end - before)
    return wholes, passes


def product_rate(backend, size=8192):
    """Return the operations in a second of one large product of matrices."""
    a = torch.rand(size, size, device=backend.device)
    seconds = []
    with without_tf32():
        for _ in range(5):
            start = time.perf_counter()
            (a @ a)[0, 0].item()
            seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


def main():
    """Time the work that the command names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--components", type=int, default=64)
    parser.add_argument("--size", type=int, default=8192, help="of the one product")
    given = parser.parse_args()
    backend = TorchBackend(torch.device(given.device), single=True)
    n, d, K = given.rows, given.features, given.components
    wholes, passes = iterations(*problem_of(n, d, K, backend))
    p = 1 + d + d * (d + 1) // 2
    limit = 4 * n * K * p / product_rate(backend, given.size)
    print(f"{n:,} x {d}, K={K}, full, float32, on {given.device}")
    print(f"an iteration   {np.median(wholes):.4f} s, {limit / np.median(wholes):.0%}")
    print(f"its pass       {np.median(passes):.4f} s, {limit / np.median(passes):.0%}")
    print(f"the arithmetic {limit:.4f} s")


if __name__ == "__main__":
    main()
