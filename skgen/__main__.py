"""Compare the models on a table: ``python -m skgen [table.csv]``."""

import argparse
import os
import re
import signal
import sys
import warnings
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from skgen import __version__
from skgen._comparison._candidates import (
    candidates,
    legend,
    most_components,
    principal_components,
)
from skgen._comparison._cross_validation import cross_validate
from skgen._comparison._data import digits_table, read_table
from skgen._comparison._reading import LEAST_ROWS, TableError, count
from skgen._comparison._report import (
    N_DRAWS,
    PICTURES,
    format_results,
    plot_draws,
    write_draws,
)


def main(arguments=None):
    """Run the comparison; return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        _check_outputs(options)
        _compare(options)
    except (TableError, OSError) as error:
        sys.stderr.write(f"skgen: error: {error}\n")
        return 1
    except MemoryError:
        sys.stderr.write("skgen: error: not enough memory for that many rows\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("skgen: interrupted\n")
        return 130
    return 0


def _say(text):
    """Write to standard output, whether or not anybody reads on."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # The files that were asked for are written all the same.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message):
        self.exit(2, f"skgen: error: {message} (--help says more)\n")


def _parser():
    parser = _Parser(
        prog="python -m skgen",
        description=(
            "Fit every model of skgen, and scikit-learn's beside them, to a table, "
            "and compare their held-out mean log-likelihoods by cross-validation."
        ),
    )
    parser.add_argument(
        "table",
        nargs="?",
        help="a delimited text file with a header; scikit-learn's digits without one",
    )
    parser.add_argument(
        "--sample", metavar="OUT.csv", help="write draws from skgen's best model"
    )
    parser.add_argument(
        "-n",
        "--n-samples",
        type=_count(1, 10**9),
        default=1000,
        metavar="N",
        help="how many rows to draw (default: 1000)",
    )
    parser.add_argument(
        "--plot", metavar="OUT.png", help="a picture of draws beside data"
    )
    parser.add_argument(
        "--no-dequantize",
        action="store_true",
        help="leave columns with ties as they are, without noise of one grid step",
    )
    parser.add_argument(
        "--fast",
        action="store_true",
        help=(
            "leave out what takes more than a second for each fold: the mixture that "
            "descends gradients, and the autoencoders"
        ),
    )
    parser.add_argument(
        "--components",
        type=_count(1),
        default=10,
        metavar="K",
        help="components of a mixture, fewer for few rows (default: 10)",
    )
    parser.add_argument(
        "--rows",
        type=_rows,
        default=10_000,
        metavar="N",
        help="compare on at most so many rows; 0 takes all (default: 10000)",
    )
    parser.add_argument(
        "--folds", type=_count(2), default=5, metavar="N", help="(default: 5)"
    )
    parser.add_argument(
        "--random-state",
        type=_count(0, 2**32 - 1),
        default=0,
        metavar="SEED",
        help="(default: 0)",
    )
    parser.add_argument("--version", action="version", version=f"skgen {__version__}")
    return parser


def _count(minimum, maximum=None):
    """Return the type of an argument that is an int within bounds."""
    rule = f"an int of at least {minimum}"
    if maximum is not None:
        rule = f"an int from {minimum} to {maximum}"

    def parse(text):
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if value < minimum or (maximum is not None and value > maximum):
            raise argparse.ArgumentTypeError(f"must be {rule}. Got {text!r} instead.")
        return value

    return parse


def _rows(text):
    """Return the most rows to compare on; 0 for all."""
    return 0 if text == "0" else _count(LEAST_ROWS)(text)


def _check_outputs(options):
    """Raise before any work where an output could not be written."""
    outputs = [path for path in (options.sample, options.plot) if path is not None]
    for path in outputs:
        folder = Path(path).resolve().parent
        if not path or Path(path).is_dir():
            raise TableError(f"an output must be a file. Got {path!r} instead.")
        if not folder.is_dir():
            raise TableError(f"there is no folder to write {path} to.")
        if not os.access(path if Path(path).exists() else folder, os.W_OK):
            raise TableError(f"{path} cannot be written.")
    files = [Path(p).resolve() for p in (*outputs, options.table) if p]
    if len(set(files)) < len(files):
        raise TableError("the table and the outputs must be different files.")
    if options.plot is not None:
        _check_picture(options.plot)
    if options.sample is not None and not find_spec("pandas"):
        raise TableError('--sample needs pandas: pip install "skgen[cli]"')


def _check_picture(path):
    if not find_spec("matplotlib"):
        raise TableError('--plot needs matplotlib: pip install "skgen[cli]"')
    suffix = Path(path).suffix.lstrip(".").lower()
    if suffix and suffix not in PICTURES:
        raise TableError(
            f"--plot must end in one of {', '.join(PICTURES)}. Got {path!r} instead."
        )


def _compare(options):
    """Read the table, compare the models, write what was asked for."""
    seed = options.random_state
    if options.table is None:
        table = digits_table(seed)
    else:
        ties = not options.no_dequantize
        table = read_table(options.table, ties=ties, random_state=seed)
    table = table.thinned(options.rows, np.random.RandomState(seed))
    n, d = table.X.shape
    n_folds = min(options.folds, n // 2)
    n_training = n - -(-n // n_folds)
    if n_training <= d + 1:
        table.notes.append(
            f"beware: {n_training} rows to fit to are too few for "
            f"{count(d, 'column')}, and scores say little"
        )
    for note in table.notes:
        _say(f"{note}\n")
    _say(
        f"{n_folds}-fold cross-validation on {count(n, 'row')} of "
        f"{count(d, 'column')}; {_mixture_sizes(options.components, n_training, d)}\n"
    )
    models, left_out = candidates(
        n_training, d, options.components, seed, fast=options.fast
    )
    if left_out:
        _say(f"not compared: {'; '.join(left_out)}\n")
    _say("\n")
    with _progress(len(models) * n_folds) as advance:
        results = cross_validate(models, table.X, n_folds, seed, advance)
    _say(format_results(results) + "\n\n" + legend(models, n_training) + "\n")
    _write_notes(results)
    if all(result.failed for result in results):
        raise TableError("no model could be fitted.")
    if options.sample or options.plot:
        _write_outputs(options, table, results)


def _mixture_sizes(n_components, n_rows, n_columns):
    """Return how many components mixtures have, in words."""
    most = min(n_components, most_components(n_rows, n_columns))
    few = " for so few rows" if most < n_components else ""
    words = f"mixtures of up to {count(most, 'component')}{few}"
    of_codes = [
        min(n_components, most_components(n_rows, k))
        for k in principal_components(n_rows, n_columns)
    ]
    more = f", up to {of_codes[0]} after PCA" if max(of_codes, default=0) > most else ""
    return words + more


def _write_notes(results):
    """Say once what models warned of, and which others were warned of the like."""
    said = {}
    for result in results:
        for note in result.notes.values():
            # The same but for the numbers of components and columns.
            alike = re.sub(r"\[[^\]]*\]|[-+.\de]*\d", "", note)
            said.setdefault(alike, (note, []))[1].append(result.candidate.label)
    for note, labels in said.values():
        others = f" (likewise {', '.join(labels[1:])})" if len(labels) > 1 else ""
        sys.stderr.write(f"note: {labels[0]}{others}: {note}\n")


def _write_outputs(options, table, results):
    """Fit skgen's best model to all rows, and draw from it."""
    ours = [result for result in results if result.candidate.ours]
    best = max(ours, key=lambda result: result.mean)
    if best.failed:
        raise TableError(
            "no model could be fitted, so that there is none to draw from."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the same as in cross-validation, said above
        model = best.candidate.build(table.X).fit(table.X)
    label, seed = best.candidate.label, options.random_state
    if options.sample:
        draws = model.sample(options.n_samples, random_state=seed)
        write_draws(options.sample, table.to_grid(draws), table.names)
        drawn = count(options.n_samples, "draw")
        _say(f"\n{drawn} from {label}: {options.sample}\n")
    if options.plot:
        draws = model.sample(N_DRAWS, random_state=seed)
        plot_draws(options.plot, table, draws, label)
        _say(f"\na picture of draws from {label}: {options.plot}\n")


@contextmanager
def _progress(total):
    """Show a progress bar on standard error, where rich is installed."""
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError:
        yield lambda label: None
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda label: None
        return
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("comparing", total=total)
        started = False

        def advance(label):
            nonlocal started
            progress.update(task, advance=int(started), description=label)
            started = True

        yield advance


if __name__ == "__main__":
    # So that a file half-written goes when the process is asked to go.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
