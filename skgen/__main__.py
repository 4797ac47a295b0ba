"""Compare the models on a table: ``python -m skgen [table.csv]``."""

import argparse
import os
import re
import signal
import sys
import warnings
from pathlib import Path

import numpy as np

from skgen import __version__
from skgen.cli._candidates import (
    candidates,
    legend,
    most_components,
    principal_components,
)
from skgen.cli._cross_validation import cross_validate
from skgen.cli._data import digits_table, read_table
from skgen.cli._progress import progress
from skgen.cli._reading import LEAST_ROWS, TableError, count, require
from skgen.cli._report import (
    N_DRAWS,
    PICTURES,
    format_results,
    plot_draws,
    write_draws,
)


def main(arguments=None):
    """Run the command with these arguments (of sys.argv if None); return its status."""
    options = _parser().parse_args(arguments)
    try:
        _check_outputs(options)
        _compare(options)
    except (TableError, OSError) as error:
        sys.stderr.write(f"skgen: error: {error}\n")
        return 1
    except MemoryError:
        sys.stderr.write("skgen: error: not enough memory for this number of rows\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("skgen: interrupted\n")
        return 130
    return 0


def _say(text):
    """Write to standard output; ignore a reader that closed it."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # The requested files are still written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Parser(argparse.ArgumentParser):
    """A parser with errors of one line."""

    def error(self, message):
        self.exit(2, f"skgen: error: {message} (--help lists the options)\n")


def _parser():
    parser = _Parser(
        prog="python -m skgen",
        description=(
            "Compare density models on the numeric columns of a table. Each model of "
            "skgen and of scikit-learn is scored by cross-validation: the mean "
            "log-likelihood of held-out rows, in nats. Higher is better."
        ),
        epilog=(
            "Example: python -m skgen table.csv --sample draws.csv --plot draws.png"
        ),
    )
    parser.add_argument(
        "table",
        nargs="?",
        help=(
            "delimited text file with a header, plain or compressed (.gz); "
            "without a table, the digits of scikit-learn"
        ),
    )
    parser.add_argument(
        "--sample",
        metavar="OUT.csv",
        help="write rows drawn from the best model of skgen to a file",
    )
    parser.add_argument(
        "-n",
        "--n-samples",
        type=_count(1, 10**9),
        default=1000,
        metavar="N",
        help="number of rows to draw for --sample (default: 1000)",
    )
    parser.add_argument(
        "--plot",
        metavar="OUT.png",
        help="write a picture of the data beside draws from the best model of skgen",
    )
    parser.add_argument(
        "--no-dequantize",
        action="store_true",
        help="do not add noise of one grid step to columns with ties",
    )
    parser.add_argument(
        "--fast",
        action="store_true",
        help=(
            "leave out the models that are trained by gradient descent: "
            "SGDGaussianMixture and the autoencoders"
        ),
    )
    parser.add_argument(
        "--components",
        type=_count(1),
        default=10,
        metavar="K",
        help="maximum number of components of a mixture (default: 10)",
    )
    parser.add_argument(
        "--rows",
        type=_rows,
        default=10_000,
        metavar="N",
        help="maximum number of rows, drawn at random; 0 takes all (default: 10000)",
    )
    parser.add_argument(
        "--folds",
        type=_count(2),
        default=5,
        metavar="N",
        help="number of folds of the cross-validation (default: 5)",
    )
    parser.add_argument(
        "--random-state",
        type=_count(0, 2**32 - 1),
        default=0,
        metavar="SEED",
        help="seed of folds, initialisations, noise and draws (default: 0)",
    )
    parser.add_argument("--version", action="version", version=f"skgen {__version__}")
    return parser


def _count(minimum, maximum=None):
    """Return an argument type: an int from `minimum` to `maximum`."""
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
    """Return the maximum number of rows, 0 for all, of an argument."""
    return 0 if text == "0" else _count(LEAST_ROWS)(text)


def _check_outputs(options):
    """Raise a TableError if an output cannot be written, before any work."""
    outputs = [path for path in (options.sample, options.plot) if path is not None]
    for path in outputs:
        folder = Path(path).resolve().parent
        if not path or Path(path).is_dir():
            raise TableError(f"an output must be a file. Got {path!r} instead.")
        if not folder.is_dir():
            raise TableError(f"there is no folder {folder} to write to.")
        if not os.access(path if Path(path).exists() else folder, os.W_OK):
            raise TableError(f"{path} cannot be written.")
    files = [Path(p).resolve() for p in (*outputs, options.table) if p]
    if len(set(files)) < len(files):
        raise TableError("the table and the outputs must be different files.")
    if options.sample is not None:
        require("pandas", "--sample")
    if options.plot is not None:
        require("matplotlib", "--plot")
        _check_suffix(options.plot)


def _check_suffix(path):
    """Raise a TableError if a picture has an unknown format."""
    suffix = Path(path).suffix.lstrip(".").lower()
    if suffix and suffix not in PICTURES:
        raise TableError(
            f"--plot must end in one of {', '.join(PICTURES)}. Got {path!r} instead."
        )


def _compare(options):
    """Read the table, compare the models, and write the requested files."""
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
            f"beware: {n_training} training rows are too few for "
            f"{count(d, 'column')}, and the scores are unreliable"
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
    with progress(len(models) * n_folds) as advance:
        results = cross_validate(models, table.X, n_folds, seed, advance)
    _say(format_results(results) + "\n\n" + legend(models, n_training) + "\n")
    _write_notes(results)
    if all(result.failed for result in results):
        raise TableError("no model could be fitted.")
    if options.sample or options.plot:
        _write_outputs(options, table, results)


def _mixture_sizes(n_components, n_rows, n_columns):
    """Return the number of components of mixtures, in words."""
    most = min(n_components, most_components(n_rows, n_columns))
    few = " (more need more rows)" if most < n_components else ""
    words = f"mixtures of up to {count(most, 'component')}{few}"
    after_pca = [
        min(n_components, most_components(n_rows, k))
        for k in principal_components(n_rows, n_columns)
    ]
    if max(after_pca, default=0) > most:
        words += f", up to {after_pca[0]} after PCA"
    return words


def _write_notes(results):
    """Write each warning once, with the models that raised it or a similar one."""
    groups = {}
    for result in results:
        for note in result.notes.values():
            # Similar warnings differ in the numbers of components and columns only.
            key = re.sub(r"\[[^\]]*\]|[-+.\de]*\d", "", note)
            groups.setdefault(key, (note, []))[1].append(result.candidate.label)
    for note, labels in groups.values():
        others = f" (likewise {', '.join(labels[1:])})" if len(labels) > 1 else ""
        sys.stderr.write(f"note: {labels[0]}{others}: {note}\n")


def _write_outputs(options, table, results):
    """Fit the best model of skgen to all rows, and write draws from it."""
    ours = [result for result in results if result.candidate.ours]
    best = max(ours, key=lambda result: result.mean)
    if best.failed:
        raise TableError("no model of skgen could be fitted to draw from.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cross-validation has reported them
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
        _say(f"\npicture of draws from {label}: {options.plot}\n")


if __name__ == "__main__":
    # On SIGTERM, remove files that are half written.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
