"""Compare the models on a table: ``python -m skgen [table.csv]``."""

import argparse
import signal
import sys

from skgen import __version__
from skgen._lazy import lazy_module
from skgen.cli._files import LEAST_ROWS, CommandError, check_outputs

# Loads NumPy and scikit-learn, which `--help` and errors of options do not need.
comparison = lazy_module("skgen.cli._compare")


def main(arguments=None):
    """Run the command with these arguments (of sys.argv if None); return its status."""
    options = _parser().parse_args(arguments)
    try:
        check_outputs(options)
        comparison.compare(options)
    except (CommandError, OSError) as error:
        sys.stderr.write(f"skgen: error: {error}\n")
        return 1
    except MemoryError:
        sys.stderr.write("skgen: error: not enough memory for this number of rows\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("skgen: interrupted\n")
        return 130
    return 0


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
    add = parser.add_argument
    add(
        "table",
        nargs="?",
        help="delimited text file, plain or compressed, or a file for pandas; "
        "without a table, the digits of scikit-learn",
    )
    add("--sample", metavar="OUT.csv", help="write draws from the best model of skgen")
    text = "number of rows to draw for --sample (default: 1000)"
    add(
        "-n", "--n-samples", type=_count(1, 10**9), default=1000, metavar="N", help=text
    )
    text = "do not replace draws outside the ranges of the columns"
    add("--unbounded", action="store_true", help=text)
    text = "write a picture of the data beside draws from the best model of skgen"
    add("--plot", metavar="OUT.png", help=text)
    text = "do not add noise of one grid step to columns with ties"
    add("--no-dequantize", action="store_true", help=text)
    text = (
        "leave out SGDGaussianMixture and autoencoders, which are trained for minutes"
    )
    add("--fast", action="store_true", help=text)
    text = "maximum number of components of a mixture (default: 10)"
    add("--components", type=_count(1), default=10, metavar="K", help=text)
    text = "maximum number of rows, drawn at random; 0 takes all (default: 10000)"
    add("--rows", type=_rows, default=10_000, metavar="N", help=text)
    text = "number of folds of the cross-validation (default: 5)"
    add("--folds", type=_count(2), default=5, metavar="N", help=text)
    text = "seed of folds, initialisations, noise and draws (default: 0)"
    seed = _count(0, 2**32 - 1)
    add("--random-state", type=seed, default=0, metavar="SEED", help=text)
    add("--version", action="version", version=f"skgen {__version__}")
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


if __name__ == "__main__":
    # On SIGTERM, remove files that are half written.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
