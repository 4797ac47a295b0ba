"""Pipelines, classifiers and outlier detectors, against scikit-learn's own.

``python -m benchmarks.composition [PART ...]`` writes one section for each part; the
sections of other parts stay in the file. Data are found through `SKGEN_DATA`.
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
    "digits": ("Digits", _of("_principal_components", "digits")),
    "mnist": ("MNIST", _of("_principal_components", "mnist")),
    "outliers": ("Outliers", _of("_outliers", "outliers")),
    "classifiers": ("Classifiers", _of("_classification", "classifiers")),
    "fremont": ("Fremont bridge", _of("_fremont", "fremont")),
}


def _command(part, options):
    """Return the command of a part."""
    command = f"python -m benchmarks.composition {part}"
    return command if options.scale == 1 else f"{command} --scale {options.scale:g}"


def main():
    """Run the parts that the command names, all by default."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.composition", description=__doc__
    )
    page = Path(__file__).with_name("composition.md")
    write_sections(parser, PARTS, _command, page)


if __name__ == "__main__":
    main()
