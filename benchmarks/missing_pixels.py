"""Autoencoders of images of which half of the pixels are missing in training.

``python -m benchmarks.missing_pixels`` writes a section. MNIST is found through
`SKGEN_DATA`.
"""

import argparse
from pathlib import Path
from time import process_time

import numpy as np

from benchmarks._sections import (
    grid,
    mnist_images,
    paragraphs,
    say,
    share,
    write_sections,
)
from skgen import VAE

_ROWS, _HELD_OUT = 10_000, 200


def halves_missing(X, seed):
    """Return a copy of rows with NaN in half of the entries at random."""
    hidden = np.random.RandomState(seed).uniform(size=X.shape) < 0.5
    return np.where(hidden, np.nan, X).astype(np.float32)


def pixels(options):
    """Return test nats of complete images, and errors of imputed pixels."""
    X, _ = mnist_images("train", options, 500)
    T, _ = mnist_images("t10k", options, 50)
    X, T = X[:_ROWS].astype(np.float32) / 255, T[:_HELD_OUT] / 255
    rng = np.random.RandomState(0)
    T = (rng.uniform(size=T.shape) < T).astype(np.float32)
    incomplete, hidden = halves_missing(X, 0), halves_missing(T, 1)
    means = np.nanmean(incomplete, axis=0)
    filled = np.where(np.isnan(incomplete), means, incomplete)
    few = {"max_epochs": share(options.epochs, options, 1)}
    rows = {
        "complete images": (X, {}),
        "half of the pixels": (incomplete, {}),
        "half of the pixels, `encode_mask=True`": (incomplete, {"encode_mask": True}),
        "half of the pixels, `n_importance=5`": (incomplete, {"n_importance": 5}),
        "mean imputation": (filled, {}),
    }
    missing, lines = np.isnan(hidden), []
    for name, (training, parameters) in rows.items():
        start = process_time()
        model = VAE(
            20,
            hidden_layer_sizes=(200,),
            likelihood="bernoulli",
            lr=2e-3,
            random_state=0,
            **few,
            **parameters,
        ).fit(training)
        seconds = process_time() - start
        nats, of_hidden = -model.score(T), -model.score(hidden)
        error = np.sqrt(np.mean((model.impute(hidden) - T)[missing] ** 2))
        numbers = nats, of_hidden, error
        say(f"{name}: {numbers}, {seconds:.0f} s, {process_time() - start:.0f} s")
        lines.append([name, *(f"{number:.2f}" for number in numbers), f"{seconds:.0f}"])
    error = np.sqrt(np.mean((np.broadcast_to(means, T.shape) - T)[missing] ** 2))
    lines.append(["the means of the pixels", "", "", f"{error:.2f}", ""])
    heads = [
        "trained on",
        "nats, complete",
        "nats, half hidden",
        "RMSE of hidden pixels",
        "CPU seconds of fit",
    ]
    return paragraphs(
        f'`VAE(20, hidden_layer_sizes=(200,), likelihood="bernoulli")`, '
        f"{few['max_epochs']} epochs of {len(X):,} images of MNIST. Each pixel of a "
        "training image is missing with probability 1/2. Columns are negative "
        f"log-likelihoods of {len(T)} test images of zeros and ones, complete and with "
        "half of the pixels hidden, and the error of the hidden pixels, imputed.",
        grid(heads, lines),
    )


PARTS = {"pixels": ("Half of the pixels of MNIST", pixels)}


def _command(part, options):
    command = f"python -m benchmarks.missing_pixels --epochs {options.epochs}"
    return command if options.scale == 1 else f"{command} --scale {options.scale:g}"


def main():
    """Run the part."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.missing_pixels")
    parser.add_argument("--epochs", type=int, default=30, help="of each fit")
    page = Path(__file__).with_name("missing_pixels.md")
    write_sections(parser, PARTS, _command, page)


if __name__ == "__main__":
    main()
