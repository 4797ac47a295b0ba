"""EM on rows that memory does not hold: in a file, and on Dask's workers."""

import multiprocessing
import os
import re
import shutil
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from benchmarks._harness import timed
from benchmarks._iterations import (
    clusters,
    counts,
    difference,
    how,
    in_turn,
    ratios,
    seconds,
    start,
)
from benchmarks._sections import grid, paragraphs, say
from skgen import EMGaussianMixture

_D = _K = 16

# The iterations of fits of a file, each of which reads all of it.
_COUNTS_OF_FILE = 1, 5

_BLOCK = 250_000


# -- a file ------------------------------------------------------------------------


def disk(options):
    """Fit a file larger than the memory that the fit may take.

    Parameters
    ----------
    options : argparse.Namespace
        Of the script: `scale`.

    Returns
    -------
    str
        The Markdown of the section.
    """
    n = max(int(20_000_000 * options.scale), 200 * _K)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.npy")
        gigabytes = write_rows(path, n)
        (iteration, rest), (total, n_iter), memory = _fit_of_a_child(path)
    line = [
        f"{n:,} x {_D}, {gigabytes:.2f} GB",
        f"{iteration:.3g} s",
        f"{n / iteration:,.0f}",
        f"{rest:.3g} s",
        f"{total:.3g} s",
        f"{n_iter}",
        *(f"{kilobytes / 1024:,.0f} MB" for kilobytes in memory),
    ]
    heads = ["file", "iteration", "rows per second", "rest of a fit", "fit by default"]
    heads += ["iterations", "memory before", "peak memory", "peak with the file"]
    return paragraphs(
        grid(heads, [line]),
        'In a separate process, on `numpy.load(path, mmap_mode="r")`. '
        + how(*_COUNTS_OF_FILE)
        + f" These fits have given initial parameters; `EMGaussianMixture({_K}, "
        "random_state=0)` is the fit by default. One run of each, directly after "
        "the file was written, so that the system caches as much of it as memory "
        "allows. Memory is anonymous memory (`RssAnon` of Linux, read every 10 ms): "
        "once the packages are loaded, and at its maximum over all fits. The last "
        "column is the maximum with the cached pages of the file (`VmHWM`).",
    )


def write_rows(path, n):
    """Write rows to a file, a block at a time; return its gigabytes."""
    double = n * _D * 8
    room = shutil.disk_usage(path.parent).free > 2 * double
    dtype = np.float64 if room else np.float32
    rows = np.lib.format.open_memmap(path, "w+", dtype, (n, _D))
    for first in range(0, n, _BLOCK):
        size = min(_BLOCK, n - first)
        rows[first : first + size], _ = clusters(size, _D, _K, seed=1 + first)
    rows.flush()
    return rows.nbytes / 1e9


def _fit_of_a_child(path):
    """Return what `_fit_file` does, and the kilobytes of its process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pid = pool.apply(os.getpid)
        before = kilobytes(pid, "RssAnon")
        most = before
        answer = pool.apply_async(_fit_file, (path,))
        while not answer.ready():
            if all(child.pid != pid for child in multiprocessing.active_children()):
                raise RuntimeError("The process that fits the file has ended.")
            most = max(most, kilobytes(pid, "RssAnon"))
            answer.wait(0.01)
        return *answer.get(), (before, most, kilobytes(pid, "VmHWM"))


def kilobytes(pid, name):
    """Return a memory figure of a process in Linux; NaN on other systems."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return float("nan")
    found = re.search(rf"^{name}:\s+(\d+) kB", status.read_text(), re.MULTILINE)
    return int(found[1]) if found else float("nan")


def _fit_file(path):
    """Return seconds of an iteration, of the rest and of a whole fit, and `n_iter_`."""
    rows = np.load(path, mmap_mode="r")
    _, means = clusters(1, _D, _K)

    def fit(max_iter, rows=rows):
        return EMGaussianMixture(_K, max_iter=max_iter, **start(means)).fit(rows)

    fit(1, np.array(rows[: 200 * _K]))  # not counted
    measured = difference(fit, *_COUNTS_OF_FILE)
    mixture = EMGaussianMixture(_K, random_state=0)
    total, _ = timed(lambda: mixture.fit(rows))
    return measured, (total, mixture.n_iter_)


# -- Dask --------------------------------------------------------------------------


def on_workers(options):
    """Compare an iteration on two of Dask's workers with one on one.

    Parameters
    ----------
    options : argparse.Namespace
        Of the script: `pairs` and `scale`.

    Returns
    -------
    str
        The Markdown of the section.
    """
    if find_spec("distributed") is None:
        return "dask.distributed is not installed."
    n = max(int(4_000_000 * options.scale), 200 * _K)
    one, two = (np.empty((2, options.pairs)) for _ in range(2))
    fitted = {}
    for i in range(options.pairs):
        for n_workers, taken in ((1, one), (2, two)):
            taken[:, i], fitted[n_workers] = _on_a_cluster(
                n, n_workers, counts(options)
            )
        say(f"iteration on one worker {one[0, i]:.2f} s, on two {two[0, i]:.2f} s")
    ratio, pairs = ratios(two[0], one[0])
    share = 100 * np.median(one[0]) / np.median(two[0]) / 2
    apart = np.abs(fitted[1].means_ - fitted[2].means_).max()
    line = [
        f"{n:,} x {_D}, K={_K}, full",
        *(seconds(taken[0]) for taken in (one, two)),
        *(f"{n / np.median(taken[0]):,.0f}" for taken in (one, two)),
        ratio,
        pairs,
        f"**{share:.0f} %**",
        *(seconds(taken[1]) for taken in (one, two)),
        f"{fitted[1].n_iter_} and {fitted[2].n_iter_} iterations, means differ by at "
        f"most {apart:.0e}",
    ]
    heads = ["rows", "one worker", "two workers", "rows per second, one", "two"]
    heads += ["one / two", "pairs", "of perfect scaling", "rest of a fit, one", "two"]
    return paragraphs(
        grid([*heads, "answers"], [line]),
        f"`EMGaussianMixture.fit` of a Dask array of blocks of {_rows_of_block(n):,} "
        f"rows, dask.distributed {version('distributed')}, `LocalCluster` with worker "
        "processes of one thread each. The workers generate the rows and keep them. "
        + how(*counts(options))
        + f" Medians of {options.pairs} clusters of each size, in turn; the first fit "
        "on each is untimed.",
    )


def _rows_of_block(n):
    return min(_BLOCK, -(-n // 4))  # an equal number for both workers


def _on_a_cluster(n, n_workers, numbers):
    """Return the seconds of an iteration and of the rest, and what was fitted."""
    from distributed import Client, LocalCluster, wait

    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=None,
            host="127.0.0.1",
            dashboard_address=":0",
            local_directory=folder,
        ) as cluster,
        Client(cluster),
    ):
        rows = _array(n).persist()
        wait(rows)
        _, means = clusters(1, _D, _K)

        def fit(max_iter):
            mixture = EMGaussianMixture(_K, max_iter=max_iter, **start(means))
            return mixture.fit(rows)

        measured = in_turn([fit], 1, *numbers)[0]
    return (measured.iteration[0], measured.rest[0]), measured.fitted


def _array(n):
    """Return a Dask array whose blocks are made where they are needed."""
    import dask.array as da

    size = _rows_of_block(n)
    sizes = [min(size, n - first) for first in range(0, n, size)]

    def block(block_info):
        where = block_info[None]
        seed = 1 + where["chunk-location"][0]
        return clusters(where["chunk-shape"][0], _D, _K, seed=seed)[0]

    return da.map_blocks(block, chunks=(tuple(sizes), (_D,)), dtype=float)
