"""Normalizing flows on tables, against zuko's spline flow and Gaussian mixtures.

``python -m benchmarks.flows [PART ...]`` writes one section for each table, and one for
the time of training; the others stay in the file. Data are found through `SKGEN_DATA`.
zuko is compared if installed.
"""

import argparse
import copy
import multiprocessing
import resource
import warnings
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from time import process_time

import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_digits

from benchmarks._sections import (
    data,
    grid,
    paragraphs,
    say,
    share,
    write_sections,
)
from skgen import EMGaussianMixture, NormalizingFlow, dequantize
from skgen.flow._transforms import Flow, build_transforms

# Maximum number of rows of a table, and numbers of components that are tried.
_ROWS, _COMPONENTS = 40_000, (1, 2, 5, 10, 20, 40, 60)


# Number of rows from which only the default flow is compared.
_MANY = 4_000

# Tables of which rows with equal values in the first columns stay in one part.
_TOGETHER = {"concrete-mixes": ("concrete", 7)}


def load(name, options):
    """Return training, held-out and test rows: dequantised and standardised."""
    name, n_equal = _TOGETHER.get(name, (name, None))
    if name == "digits":
        X = load_digits().data
    elif (file := data("tabular", f"{name}.npz")).exists():
        with np.load(file, allow_pickle=False) as archive:
            X = archive["X"].astype(np.float64)
    else:
        X = pd.read_csv(data("uci", f"{name}.csv.gz"), header=None).to_numpy(float)
    rng = np.random.default_rng(0)
    X = X[rng.permutation(len(X))[: share(_ROWS, options, 400)]]
    if n_equal:
        groups = np.unique(X[:, :n_equal], axis=0, return_inverse=True)[1].ravel()
        places = rng.permutation(groups.max() + 1)
        X = X[np.argsort(places[groups], kind="stable")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        X = dequantize(X[:, X.std(axis=0) > 0], random_state=0)
    first, second = int(0.8 * len(X)), int(0.9 * len(X))
    X = (X - X[:first].mean(axis=0)) / X[:first].std(axis=0)
    return X[:first], X[first:second], X[second:]


def of_flow(parts, epochs, **parameters):
    """Return the test score of our flow; it holds out a tenth of its rows itself."""
    train, held_out, test = parts
    flow = NormalizingFlow(max_epochs=epochs, random_state=0, **parameters)
    return flow.fit(np.vstack([train, held_out])).score(test)


def of_mixture(parts, epochs):
    """Return the test score of a mixture; held-out rows choose its size."""
    train, held_out, test = parts
    fits = [EMGaussianMixture(k, random_state=0).fit(train) for k in _COMPONENTS]
    return max(fits, key=lambda fit: fit.score(held_out)).score(test)


def of_zuko(parts, epochs):
    """Return the test score of zuko's NSF after the best epoch for held-out rows."""
    import zuko

    train, held_out, test = (torch.tensor(X, dtype=torch.float32) for X in parts)
    torch.manual_seed(0)
    flow = zuko.flows.NSF(
        train.shape[1], transforms=3, hidden_features=(128, 128), bins=8
    )
    adam = torch.optim.Adam(flow.parameters(), lr=1e-3)
    n_steps = epochs * -(-len(train) // 256)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, n_steps)
    best, kept = -np.inf, None
    for _ in range(epochs):
        for rows in torch.randperm(len(train)).split(256):
            loss = -flow().log_prob(train[rows]).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
            schedule.step()
        with torch.no_grad():
            score = float(flow().log_prob(held_out).mean())
        if score > best:
            best, kept = score, copy.deepcopy(flow.state_dict())
    flow.load_state_dict(kept)
    with torch.no_grad():
        return float(flow().log_prob(test).mean())


MODELS = {
    "NormalizingFlow()": of_flow,
    "NormalizingFlow(base='normal')": partial(of_flow, base="normal"),
    "NormalizingFlow(base='mixture')": partial(of_flow, base="mixture"),
    "NormalizingFlow(autoregressive=False)": partial(of_flow, autoregressive=False),
    "EMGaussianMixture, number of components chosen": of_mixture,
    "zuko's NSF": of_zuko,
}
_VARIANTS = list(MODELS)[1:4]


def table(name, options):
    """Return the section of one table."""
    parts, lines = load(name, options), []
    torch.set_num_threads(1)
    for model, score in MODELS.items():
        if model.startswith("zuko") and not find_spec("zuko"):
            continue
        if model in _VARIANTS and sum(map(len, parts)) >= _MANY:
            continue
        start = process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            nats = score(parts, share(60, options, 2))
        lines.append([model, f"{nats:.2f}", f"{process_time() - start:.0f}"])
        say(f"{name} {' '.join(lines[-1])}")
    rows, features = parts[0].shape
    return paragraphs(
        f"Mean log-density of {len(parts[2]):,} test rows in nats, after "
        f"{rows:,} training and {len(parts[1]):,} held-out rows of {features} "
        "features, dequantised and standardised. Processor time of fit and score.",
        grid(["model", "nats", "CPU seconds"], lines),
    )


def bent(n, d=10):
    """Return float32 rows whose features depend on the squares of others."""
    X = np.random.default_rng(0).standard_normal((n, d)).astype(np.float32)
    X[:, 1:] += 0.5 * X[:, :-1] ** 2
    return X


def by_estimator(X):
    """Train our flow for an epoch."""
    given = {"base": "normal", "early_stopping": False, "random_state": 0}
    NormalizingFlow(max_epochs=1, **given).fit(X)


def by_hand(X):
    """Train the module of our flow for an epoch, without any library."""
    flow = Flow(build_transforms(X.shape[1], 3, True, (128, 128), 8, 5.0, 0.1))
    adam = torch.optim.Adam(flow.parameters(), lr=5e-3, fused=True)
    n_steps = -(-len(X) // 256)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, n_steps)
    X = torch.from_numpy((X - X.mean(axis=0)) / X.std(axis=0))
    rows = torch.cat([X, torch.zeros(len(X), 1)], dim=1)
    for batch in torch.randperm(len(X)).split(256):
        adam.zero_grad()
        flow(rows[batch]).backward()
        adam.step()
        schedule.step()


def cost(train, n):
    """Return the processor time of training on n rows, and the peak memory in MiB."""
    torch.set_num_threads(1)
    X = bent(n)
    start = process_time()
    train(X)
    seconds = process_time() - start
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def training(options):
    """Return the time and memory of training beside a loop by hand."""
    n, costs = share(1_000_000, options, 1_000), []
    for train in (by_estimator, by_hand):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            costs.append(pool.apply(cost, (train, n)))
        say(f"{train.__name__} {costs[-1]}")
    names = ["NormalizingFlow(base='normal').fit, nothing held out", "loop by hand"]
    lines = [
        [name, f"{seconds:.0f}", f"{mebibytes:,.0f}"]
        for name, (seconds, mebibytes) in zip(names, costs, strict=True)
    ]
    lines.append(["ratio", *(f"{a / b:.2f}" for a, b in zip(*costs, strict=True))])
    return paragraphs(
        f"One epoch over {n:,} rows of 10 features, in batches of 256, one thread, "
        "each in its own process. The loop by hand trains the same module.",
        grid(["", "CPU seconds", "peak memory, MiB"], lines),
    )


TABLES = ("digits", "mammography", "satimage-2", "cover")
TABLES += ("concrete", "concrete-mixes", "wine", "parkinsons", "pol", "kin40k")
PARTS = {name: (name, partial(table, name)) for name in TABLES}
PARTS["training"] = ("training", training)


def _command(part, options):
    """Return the command of a part."""
    command = f"python -m benchmarks.flows {part}"
    return command if options.scale == 1 else f"{command} --scale {options.scale:g}"


def main():
    """Run the tables that the command names, all by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flows")
    write_sections(parser, PARTS, _command, Path(__file__).with_name("flows.md"))


if __name__ == "__main__":
    main()
