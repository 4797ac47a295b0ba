"""Flows and diffusion models on tables, against zuko's spline flow and mixtures.

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
from skgen import DiffusionModel, EMGaussianMixture, NormalizingFlow, dequantize
from skgen.flow._transforms import Flow, build_transforms

# Maximum number of rows of a table, and numbers of components that are tried.
_ROWS, _COMPONENTS = 40_000, (1, 2, 5, 10, 20, 40, 60)

# Number of rows that are scored for the time of scores.
_SCORED = 1_000

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


def flow(parts, share_of, **parameters):
    """Return our flow; it holds out a tenth of its rows itself."""
    model = NormalizingFlow(max_epochs=share_of(60), random_state=0, **parameters)
    return model.fit(np.vstack(parts[:2]))


def diffusion(parts, share_of):
    """Return a diffusion model; it holds out a tenth of its rows itself."""
    model = DiffusionModel(max_epochs=share_of(300), random_state=0)
    return model.fit(np.vstack(parts[:2]))


def mixture(parts, share_of):
    """Return a mixture; held-out rows choose its size."""
    train, held_out, _ = parts
    fits = [EMGaussianMixture(k, random_state=0).fit(train) for k in _COMPONENTS]
    return max(fits, key=lambda fit: fit.score(held_out))


class Zuko:
    """zuko's NSF after the best epoch for held-out rows."""

    def __init__(self, parts, share_of):
        import zuko

        train, held_out = (torch.tensor(X, dtype=torch.float32) for X in parts[:2])
        torch.manual_seed(0)
        self.flow = zuko.flows.NSF(
            train.shape[1], transforms=3, hidden_features=(128, 128), bins=8
        )
        adam = torch.optim.Adam(self.flow.parameters(), lr=1e-3)
        epochs = share_of(60)
        n_steps = epochs * -(-len(train) // 256)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, n_steps)
        best, kept = -np.inf, None
        for _ in range(epochs):
            for rows in torch.randperm(len(train)).split(256):
                loss = -self.flow().log_prob(train[rows]).mean()
                adam.zero_grad()
                loss.backward()
                adam.step()
                schedule.step()
            score = self.score(held_out)
            if score > best:
                best, kept = score, copy.deepcopy(self.flow.state_dict())
        self.flow.load_state_dict(kept)

    def score(self, X):
        """Return the mean log-density of rows (n, d)."""
        X = torch.as_tensor(X, dtype=torch.float32)
        with torch.no_grad():
            return float(self.flow().log_prob(X).mean())


MODELS = {
    "NormalizingFlow()": flow,
    "NormalizingFlow(base='normal')": partial(flow, base="normal"),
    "NormalizingFlow(base='mixture')": partial(flow, base="mixture"),
    "NormalizingFlow(autoregressive=False)": partial(flow, autoregressive=False),
    "DiffusionModel()": diffusion,
    "EMGaussianMixture, number of components chosen": mixture,
    "zuko's NSF": Zuko,
}
_VARIANTS = list(MODELS)[1:4]


def table(name, options):
    """Return the section of one table."""
    parts, lines, start_of = load(name, options), [], ""
    test, share_of = parts[2], partial(share, options=options, least=2)
    torch.set_num_threads(1)
    for label, fit in MODELS.items():
        if label.startswith("zuko") and not find_spec("zuko"):
            continue
        if label in _VARIANTS and sum(map(len, parts)) >= _MANY:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            start = process_time()
            model = fit(parts, share_of)
            fitted = process_time() - start
            nats, start = model.score(test), process_time()
            model.score(np.resize(test, (_SCORED, test.shape[1])))
        seconds = [f"{fitted:.0f}", f"{process_time() - start:.2g}"]
        lines.append([label, f"{nats:.2f}", *seconds])
        if isinstance(model, DiffusionModel):
            base = "splines" if model.base_ == "spline" else "a flow"
            start_of = f" Held-out rows chose {base} as start of the diffusion model."
        say(f"{name} {' '.join(lines[-1])}")
    rows, features = parts[0].shape
    return paragraphs(
        f"Mean log-density of {len(test):,} test rows in nats, after {rows:,} training "
        f"and {len(parts[1]):,} held-out rows of {features} features, dequantised and "
        f"standardised. Processor time of the fit, and of the scores of {_SCORED:,} "
        f"rows.{start_of}",
        grid(["model", "nats", "seconds, fit", "seconds, scores"], lines),
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
