"""Run the benchmarks and write one table: ``python -m benchmarks``."""

import argparse
import importlib
import sys
from datetime import date
from pathlib import Path

from benchmarks._harness import environment, table

SCRIPTS = (
    "gradient_mixture",
    "training_engine",
)


def main():
    """Run the scripts that the command names, all by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "scripts", nargs="*", metavar="SCRIPT", help=f"of {', '.join(SCRIPTS)}"
    )
    parser.add_argument("--pairs", type=int, default=5, help="runs of each, in turn")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="of the work; 0.01 for a smoke test"
    )
    parser.add_argument(
        "--output", default=str(Path(__file__).parent / "results.md"), metavar="FILE"
    )
    options = parser.parse_args()
    unknown = set(options.scripts) - set(SCRIPTS)
    if unknown:
        parser.error(f"no such script: {', '.join(sorted(unknown))}")
    rows = []
    for name in options.scripts or SCRIPTS:
        script = importlib.import_module(f"benchmarks.{name}")
        for row in script.rows(pairs=options.pairs, scale=options.scale):
            sys.stderr.write(f"{row.work}: {row.ratio:.1f}\n")
            rows.append(row)
    command = "python -m benchmarks"
    for name in options.scripts:
        command += f" {name}"
    if options.pairs != parser.get_default("pairs"):
        command += f" --pairs {options.pairs}"
    if options.scale != parser.get_default("scale"):
        command += f" --scale {options.scale:g}"
    text = (
        f"{table(rows)}\n\n{environment(command)}  \nDate: {date.today()}\n\nMedians "
        f"of {options.pairs} runs of each, in turn, after one untimed run. *pairs* are "
        "the smallest and the largest ratio of a pair.\n"
    )
    Path(options.output).write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
