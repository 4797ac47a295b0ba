"""Training on a file that is larger than the memory that training takes.

``python -m benchmarks.streaming`` writes 20 million rows of 16 features to a file and
trains models on its memory map, each in a process of its own. It writes one line for
each: seconds of the epochs, rows a second, and the most memory of the process: its own
(``RssAnon`` of Linux, asked for every 10 ms), pages of files that the system lends
(``RssFile``), and both at once (``VmHWM``). After ``ulimit -d 2000000``, a process gets
at most 2 GB of its own.
"""

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn import config_context
from sklearn.base import clone

from benchmarks._out_of_core import kilobytes, write_rows
from skgen import VAE, EMGaussianMixture, SGDGaussianMixture

MODELS = {
    "EM": EMGaussianMixture(16, tol=0.0, random_state=0),
    "SGD": SGDGaussianMixture(16, early_stopping=False, random_state=0),
    "VAE": VAE(2, batch_size=1024, random_state=0),
}


def trained(name, path, epochs):
    """Return the seconds that a fit takes and its epochs, each of which reads all."""
    rows, model = np.load(path, mmap_mode="r"), clone(MODELS[name])
    model.set_params(**{"max_iter" if name == "EM" else "max_epochs": epochs})
    start = time.perf_counter()
    # A file of a smaller scale counts as large, too.
    with warnings.catch_warnings(), config_context(working_memory=16):
        warnings.simplefilter("ignore")
        model.fit(rows)
    return time.perf_counter() - start, model.n_iter_


def measured(name, path, epochs):
    """Return what `trained` does and the kilobytes of its process, at most."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pid, most = pool.apply(os.getpid), [0, 0]
        answer = pool.apply_async(trained, (name, path, epochs))
        while not answer.ready():
            now = [kilobytes(pid, kind) for kind in ("RssAnon", "RssFile")]
            most = list(map(max, most, now))
            answer.wait(0.01)
        return *answer.get(), *most, kilobytes(pid, "VmHWM")


def main():
    """Write the file, train the models and report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="*", default=list(MODELS), metavar="MODEL")
    parser.add_argument("--scale", type=float, default=1.0, help="of the rows")
    parser.add_argument("--epochs", type=int, default=2, help="(default: 2)")
    options = parser.parse_args()
    n = int(20_000_000 * options.scale)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.npy")
        gigabytes = write_rows(path, n)
        for name in options.models:
            seconds, epochs, own, lent, both = measured(name, path, options.epochs)
            sys.stdout.write(
                f"{name}: {n:,} x 16, {gigabytes:.2f} GB, {epochs} epochs in "
                f"{seconds:.1f} s ({n * epochs / seconds:,.0f} rows a second), peak "
                f"memory {own / 2**10:,.0f} MB of its own, {lent / 2**10:,.0f} MB of "
                f"files, {both / 2**10:,.0f} MB in all\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
