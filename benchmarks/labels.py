"""Few labels: test error and held-out nats of the models that learn from them.

``python -m benchmarks.labels [PART ...]`` writes one section for each part; the others
stay in the file. MNIST is found through `SKGEN_DATA`. Its results are kept in
``labels.json`` one by one: remove those that a new run should measure.
"""

import argparse
import functools
import json
import math
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

from benchmarks._pictures import features, frechet_distance, grey, train_classifier
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
    n_seeds = share(options.seeds, options, 1)
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
        f"and deviation over {n_seeds} subset{'s' * (n_seeds > 1)} of labels. Rows "
        "without labels are training rows of all models but the last two. Parameters "
        "are the same for all tables. Autoencoders have 100 epochs, spherical noise, "
        "`adversarial_radius=0.25` where no other value is given, and classify by "
        "their encoder.",
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


def _linear():
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


def _models(options, seed):
    """Return the models by name, for a subset of labels."""
    linear = _linear()
    ours = {
        "max_epochs": share(100, options, 3),
        "classify_by": "encoder",
        "random_state": seed,
        "noise_covariance": "spherical",
        "adversarial_radius": 0.25,
    }
    return {
        "`SemiSupervisedVAE(8)`": SemiSupervisedVAE(8, **ours),
        "`SemiSupervisedVAE(8, adversarial_radius=0)`": SemiSupervisedVAE(
            8, **{**ours, "adversarial_radius": 0}
        ),
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

_SCORED = 100  # test images whose density is reported


@functools.cache
def _images(scale):
    """Return training and test images in [0, 1], and their digits."""
    options = argparse.Namespace(scale=scale)
    X, y = mnist_images("train", options, 2000)
    T, true = mnist_images("t10k", options, 500)
    return grey(X), y, grey(T), true


@functools.cache
def _codes(scale):
    """Return codes of training and test images, and the CPU seconds of their VAE."""
    X, _, T, _ = _images(scale)
    model = VAE(50, max_epochs=12 if scale == 1 else 1, **_GREY, **_WIDE)
    start = process_time()
    Z, ZT = model.fit(X).transform(X), model.transform(T)
    return Z, ZT, process_time() - start


_WIDE = {"hidden_layer_sizes": (400,), "batch_size": 256, "random_state": 0}
_GREY = {"likelihood": "bernoulli", "lr": 2e-3}
# The squared error of 784 pixels is large beside the defaults of both weights.
_SPHERICAL = {"noise_covariance": "spherical", "lr": 2e-3, "batch_size": 128}
_WEIGHTS = {"label_weight": 500, "swd_weight": 4}
_BY_ENCODER = {"classify_by": "encoder"}


class _Row:
    """One line of the table: a model, and the rows that it is fitted to.

    on_codes: whether rows are codes of a VAE; n_rows: number of rows, None for all and
    0 for the labelled ones.
    """

    def __init__(self, build, on_codes=False, n_rows=None):
        self.build, self.on_codes, self.n_rows = build, on_codes, n_rows

    def measured(self, n_labels, seed, scale):
        """Return the test error in % and CPU seconds, a dict."""
        X, y, T, true = _images(scale)
        few = balanced(y, n_labels // 10, seed)
        rows, new, seconds = _codes(scale) if self.on_codes else (X, T, 0.0)
        known = np.flatnonzero(few >= 0)
        if self.n_rows != 0:
            others = np.flatnonzero(few < 0)[: self.n_rows]
            known = np.sort(np.append(known, others))
        model = self.build(seed, 1 if scale == 1 else 0.1)
        start = process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(rows[known], few[known])
            error = 100 * float((model.predict(new) != true).mean())
        return {"error": error, "seconds": process_time() - start + seconds}


def _on_labels(model):
    return _Row(lambda seed, _: model(seed), n_rows=0)


def _m2(seed, share, kind=SemiSupervisedVAE, **parameters):
    shared = {**_WIDE, **_GREY, "random_state": seed, **parameters}
    if kind is SemiSupervisedVAE:
        shared |= {"label_weight": 100, "adversarial_radius": 0.25}
    return kind(20, max_epochs=math.ceil(10 * share), **shared)


def _swae(seed, share, kind=SemiSupervisedSWAE, **parameters):
    shared = {**_WIDE, **_SPHERICAL, **_WEIGHTS, "random_state": seed, **parameters}
    if kind is SWAE:
        del shared["label_weight"]
    return kind(10, max_epochs=math.ceil(10 * share), **shared)


def _m1_m2(seed, share):
    shared = {**_WIDE, **_BY_ENCODER, "random_state": seed, "adversarial_radius": 0.25}
    return SemiSupervisedVAE(20, max_epochs=math.ceil(20 * share), **shared)


def _m1_swae(seed, share):
    shared = {**_WIDE, **_BY_ENCODER, "random_state": seed, "label_weight": 100}
    return SemiSupervisedSWAE(10, max_epochs=math.ceil(20 * share), lr=1e-2, **shared)


_ROWS = {
    "M2: `SemiSupervisedVAE(20)`": _Row(functools.partial(_m2, **_BY_ENCODER)),
    "M1+M2: `VAE(50)`, `SemiSupervisedVAE(20)`": _Row(_m1_m2, on_codes=True),
    "`SemiSupervisedSWAE(10)`": _Row(functools.partial(_swae, **_BY_ENCODER)),
    "`VAE(50)`, `SemiSupervisedSWAE(10)`": _Row(_m1_swae, on_codes=True),
    "`MLPClassifier((400,))`, labels alone": _on_labels(
        lambda seed: MLPClassifier((400,), max_iter=500, random_state=seed)
    ),
    "`GenerativeClassifier(EMGaussianMixture())` of codes, labels alone": _Row(
        lambda *_: GenerativeClassifier(EMGaussianMixture(covariance_type="diag")),
        on_codes=True,
        n_rows=0,
    ),
    "`SelfTrainingClassifier`, logistic, of codes, 10,000 rows": _Row(
        lambda *_: SelfTrainingClassifier(_linear()), on_codes=True, n_rows=10_000
    ),
    "`LabelSpreading`, 7 neighbours, of codes, 10,000 rows": _Row(
        lambda *_: LabelSpreading("knn", n_neighbors=7), on_codes=True, n_rows=10_000
    ),
}


def mnist(options):
    """Return test errors on MNIST with 100 and 1,000 labels."""
    found = _Results(options)
    for n_labels in (100, 1000):
        for seed in range(options.seeds):
            for name, row in _ROWS.items():
                if found.lacks(f"{name} {n_labels} {seed}", name):
                    found.add(row.measured(n_labels, seed, options.scale))
    lines = []
    for name in _ROWS:
        by_number = [found.of(f"{name} {n_labels} ") for n_labels in (100, 1000)]
        measured = [record for records in by_number for record in records]
        if not measured:
            continue
        errors = [[record["error"] for record in records] for records in by_number]
        seconds = np.mean([record["seconds"] for record in measured])
        lines.append(
            [
                name,
                *(f"{np.mean(e):.2f} ({len(e)})" if e else "" for e in errors),
                f"{seconds:.0f}",
            ]
        )
    heads = ["model", "100 labels", "1,000 labels", "CPU seconds"]
    return paragraphs(
        "Test error in % with 100 and 1,000 labels, balanced: mean over subsets of "
        "labels, their number in parentheses. Models of skgen classify by their "
        "encoder.",
        grid(heads, lines),
    )


def nats(options):
    """Return nats on MNIST with 100 labels, beside the unsupervised models."""
    found, some = _Results(options), share(_SCORED, options, 5)
    X, y, T, _ = _images(options.scale)
    few, part = balanced(y, 10, 0), 1 if options.scale == 1 else 0.1
    lines = []
    for build, kind in (
        (_swae, SWAE),
        (_swae, SemiSupervisedSWAE),
        (_m2, VAE),
        (_m2, SemiSupervisedVAE),
    ):
        name = f"`{kind.__name__}({20 if build is _m2 else 10})`"
        labels = few if hasattr(kind, "predict") else None
        if found.lacks(f"{name} nats", name):
            start = process_time()
            model = build(0, part, kind).fit(X, labels)
            found.add({"nats": model.score(T[:some]), "s": process_time() - start})
        for record in found.of(f"{name} nats"):
            n_labels = "0" if labels is None else "100"
            values = [f"{record['nats']:.2f}", f"{record['s']:.0f}"]
            lines.append([name, n_labels, *values])
    return paragraphs(
        f"Mean log-density of the first {some} test images, in nats.",
        grid(["model", "labels", "nats a row", "CPU seconds"], lines),
    )


def every_label(options):
    """Return error, nats and Fréchet distance on MNIST with all labels."""
    found, epochs = _Results(options), share(12, options, 1)
    X, y, T, true = _images(options.scale)
    shared = {**_WIDE, **_GREY, "hidden_layer_sizes": (500, 500), "lr": 4e-3}
    shared["max_epochs"] = epochs
    models = {
        "`AutoEncoder(32)`": AutoEncoder(32, **shared),
        "`ClassSupervisedAutoEncoder(32)`": ClassSupervisedAutoEncoder(
            32, adversarial_radius=0.25, label_weight=50, **shared, **_BY_ENCODER
        ),
    }
    for name, model in models.items():
        if not found.lacks(f"{name} all", name):
            continue
        start = process_time()
        model.fit(X, y if hasattr(model, "predict") else None)
        record = {"seconds": process_time() - start}
        if hasattr(model, "predict"):
            record["error"] = 100 * float((model.predict(T) != true).mean())
        some = T[: share(_SCORED, options, 5)]
        record["nats"] = float(model.score(some))
        net = train_classifier(X, y, epochs=share(2, options, 1))
        by_class = hasattr(model, "classes_")
        draws = model.sample(y=true) if by_class else model.sample(len(T))
        real, drawn = features(net, T), features(net, draws.astype(np.float32))
        record["distance"] = float(frechet_distance(drawn, real))
        if by_class:
            record["by_class"] = np.mean(
                [frechet_distance(drawn[true == c], real[true == c]) for c in range(10)]
            )
        found.add(record)
    lines = []
    for name in models:
        for record in found.of(f"{name} all"):
            cells = [record.get(k) for k in ("error", "nats", "distance", "by_class")]
            cells = ["" if cell is None else f"{cell:.2f}" for cell in cells]
            lines.append([name, *cells, f"{record['seconds']:.0f}"])
    heads = ["model", "test error in %", "nats", "Fréchet distance", "by class"]
    return paragraphs(
        f"All {len(X):,} labels, {epochs} epochs, two hidden layers of 500 units. Nats "
        f"are means over the first {_SCORED} test images. The distance is between "
        f"{len(T):,} draws and the test images, in the features of a small classifier; "
        "*by class*, the mean of the distances of each class.",
        grid([*heads, "CPU seconds of the fit"], lines),
    )


class _Results:
    """Results of earlier runs in a file, to which each new one is added at once."""

    def __init__(self, options):
        self.path = Path(options.results)
        self.prefix, self.wanted = f"{options.scale:g} ", options.rows
        self.records = json.loads(self.path.read_text()) if self.path.exists() else {}

    def lacks(self, key, name):
        """Return whether to measure a key, given the name of its row."""
        self.key = self.prefix + key
        named = not self.wanted or any(part in name for part in self.wanted)
        return named and self.key not in self.records

    def add(self, record):
        """Add the record of the key that was lacking."""
        self.records[self.key] = record
        self.path.write_text(f"{json.dumps(self.records, indent=1)}\n")
        say(f"{self.key}: {record}")

    def of(self, key):
        """Return the records whose key begins with `key`."""
        start = self.prefix + key
        return [v for name, v in self.records.items() if name.startswith(start)]


PARTS = {
    "tables": ("Few labels: small tables", tables),
    "density": ("Labels and the density", density),
    "mnist": ("Few labels: MNIST", mnist),
    "mnist_nats": ("Few labels: nats on MNIST", nats),
    "every_label": ("All labels: MNIST", every_label),
}


def _command(part, options):
    """Return the command of a part."""
    command = f"python -m benchmarks.labels {part}"
    if part in ("tables", "mnist"):
        command += f" --seeds {options.seeds}"
    if options.rows and part in ("mnist", "mnist_nats", "every_label"):
        command += f" --rows {' '.join(options.rows)}"
    return command if options.scale == 1 else f"{command} --scale {options.scale:g}"


def main():
    """Run the parts that the command names, all by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.labels")
    parser.add_argument("--seeds", type=int, default=5, help="subsets of labels")
    parser.add_argument("--rows", nargs="*", help="names of rows, or parts of them")
    parser.add_argument(
        "--results",
        default=str(Path(__file__).with_name("labels.json")),
        help="JSON file of results of MNIST; what it has is not measured again",
    )
    write_sections(parser, PARTS, _command, Path(__file__).with_name("labels.md"))


if __name__ == "__main__":
    main()
