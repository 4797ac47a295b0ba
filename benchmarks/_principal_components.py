"""Digits through principal components, a density, and back; beside it other models.

Components and bandwidth are searched for by held-out log-likelihood in the space of
the pixels, which is what `GenerativePipeline` scores.
"""

import math
import warnings
from pathlib import Path
from time import perf_counter

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, DataDimensionalityWarning
from sklearn.model_selection import GridSearchCV, KFold, ShuffleSplit

from benchmarks._pictures import (
    ON_A_PAGE,
    accuracy,
    draw_pages,
    features,
    frechet_distance,
    train_classifier,
)
from benchmarks._sections import mnist_images, paragraphs, say, share
from skgen import (
    SWAE,
    VAE,
    AutoEncoder,
    EMGaussianMixture,
    GaussianKDE,
    GenerativePipeline,
    SGDGaussianMixture,
    dequantize,
)

_STATIC = Path(__file__).parent.parent / "docs" / "_static"


def digits(options):
    """Return held-out likelihoods of models of 8 x 8 digits, and draw a page."""
    pixels = load_digits().data
    inked = pixels.std(axis=0) > 0
    X = dequantize(pixels[:, inked], random_state=0)
    X = X[np.random.RandomState(0).permutation(len(X))]
    X = X[: share(len(X), options, 150)]
    n_test = len(X) // 6
    train, test = X[:-n_test], X[-n_test:]
    folds = KFold(5, shuffle=True, random_state=0)
    epochs = share(100, options, 3)
    deep = {"max_epochs": epochs, "random_state": 0}
    searches = {
        "PCA, GaussianKDE": (
            GaussianKDE(),
            {
                "pca__n_components": [8, 16, 32, 48, 61],
                "density__bandwidth": _widths(2, 4),
            },
        ),
        "PCA, EMGaussianMixture": (
            EMGaussianMixture(random_state=0),
            {
                "pca__n_components": [8, 16, 32, 48, 61],
                "density__n_components": [1, 3, 10],
            },
        ),
    }
    fixed = {
        "SGDGaussianMixture(10, low rank 8)": SGDGaussianMixture(
            10, covariance_type="lowrank", rank=8, random_state=0
        ),
        "AutoEncoder(8)": AutoEncoder(8, **deep),
        "VAE(8)": VAE(8, **deep),
        "SWAE(8)": SWAE(8, **deep),
    }

    def picture(rows):
        pictures = np.zeros((len(rows), 64))
        pictures[:, inked] = rows
        return pictures.reshape(-1, 8, 8) / 16

    return _compared(
        options,
        searches,
        fixed,
        (train, train, test, folds),
        f"scikit-learn's digits: {len(train):,} images for fits and searches with "
        f"{folds.get_n_splits()} folds, {len(test):,} held out; the 61 pixels that "
        "vary, in grey levels from 0 to 16, with uniform noise of one level.",
        picture,
        "draws_digits.png",
    )


def mnist(options):
    """Return the same of MNIST, and how near draws come to real digits."""
    (train, label), (test, test_label) = (
        mnist_images(part, options, least)
        for part, least in (("train", 300), ("t10k", 100))
    )
    net = train_classifier(train / np.float32(256), label)
    told = accuracy(net, test / np.float32(256), test_label)
    real = features(net, test / np.float32(256))
    rng = np.random.RandomState(0)
    # Grey levels from 0 to 255 and noise of one: a density on [0, 256]^784.
    train, test = (
        X + rng.uniform(size=X.shape).astype(np.float32) for X in (train, test)
    )
    scored = test[: share(2000, options, 50)]
    few = train[: share(25_000, options, 200)]
    deep = {
        "hidden_layer_sizes": (400, 200) if options.scale == 1 else (20,),
        "batch_size": 128,
        "lr": 3e-3,
        "max_epochs": share(20, options, 2),
        "random_state": 0,
    }
    k, K = (32, 50) if options.scale == 1 else (2, 2)
    components = [64, 128, 256, 400, 550, 650] if options.scale == 1 else [4, 8]
    searches = {
        "PCA, GaussianKDE": (
            GaussianKDE(),
            {"pca__n_components": components, "density__bandwidth": _widths(45, 90)},
        ),
        "PCA, EMGaussianMixture": (
            EMGaussianMixture(max_iter=20, random_state=0),
            {
                "pca__n_components": components[:2],
                "density__n_components": [1, 3, 10],
            },
        ),
    }
    fixed = {
        f"SGDGaussianMixture({K}, low rank 10)": SGDGaussianMixture(
            K,
            covariance_type="lowrank",
            rank=10,
            random_state=0,
        ),
        **{
            f"{kind.__name__}({k})": kind(k, noise_covariance="spherical", **deep)
            for kind in (AutoEncoder, VAE, SWAE)
        },
        f"VAE({k}), one variance per pixel": VAE(k, **deep),
    }

    def picture(rows):
        return np.clip(rows / 256, 0, 1).reshape(-1, 28, 28)

    def distance(rows):
        return frechet_distance(features(net, np.clip(rows / 256, 0, 1)), real)

    return _compared(
        options,
        searches,
        fixed,
        (few, train, scored, ShuffleSplit(1, test_size=0.2, random_state=0)),
        f"MNIST: {len(few):,} images for the search, a fifth of them held out; "
        f"{len(train):,} for the fit, {len(scored):,} scored test images; 784 pixels "
        "in grey levels from 0 to 255, with uniform noise of one level. *Distance*: "
        f"the Fréchet distance of {len(test):,} draws without noise to the test "
        "images, in the features of a small classifier that recognises "
        f"{100 * told:.1f} % of them (real training images: "
        f"{distance(train[: len(test)]):.1f}). Networks: {deep['max_epochs']} epochs, "
        f"hidden layers of {' and '.join(map(str, deep['hidden_layer_sizes']))}.",
        picture,
        "draws_mnist_models.png",
        distance,
        len(test),
    )


def _widths(low, high):
    """Return bandwidths, evenly spaced in their logarithms."""
    return np.geomspace(low, high, 5).round(1).tolist()


def _compared(
    options,
    searches,
    fixed,
    data,
    said,
    picture,
    page,
    distance=None,
    n_draws=ON_A_PAGE,
):
    """Return a table of models, each searched for or fixed, and draw a page of them."""
    few, train, test, folds = data
    lines, pages, scores = [], {"data": picture(train[:ON_A_PAGE])}, {}
    models = {**searches, **fixed}
    with warnings.catch_warnings():
        for kind in (ConvergenceWarning, DataDimensionalityWarning):
            warnings.simplefilter("ignore", kind)
        for label, model in models.items():
            start = perf_counter()
            if label in searches:
                model, label = _searched(label, *model, few, folds)
            searching = perf_counter() - start
            start = perf_counter()
            model.fit(train)
            fitting = perf_counter() - start
            start = perf_counter()
            scores[label] = model.score_samples(test)
            scoring = perf_counter() - start
            draws = _without_noise(model, max(n_draws, ON_A_PAGE))
            pages[label] = picture(draws[:ON_A_PAGE])
            near = f" {distance(draws):.0f} |" if distance else ""
            lines.append((label, near, searching, fitting, scoring))
            say(f"{label}: {scores[label].mean():.2f}{near} {fitting:.1f} s")
    best = max(scores, key=lambda label: scores[label].mean())
    header = "| model | nats | behind best | bits per pixel |"
    rule = "|---|---:|---:|---:|"
    if distance:
        header, rule = header + " distance |", rule + "---:|"
    table = [header + " search | fit | scoring |", rule + "---:|---:|---:|"]
    for label, near, searching, fitting, scoring in sorted(
        lines, key=lambda line: -scores[line[0]].mean()
    ):
        nats = scores[label]
        behind = scores[best] - nats
        error = behind.std() / math.sqrt(behind.size)
        bits = -nats.mean() / test.shape[1] / math.log(2)
        searched = f"{searching:.0f} s" if searching > 0.1 else ""
        less = "best" if label == best else f"{behind.mean():.1f} ± {error:.1f}"
        table.append(
            f"| {label} | **{nats.mean():.1f}** | {less} | {bits:.3f} |{near} "
            f"{searched} | {fitting:.1f} s | {scoring:.1f} s |"
        )
    if options.scale == 1:
        draw_pages(pages, _STATIC / page)
    return paragraphs(
        f"Held-out log-density of an image in nats, in the units of the pixels: {said} "
        "± is the standard error of the paired difference. Bits per pixel are minus "
        "the nats, divided by the number of pixels and by the logarithm of 2.",
        "\n".join(table),
    )


def _searched(label, density, grid, X, folds):
    """Return the best pipeline of principal components, unfitted, and its label."""
    pipeline = GenerativePipeline([("pca", PCA(random_state=0)), ("density", density)])
    k_max = min(X.shape[1], int(0.6 * X.shape[0]))
    grid = {
        **grid,
        "pca__n_components": [k for k in grid["pca__n_components"] if k <= k_max],
    }
    search = GridSearchCV(pipeline, grid, cv=folds, refit=False, error_score="raise")
    search.fit(X)
    values = search.best_params_
    first, second = (
        values["pca__n_components"],
        next(value for name, value in values.items() if name.startswith("density")),
    )
    kind = label.split(", ")[1]
    for name, choices in grid.items():
        if values[name] in (choices[0], choices[-1]):
            say(f"{label}: {name}={values[name]} is at the edge of the grid")
    return pipeline.set_params(**values), f"PCA({first}), {kind}({second:g})"


def _without_noise(model, n):
    """Return draws without the noise of pixels: the means that latents give rise to."""
    rng = np.random.RandomState(0)
    if isinstance(model, GenerativePipeline):
        codes = model[-1].sample(n, random_state=rng)
        return model[:-1].inverse_transform(codes)
    if hasattr(model, "sample_latent"):
        return model.inverse_transform(model.sample_latent(n, random_state=rng))
    return model.sample(n, random_state=rng)
