"""Autoencoders: test likelihood, draws, speed, and tables beside the other models.

``python -m benchmarks.autoencoders [PART ...]`` writes one section for each part; the
sections of other parts stay in the file. Data are found through `SKGEN_DATA`.
"""

import argparse
import json
import statistics
import warnings
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning, UndefinedMetricWarning
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import Pipeline

from benchmarks._pictures import (
    accuracy,
    draw_pages,
    features,
    frechet_distance,
    grey,
    train_classifier,
)
from benchmarks._sections import (
    data,
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
    EMGaussianMixture,
    GaussianKDE,
    SGDGaussianMixture,
    dequantize,
)

_HERE = Path(__file__).parent

# File name, importance samples in training, epochs, and Burda et al. (2016), table 1.
_BOUNDS = (("vae1", 1, 450, 86.76), ("iwae5", 5, 600, 85.54))

# Images a second: batches of 500 in 0.2437 s on a P100 (Kolouri et al., 2018).
_PUBLISHED_SPEED = 2050

# Lengths of a kernel, as shares of the mean standard deviation of the columns.
_BANDWIDTHS = (0.1, 0.2, 0.3, 0.45, 0.7)


# -- likelihood ------------------------------------------------------------------


def likelihood(options):
    """Return the test likelihood of binarised digits of a VAE."""
    return _likelihood(options, _BOUNDS[:1])


def importance(options):
    """Return the same for a VAE that the importance-weighted bound trained."""
    return _likelihood(options, _BOUNDS[1:])


def _likelihood(options, bounds):
    import torch

    torch.set_num_threads(options.threads or 1)
    n_samples = max(64, round(options.samples * options.scale))
    X, X_test = _digits("train", options, 300)[0], _digits("t10k", options, 100)[0]
    uniform = np.random.RandomState(0).uniform(size=X_test.shape)
    X_test = (uniform < X_test).astype(np.float32)[: options.rows]
    lines = [
        "| trained by | epochs | test NLL | Burda et al. (2016) | less | "
        "fit, wall | fit, CPU | its threads | scoring |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, n_importance, epochs, published in bounds:
        model, fitting = _bound(name, n_importance, epochs, X, options)
        start = perf_counter()
        model.set_params(n_importance_samples=n_samples)
        nats = -model.score_samples(X_test).astype(float)  # float32, as the rows
        scoring = perf_counter() - start
        error = nats.std() / np.sqrt(nats.size)
        lines.append(
            f"| n_importance={n_importance} | {fitting.get('epochs', '')} | "
            f"**{nats.mean():.2f}** ± {error:.2f} | {published} | "
            f"{published - nats.mean():.2f} | {_seconds(fitting, 'wall_seconds')} | "
            f"{_seconds(fitting, 'cpu_seconds')} | "
            f"{fitting.get('threads', 'not noted')} | {scoring:.0f} s |"
        )
        say(lines[-1])
    return paragraphs(
        "Negative log-likelihood of dynamically binarised MNIST, nats per image: "
        f"a `VAE` with a network of 784-200-200-50 and tanh, fitted to {len(X):,} grey "
        f"images, scored on {len(X_test):,} test images that were binarised once, with "
        f"{n_samples:,} importance samples on {torch.get_num_threads()} thread(s). "
        "± is the standard error over the test images. The reference has one "
        "stochastic layer and 5,000 samples.",
        "\n".join(lines),
    )


def _bound(name, n_importance, epochs, X, options):
    """Return a fitted VAE and what its fit took; from a file where there is one."""
    import torch

    def build(max_epochs):
        return VAE(
            50,
            n_importance=n_importance,
            likelihood="bernoulli",
            hidden_layer_sizes=(200, 200),
            activation="tanh",
            batch_size=100,
            lr=3e-3,
            max_epochs=max_epochs,
            random_state=0,
        )

    path = None
    if options.weights:
        # What is trained in a smoke test is never taken for the whole.
        stem = name if options.scale == 1 else f"{name}-{options.scale:g}"
        path = Path(options.weights) / f"{stem}.pt"
        if path.exists():
            model = build(1).fit(X[:200])
            state = torch.load(path, weights_only=True)
            model.net_.module_.load_state_dict(state)
            # The same number of codes as after a fit of all rows.
            model.fit_latent_density(X[:10_000])
            beside = path.with_suffix(".json")
            return model, json.loads(beside.read_text()) if beside.exists() else {}
    model = build(share(epochs, options, 2))
    wall, cpu = perf_counter(), process_time()
    model.fit(X)
    took = {
        "wall_seconds": perf_counter() - wall,
        "cpu_seconds": process_time() - cpu,
        "epochs": model.n_iter_,
        "threads": torch.get_num_threads(),
    }
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(model.net_.module_.state_dict(), path)
        path.with_suffix(".json").write_text(json.dumps(took))
    return model, took


def _seconds(took, name):
    return f"{took[name]:,.0f} s" if name in took else "not measured"


# -- draws -----------------------------------------------------------------------


def draws(options):
    """Return how near draws of three models are to real digits; draw a page of them."""
    X, y = _digits("train", options, 100)
    X_test, y_test = _digits("t10k", options, 200)
    epochs, n = share(30, options, 2), len(X_test)
    k, sizes = (16, (400, 200)) if options.scale == 1 else (2, (40, 20))
    start = perf_counter()
    net = train_classifier(X, y)
    seconds, told = perf_counter() - start, accuracy(net, X_test, y_test)
    say(f"classifier: {told:.4f} in {seconds:.0f} s")
    real = features(net, X_test)
    pages, lines = (
        {},
        ["| codes | distance | times nearer | fit |", "|---|---:|---:|---:|"],
    )

    def distance(pictures):
        return frechet_distance(features(net, np.clip(pictures, 0, 1)), real)

    def add(label, pictures, base=None, fit=None):
        found = distance(pictures)
        nearer = "" if base is None else f"{base / found:.1f}"
        took = "" if fit is None else f"{fit:.0f} s"
        lines.append(f"| {label} | {found:.1f} | {nearer} | {took} |")
        say(lines[-1])
        return found

    def from_density(model):
        return model.inverse_transform(model.latent_density_.sample(n, random_state=0))

    def refitted(model, density):
        start = perf_counter()
        model.set_params(latent_density=density).fit_latent_density(X)
        return perf_counter() - start

    order = np.random.RandomState(0).permutation(len(X))[:n]
    add("real training images, the floor", X[order])
    normal = np.random.RandomState(0).standard_normal((n, k)).astype(np.float32)
    shared = {
        "hidden_layer_sizes": sizes,
        "noise_covariance": "spherical",
        "batch_size": 128,
        "lr": 3e-3,
        "max_epochs": epochs,
        "random_state": 0,
    }
    chosen = None
    for model in (AutoEncoder(k, **shared), VAE(k, **shared), SWAE(k, **shared)):
        name = type(model).__name__
        start = perf_counter()
        model.fit(X)
        took = perf_counter() - start
        add(
            f"{name}: of the test images",
            model.inverse_transform(model.transform(X_test)),
        )
        pages[f"{name}, N(0, I)"] = page = model.inverse_transform(normal)
        base = add(f"{name}: N(0, I)", page, fit=took)
        codes = model.transform(X)
        page = model.inverse_transform(codes.mean(axis=0) + codes.std(axis=0) * normal)
        add(f"{name}: N(0, I) at the codes' means and scales", page, base)
        if name == "SWAE":
            continue
        if name == "AutoEncoder":
            chosen = clone(model.latent_density_).set_params(random_state=0)
            took = None  # in the fit
            label = f"latent_density=None, {chosen.n_components} components chosen"
        else:
            took = refitted(model, chosen)
            label = f"latent_density, a mixture of {chosen.n_components}"
        page, title = from_density(model), f"{name}, a mixture of {chosen.n_components}"
        add(f"{name}: {label}", page, base, took)
        took = refitted(model, EMGaussianMixture(1, random_state=0))
        pages[f"{name}, a Gaussian"] = single = from_density(model)
        add(f"{name}: latent_density, a Gaussian", single, base, took)
        pages[title] = page
    figure = options.figure
    if figure is None and options.scale == 1:
        figure = _HERE.parent / "docs" / "_static" / "draws_mnist.png"
    if figure is not None:
        draw_pages(
            {title: page.reshape(-1, 28, 28) for title, page in pages.items()}, figure
        )
    return paragraphs(
        f"Fréchet distance of {n:,} noise-free draws to the {n:,} test images of "
        f"MNIST, in 64 features of a small classifier that recognises {100 * told:.2f} "
        f"% of the test images (trained in {seconds:.0f} s). Models: {len(X):,} "
        f"images, latent dimension {k}, hidden layers of {sizes[0]} and {sizes[1]}, "
        f"{epochs} epochs. *Times nearer* compares with N(0, I) under the same model, "
        "the draws that result if its codes are assumed to be normal. Pixels are "
        "clipped to [0, 1].",
        "\n".join(lines),
    )


# -- speed -----------------------------------------------------------------------


def speed(options):
    """Return the number of rows per second in the training of a SWAE."""
    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    X = _digits("train", options, 600)[0]
    model = SWAE(
        10,
        hidden_layer_sizes=(400,),
        n_projections=50,
        batch_size=500,
        max_epochs=max(3, share(10, options, 3)),
        random_state=0,
    )
    start = perf_counter()
    model.fit(X)
    whole = perf_counter() - start
    # The first epoch also warms up.
    each = [len(X) / epoch["seconds"] for epoch in model.history_[1:]]
    rate = statistics.median(each)
    return paragraphs(
        "Training of a `SWAE` on MNIST: batches of 500, 50 projections, latent "
        f"dimension 10, one hidden layer of 400, {len(X):,} images, "
        f"{torch.get_num_threads()} thread(s). The published figure has the same "
        "batches and projections, but a convolutional network, which needs more "
        "arithmetic for each image.",
        "| | images per second | least to most | epochs | whole fit |\n"
        "|---|---:|---:|---:|---:|\n"
        f"| `SWAE`, CPU | **{rate:,.0f}** | {min(each):,.0f} to {max(each):,.0f} | "
        f"{len(each)} | {whole:.1f} s |\n"
        f"| Kolouri et al. (2018), P100 | {_PUBLISHED_SPEED:,} | | | |",
    )


# -- tables ----------------------------------------------------------------------


def tables(options):
    """Return held-out likelihoods of every model on two tables, by one search each."""
    digits = load_digits().data
    digits = digits[:, digits.std(axis=0) > 0]
    with np.load(data("tabular", "pendigits.npz"), allow_pickle=False) as archive:
        pendigits = archive["X"][archive["y"] == 0].astype(float)
    found = {"digits": digits, "pendigits": pendigits}
    return paragraphs(
        "Held-out nats per row, mean and standard deviation over three shuffled "
        "folds: one `GridSearchCV` for each table, with the model itself as its only "
        "parameter. Columns are dequantised; constant pixels of the digits are left "
        f"out. `KernelDensity` is the best of {len(_BANDWIDTHS)} bandwidths.",
        *(_searched(name, X, options) for name, X in found.items()),
    )


def _searched(name, X, options):
    X = dequantize(X, random_state=0)
    X = X[np.random.RandomState(0).permutation(X.shape[0])]
    X = X[: share(X.shape[0], options, 150)]
    epochs, scale = share(100, options, 3), X.std(axis=0).mean()
    deep = {"max_epochs": epochs, "random_state": 0}
    models = {
        "GaussianKDE()": GaussianKDE(),
        "GaussianKDE('likelihood')": GaussianKDE("likelihood"),
        "EMGaussianMixture(10)": EMGaussianMixture(10, random_state=0),
        "SGDGaussianMixture(10)": SGDGaussianMixture(10, random_state=0),
        "AutoEncoder(8)": AutoEncoder(8, **deep),
        "VAE(8)": VAE(8, **deep),
        "SWAE(8)": SWAE(8, **deep),
        "scikit-learn GaussianMixture(10)": GaussianMixture(
            10, reg_covar=1e-6, random_state=0
        ),
    }
    for bandwidth in scale * np.array(_BANDWIDTHS):
        label = f"scikit-learn KernelDensity(bandwidth={bandwidth:.3g})"
        models[label] = KernelDensity(bandwidth=bandwidth)
    search = GridSearchCV(
        Pipeline([("model", GaussianKDE())]),
        {"model": list(models.values())},
        scoring=_mean_log_density,
        cv=KFold(3, shuffle=True, random_state=0),
        refit=False,
        error_score="raise",
    )
    start = perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        results = search.fit(X).cv_results_
    whole = perf_counter() - start
    lines = ["| model | nats per row | fit | scoring |", "|---|---:|---:|---:|"]
    labels, kernels = list(models), 0
    for i in np.argsort(-results["mean_test_score"]):
        kernels += (of_kernels := "KernelDensity" in labels[i])
        if of_kernels and kernels > 1:
            continue
        lines.append(
            f"| {labels[i]} | {results['mean_test_score'][i]:.2f} ± "
            f"{results['std_test_score'][i]:.2f} | {results['mean_fit_time'][i]:.2f} s "
            f"| {results['mean_score_time'][i]:.2f} s |"
        )
    say("\n".join(lines))
    said = f"**{name}**, {X.shape[0]:,} x {X.shape[1]}, {whole:.0f} s in total:"
    return f"{said}\n\n" + "\n".join(lines)


def _mean_log_density(model, X, y=None):
    """Score by the mean; `KernelDensity` itself scores by the sum."""
    return float(model.score_samples(X).mean())


# -- what they share -------------------------------------------------------------


def _digits(name, options, least):
    """Return images of MNIST as grey levels in [0, 1], and their digits."""
    X, y = mnist_images(name, options, least)
    return grey(X), y


PARTS = {
    "likelihood": ("Likelihood", likelihood),
    "importance": ("Importance-weighted bound", importance),
    "draws": ("Draws", draws),
    "speed": ("Speed", speed),
    "tables": ("Tables", tables),
}


def _command(part, options):
    """Return the command of a part; folders and files go by their kind."""
    command = f"python -m benchmarks.autoencoders {part}"
    if options.scale != 1:
        command += f" --scale {options.scale:g}"
    if part in ("likelihood", "importance", "speed") and options.threads:
        command += f" --threads {options.threads}"
    if part in ("likelihood", "importance"):
        command += f" --samples {options.samples}" if options.samples != 5000 else ""
        command += f" --rows {options.rows}" if options.rows else ""
        command += " --weights FOLDER" if options.weights else ""
    return command


def main():
    """Run the parts that the command names, all by default."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.autoencoders", description=__doc__
    )
    parser.add_argument(
        "--weights", metavar="FOLDER", help="likelihood: load networks, or keep them"
    )
    parser.add_argument("--rows", type=int, help="likelihood: test rows, at most")
    parser.add_argument(
        "--samples", type=int, default=5000, help="likelihood: of importance"
    )
    parser.add_argument("--threads", type=int, help="likelihood (1) and speed (all)")
    parser.add_argument(
        "--figure",
        metavar="FILE",
        help="draws: the page of draws, one of docs/_static by default at full scale",
    )
    write_sections(parser, PARTS, _command, _HERE / "autoencoders.md")


if __name__ == "__main__":
    main()
