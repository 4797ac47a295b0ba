"""Few labels: test error and held-out nats of the models that learn from them.

``python -m benchmarks.labels [PART ...]`` writes one section for each part; the others
stay in the file. MNIST is found through `SKGEN_DATA`.
"""

import argparse
import warnings
from pathlib import Path
from time import process_time

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier

from benchmarks._sections import (
    grid,
    mnist_images,
    paragraphs,
    say,
    share,
    write_sections,
)
from skgen import (
    SWAE,
    VAE,
    AutoEncoder,
    ClassSupervisedAutoEncoder,
    EMGaussianMixture,
    GaussianKDE,
    GenerativeClassifier,
    SemiSupervisedSWAE,
    SemiSupervisedVAE,
    dequantize,
)

_LABELS = 5  # for each class of a small table


def balanced(y, n_labels, seed):
    """Return labels (n,) with -1 for all but `n_labels` random rows of each class."""
    rng, few = np.random.RandomState(seed), np.full(y.size, -1)
    for label in np.unique(y):
        rows = rng.choice(np.flatnonzero(y == label), n_labels, replace=False)
        few[rows] = label
    return few


# -- small tables ------------------------------------------------------------------


def tables(options):
    """Return the accuracy with five labels for each class of three tables."""
    n_seeds = share(5, options, 1)
    found = {}
    for table, load in _TABLES.items():
        X, y = load()
        for seed in range(n_seeds):
            parts = train_test_split(X, y, test_size=0.3, random_state=0, stratify=y)
            few = balanced(parts[2], _LABELS, seed)
            for name, model in _models(options, seed).items():
                start = process_time()
                wrong = _error(model, *parts, few)
                entry = found.setdefault(name, {}).setdefault(table, [])
                entry.append((wrong, process_time() - start))
                say(f"{table} {seed} {name} {100 * wrong:.1f} %")
    heads = ["model", *(f"{t}: error in %" for t in _TABLES), "CPU seconds, digits"]
    lines = []
    for name, by_table in found.items():
        errors = [100 * np.array([wrong for wrong, _ in e]) for e in by_table.values()]
        seconds = np.mean([s for _, s in by_table["digits"]])
        spread = [f"{e.mean():.1f} ± {e.std():.1f}" for e in errors]
        lines.append([name, *spread, f"{seconds:.1f}"])
    return paragraphs(
        f"Error for held-out rows (30 %) with {_LABELS} labels for each class: mean "
        f"and deviation over {n_seeds} subsets of labels. Rows without labels are "
        "training rows of all models but the last two. Parameters are the same for all "
        "tables. Autoencoders have 100 epochs and classify by their encoder.",
        grid(heads, lines),
    )


def _digits():
    X, y = load_digits(return_X_y=True)
    return dequantize(X[:, X.std(axis=0) > 0], random_state=0) / 16, y


def _standardized(load):
    def table():
        X, y = load(return_X_y=True)
        X = dequantize(X, random_state=0)
        return (X - X.mean(axis=0)) / X.std(axis=0), y

    return table


_TABLES = {
    "digits": _digits,
    "breast cancer": _standardized(load_breast_cancer),
    "wine": _standardized(load_wine),
}


def _models(options, seed):
    """Return the models by name, for a subset of labels."""
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    ours = {
        "max_epochs": share(100, options, 3),
        "classify_by": "encoder",
        "random_state": seed,
    }
    return {
        '`SemiSupervisedVAE(8, noise_covariance="spherical")`': SemiSupervisedVAE(
            8, noise_covariance="spherical", **ours
        ),
        "`SemiSupervisedVAE(8)`": SemiSupervisedVAE(8, **ours),
        "`SemiSupervisedSWAE(8)`": SemiSupervisedSWAE(8, **ours),
        "`ClassSupervisedAutoEncoder(8)`": ClassSupervisedAutoEncoder(8, **ours),
        "`LabelSpreading`, 7 neighbours": LabelSpreading("knn", n_neighbors=7),
        "`SelfTrainingClassifier`, logistic": SelfTrainingClassifier(linear),
        "logistic regression, labels alone": linear,
        "`GenerativeClassifier(GaussianKDE())`, labels alone": GenerativeClassifier(
            GaussianKDE(covariance_type="spherical")
        ),
    }


def _error(model, X, held_out, y, true, few):
    """Return the error for held-out rows of a model fitted to few labels."""
    semi = hasattr(model, "classify_by") or "semi_supervised" in type(model).__module__
    known = slice(None) if semi else few >= 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float((model.fit(X[known], few[known]).predict(held_out) != true).mean())


# -- density -----------------------------------------------------------------------


def density(options):
    """Return held-out nats and errors on digits, beside the unsupervised models."""
    X, y = load_digits(return_X_y=True)
    X = dequantize(X[:, X.std(axis=0) > 0], random_state=0)
    parts = train_test_split(X, y, test_size=500, random_state=0, stratify=y)
    training, held_out, y, true = parts
    some = share(200, options, 20)
    few = balanced(y, _LABELS, 0)
    lines = []
    for kind, labels in (
        (AutoEncoder, None),
        (ClassSupervisedAutoEncoder, y),
        (SWAE, None),
        (SemiSupervisedSWAE, few),
        (SemiSupervisedSWAE, y),
        (VAE, None),
        (SemiSupervisedVAE, few),
        (SemiSupervisedVAE, y),
    ):
        start = process_time()
        model = kind(8, max_epochs=share(100, options, 3), random_state=0)
        model.fit(training, labels)
        seconds = process_time() - start
        say(f"{kind.__name__} {seconds:.0f} s")
        n_labels = 0 if labels is None else int((labels >= 0).sum())
        line = [f"`{kind.__name__}(8)`", str(n_labels)]
        if labels is None:
            line += [f"{model.score(held_out[:some]):.2f}", "", ""]
        else:
            joint = model.predict_joint_log_proba(held_out[:some])
            wrong = model.classes_[joint.argmax(axis=1)] != true[:some]
            model.set_params(classify_by="encoder")
            encoder = model.predict(held_out) != true
            line += [f"{np.logaddexp.reduce(joint, axis=1).mean():.2f}"]
            line += [f"{100 * wrong.mean():.1f}", f"{100 * encoder.mean():.1f}"]
        lines.append([*line, f"{seconds:.0f}"])
    heads = ["model", "labels", "nats a row", "error in %: density"]
    return paragraphs(
        f"Digits, dequantised: {len(training)} training rows. Nats and errors of the "
        f"density are for the first {some} held-out rows, errors of the encoder for "
        f"{len(held_out)}.",
        grid([*heads, "encoder", "CPU seconds of the fit"], lines),
    )


# -- MNIST -------------------------------------------------------------------------


def mnist(options):
    """Return test errors on MNIST with 100 and 1,000 labels."""
    X, y = (part for part in mnist_images("train", options, 2000))
    T, true = mnist_images("t10k", options, 500)
    X, T = X.astype(np.float32) / 255, T.astype(np.float32) / 255
    n_seeds, epochs = options.seeds, share(1, options, 1)
    wide = {"hidden_layer_sizes": (400,), "classify_by": "encoder"}
    grey = {"likelihood": "bernoulli", "lr": 2e-3, "batch_size": 256}
    lines = []

    start = process_time()
    codes = VAE(50, max_epochs=12 * epochs, hidden_layer_sizes=(400,), **grey)
    codes.set_params(random_state=0).fit(X)
    Z, ZT = codes.transform(X), codes.transform(T)
    of_codes = process_time() - start
    say(f"VAE(50): {of_codes:.0f} s")

    def models(seed):
        shared = {**wide, "random_state": seed}
        return {
            "M1+M2: `VAE(50)`, `SemiSupervisedVAE(20)`": (
                SemiSupervisedVAE(20, max_epochs=20, batch_size=256, **shared),
                True,
                True,
            ),
            "`SemiSupervisedSWAE(10)`": (
                SemiSupervisedSWAE(
                    10,
                    noise_covariance="spherical",
                    max_epochs=8,
                    batch_size=256,
                    lr=2e-3,
                    **shared,
                ),
                False,
                True,
            ),
            "`MLPClassifier((400,))`, labels alone": (
                MLPClassifier((400,), max_iter=500, random_state=seed),
                False,
                False,
            ),
            "`GenerativeClassifier(EMGaussianMixture())` of codes, labels alone": (
                GenerativeClassifier(EMGaussianMixture(covariance_type="diag")),
                True,
                False,
            ),
        }

    found = {}
    for n_labels in (100, 1000):
        for seed in range(n_seeds):
            few = balanced(y, n_labels // 10, seed)
            for name, (model, on_codes, all_rows) in models(seed).items():
                start = process_time()
                rows, new = (Z, ZT) if on_codes else (X, T)
                known = slice(None) if all_rows else few >= 0
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    model.fit(rows[known], few[known])
                wrong = 100 * (model.predict(new) != true).mean()
                seconds = process_time() - start + of_codes * on_codes
                found.setdefault(name, {}).setdefault(n_labels, []).append(
                    (wrong, seconds)
                )
                say(f"{n_labels} {seed} {name} {wrong:.2f} % {seconds:.0f} s")
    for name, by_number in found.items():
        errors = [np.mean([wrong for wrong, _ in e]) for e in by_number.values()]
        seconds = np.mean([s for e in by_number.values() for _, s in e])
        lines.append([name, *(f"{e:.2f}" for e in errors), f"{seconds:.0f}"])
    return paragraphs(
        f"Test error in % with 100 and 1,000 labels, balanced; mean over {n_seeds} "
        f"subset{'s' * (n_seeds > 1)} of labels. Models of skgen classify by their "
        "encoder.",
        grid(["model", "100 labels", "1,000 labels", "CPU seconds"], lines),
    )


PARTS = {
    "tables": ("Few labels: small tables", tables),
    "density": ("Labels and the density", density),
    "mnist": ("Few labels: MNIST", mnist),
}


def _command(part, options):
    """Return the command of a part."""
    command = f"python -m benchmarks.labels {part}"
    if part == "mnist":
        command += f" --seeds {options.seeds}"
    return command if options.scale == 1 else f"{command} --scale {options.scale:g}"


def main():
    """Run the parts that the command names, all by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.labels")
    parser.add_argument("--seeds", type=int, default=5, help="subsets of labels, MNIST")
    write_sections(parser, PARTS, _command, Path(__file__).with_name("labels.md"))


if __name__ == "__main__":
    main()
