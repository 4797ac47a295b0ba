"""Missing values: what they cost and what models do with them.

``python -m benchmarks.missing [PART ...]`` writes one section for each part; the
sections of other parts stay in the file.
"""

import argparse
from importlib import import_module
from pathlib import Path

from benchmarks._sections import write_sections


def _of(module, name):
    """Return a part that is imported when it is asked for."""

    def part(options):
        return getattr(import_module(f"benchmarks.{module}"), name)(options)

    return part


PARTS = {
    "iterations": ("Iterations of EM", _of("_missing_iterations", "iterations")),
    "imputation": ("Imputation", _of("_missing_imputation", "imputation")),
    "not_at_random": (
        "Values that are not missing at random",
        _of("_missing_imputation", "not_missing_at_random"),
    ),
    "outliers": ("Outliers", _of("_missing_outliers", "outliers")),
    "explanations": ("Wrong values", _of("_missing_outliers", "explanations")),
}


def _command(part, options):
    """Return the command of a part."""
    command = f"python -m benchmarks.missing {part}"
    return command if options.scale == 1 else f"{command} --scale {options.scale:g}"


def main():
    """Run the parts that the command names, all by default."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.missing", description=__doc__
    )
    page = Path(__file__).with_name("missing.md")
    write_sections(parser, PARTS, _command, page)


if __name__ == "__main__":
    main()
