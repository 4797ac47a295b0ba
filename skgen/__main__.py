"""Compare the models on a table: ``python -m skgen [table.csv]``."""

import argparse
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from skgen import __version__
from skgen._comparison._candidates import LEGEND, candidates
from skgen._comparison._cross_validation import cross_validate
from skgen._comparison._data import TableError, digits_table, read_table
from skgen._comparison._report import format_results, plot_draws, write_draws


def main(arguments=None):
    """Run the comparison; return the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        _check_outputs(options)
        _compare(options)
    except (TableError, OSError) as error:
        sys.stderr.write(f"skgen: error: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("skgen: interrupted\n")
        return 130
    return 0


def _parser():
    parser = argparse.ArgumentParser(
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
        type=_count(1),
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
        "--components",
        type=_count(1),
        default=10,
        metavar="K",
        help="components of a mixture, fewer for few rows (default: 10)",
    )
    parser.add_argument(
        "--rows",
        type=_count(0),
        default=10_000,
        metavar="N",
        help="compare on at most so many rows; 0 takes all (default: 10000)",
    )
    parser.add_argument(
        "--folds", type=_count(2), default=5, metavar="N", help="(default: 5)"
    )
    parser.add_argument(
        "--random-state", type=_count(0), default=0, metavar="SEED", help="(default: 0)"
    )
    parser.add_argument("--version", action="version", version=f"skgen {__version__}")
    return parser


def _count(minimum):
    """Return the type of an argument that is an int of at least `minimum`."""

    def parse(text):
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if value < minimum:
            message = f"must be an int of at least {minimum}. Got {text!r} instead."
            raise argparse.ArgumentTypeError(message)
        return value

    return parse


def _check_outputs(options):
    """Raise before any work where an output could not be written."""
    for path in (options.sample, options.plot):
        if path and not Path(path).resolve().parent.is_dir():
            raise TableError(f"there is no folder to write {path} to.")
    if options.plot:
        try:
            from matplotlib.figure import Figure
        except ImportError:
            raise TableError(
                '--plot needs matplotlib: pip install "skgen[cli]"'
            ) from None
        formats = Figure().canvas.get_supported_filetypes()
        suffix = Path(options.plot).suffix.lstrip(".").lower()
        if suffix and suffix not in formats:
            raise TableError(
                f"--plot must end in one of {', '.join(sorted(formats))}. "
                f"Got {options.plot!r} instead."
            )
    if options.sample:
        try:
            import pandas  # noqa: F401
        except ImportError:
            raise TableError(
                '--sample needs pandas: pip install "skgen[cli]"'
            ) from None


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
    # A covariance of its own has rank d from d + 1 rows; five times that to be told.
    most = max(1, (n - -(-n // n_folds)) // (5 * (d + 1)))
    n_components = min(options.components, most)
    for note in table.notes:
        sys.stdout.write(f"{note}\n")
    sys.stdout.write(
        f"{n_folds}-fold cross-validation on {n:,} rows of {d} columns\n\n"
    )
    sys.stdout.flush()

    models = candidates(n_components, seed)
    with _progress(len(models) * n_folds) as advance:
        results = cross_validate(models, table.X, n_folds, seed, advance)
    sys.stdout.write(format_results(results) + "\n\n" + LEGEND + "\n")
    _write_notes(results)
    if options.sample or options.plot:
        _write_outputs(options, table, results)


def _write_notes(results):
    """Say once what each model warned of."""
    said = {}
    for result in results:
        for note in result.notes.values():
            said.setdefault(note, []).append(result.candidate.label)
    for note, labels in said.items():
        sys.stderr.write(f"note: {', '.join(labels)}: {note}\n")


def _write_outputs(options, table, results):
    """Fit skgen's best model to all rows, and draw from it."""
    ours = [result for result in results if result.candidate.ours]
    best = max(ours, key=lambda result: result.mean)
    if best.failed:
        raise TableError(
            "no model could be fitted, so that there is none to draw from."
        )
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the same as in cross-validation, said above
        model = best.candidate.build(table.X).fit(table.X)
    label, seed = best.candidate.label, options.random_state
    if options.sample:
        draws = model.sample(options.n_samples, random_state=seed)
        write_draws(options.sample, table.to_grid(draws), table.names)
        sys.stdout.write(
            f"\n{options.n_samples:,} draws from {label}: {options.sample}\n"
        )
    if options.plot:
        n_shown = min(table.X.shape[0], 2000)
        draws = model.sample(n_shown, random_state=seed)
        plot_draws(options.plot, table, draws, label)
        sys.stdout.write(f"\na picture of {label}: {options.plot}\n")


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
    with Progress(
        console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task("comparing", total=total)
        started = False

        def advance(label):
            nonlocal started
            progress.update(task, advance=int(started), description=label)
            started = True

        yield advance


if __name__ == "__main__":
    sys.exit(main())
