"""How real the draws of diffusion models look; `benchmarks.flows` has their scores.

``python -m benchmarks.diffusion [PART ...]`` writes one section for each part; the
others stay in the file. Data are found through `SKGEN_DATA`.
"""

import argparse
import warnings
from functools import partial
from pathlib import Path
from time import process_time

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from benchmarks._pictures import (
    ON_A_PAGE,
    accuracy,
    draw_pages,
    features,
    frechet_distance,
    grey,
    train_classifier,
)
from benchmarks._sections import (
    grid,
    mnist_images,
    paragraphs,
    say,
    share,
    write_sections,
)
from skgen import (
    VAE,
    DiffusionModel,
    EMGaussianMixture,
    GaussianKDE,
    NormalizingFlow,
    SGDGaussianMixture,
    dequantize,
)

# Channels, batch size, epochs, learning rate and tolerance of the model of MNIST.
_CHANNELS, _BATCH, _EPOCHS, _RATE, _DRAWN_RTOL = (48, 96), 64, 100, 2e-3, 0.1


def draws(options):
    """Return the section of classifiers that tell real digits and draws apart."""
    X = load_digits().data
    rng = np.random.RandomState(0)
    X = X[rng.permutation(len(X))[: share(len(X), options, 200)]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        X = dequantize(X[:, X.std(axis=0) > 0], random_state=0)
    train, real = X[::2], X[1::2]
    few = partial(share, options=options, least=2)
    models = {
        "DiffusionModel()": DiffusionModel(max_epochs=few(300)),
        "NormalizingFlow()": NormalizingFlow(max_epochs=few(60)),
        "SGDGaussianMixture(10, lowrank)": SGDGaussianMixture(
            10, covariance_type="lowrank", rank=8
        ),
        "EMGaussianMixture(4)": EMGaussianMixture(4),
        "GaussianKDE('likelihood')": GaussianKDE("likelihood"),
        "VAE(8)": VAE(8),
    }
    lines = []
    torch.set_num_threads(1)
    for name, model in models.items():
        start = process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fake = model.set_params(random_state=0).fit(train).sample(len(real))
        seconds = process_time() - start
        areas = [_area(judge, real, fake) for judge in _JUDGES]
        lines.append([name, *(f"{a:.3f}" for a in areas), f"{seconds:.0f}"])
        say(" ".join(lines[-1]))
    return paragraphs(
        f"Models are fitted to {len(train)} digits of 8 x 8 pixels, dequantised. "
        f"Classifiers learn to tell {len(real)} other digits from as many draws; area "
        "under the curve in five folds. At 0.5, draws cannot be distinguished from "
        "digits.",
        grid(["model", "random forest", "boosted trees", "CPU seconds, fit"], lines),
    )


def mnist(options):
    """Return how near draws of MNIST are to real digits; draw a page of them."""
    X, y = mnist_images("train", options, 300)
    T, y_test = mnist_images("t10k", options, 100)
    n = len(T)
    net = train_classifier(grey(X), y)
    told = accuracy(net, grey(T), y_test)
    real = features(net, grey(T))

    def distance(levels):
        return f"{frechet_distance(features(net, grey(levels)), real):.2f}"

    # Without held-out images, the average of the weights at the end is the model.
    model = DiffusionModel(
        _CHANNELS if options.scale == 1 else (8, 8),
        image_shape=(28, 28),
        rtol=_DRAWN_RTOL,
        dropout=0.0,
        batch_size=_BATCH,
        max_epochs=share(_EPOCHS, options, 2),
        lr=_RATE,
        early_stopping=False,
        random_state=0,
    )
    # Grey levels and noise of one level: a density on [0, 256]^784.
    noise = np.random.RandomState(0).uniform(size=X.shape).astype(np.float32)
    torch.set_num_threads(2)
    start = process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X + noise)
    seconds = [f"{process_time() - start:,.0f}"]
    say(f"fitted in {seconds[0]} s, loss {model.history_[-1]}")
    start = process_time()
    rows = model.sample(n, random_state=0)
    seconds += [f"{process_time() - start:,.0f}"]
    drawn = np.clip(np.floor(rows), 0, 255)
    some = X[np.random.RandomState(0).permutation(len(X))[:n]]
    lines = [
        ["draws", distance(drawn), *seconds],
        ["training images: the floor", distance(some), "", ""],
    ]
    say(str(lines))
    if options.scale == 1:
        pages = {"DiffusionModel": drawn, "training images": some}
        draw_pages(
            {
                title: grey(page[:ON_A_PAGE]).reshape(-1, 28, 28)
                for title, page in pages.items()
            },
            Path(__file__).parent.parent / "docs" / "_static" / "draws_diffusion.png",
        )
    return paragraphs(
        f"Fréchet distance of {n:,} draws to the {n:,} test images of MNIST, as in "
        "`python -m benchmarks.autoencoders draws`: in 64 features of a small "
        f"classifier that recognises {100 * told:.2f} % of them. "
        f"`DiffusionModel({model.hidden_layer_sizes}, image_shape=(28, 28))` sees "
        f"{len(X):,} images, in grey levels with uniform noise of one level, on two "
        f"threads: {model.max_epochs} epochs with lr={_RATE:g} (batches of {_BATCH}, "
        f"dropout=0, rtol={model.rtol:g}). Pixels of draws are rounded down to grey "
        "levels.",
        grid(["images", "distance", "CPU seconds, fit", "CPU seconds, draws"], lines),
    )


_JUDGES = (
    RandomForestClassifier(300, random_state=0),
    HistGradientBoostingClassifier(random_state=0),
)


def _area(judge, real, fake):
    """Return the area under the curve of a classifier of real and drawn rows."""
    X = np.vstack([real, fake])
    y = np.repeat([0, 1], [len(real), len(fake)])
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    found = cross_val_predict(judge, X, y, cv=folds, method="predict_proba")
    return roc_auc_score(y, found[:, 1])


PARTS = {"draws": ("Draws of digits", draws), "mnist": ("Draws of MNIST", mnist)}


def _command(part, options):
    """Return the command of a part."""
    command = f"python -m benchmarks.diffusion {part}"
    return command if options.scale == 1 else f"{command} --scale {options.scale:g}"


def main():
    """Run the parts that the command names, all by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.diffusion")
    write_sections(parser, PARTS, _command, Path(__file__).with_name("diffusion.md"))


if __name__ == "__main__":
    main()
