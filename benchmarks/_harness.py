"""Timing in pairs, so that a ratio survives a noisy machine."""

import gc
import platform
import statistics
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import skgen

PACKAGES = ("scikit-learn", "scipy", "numpy", "torch")


@dataclass(frozen=True)
class Row:
    """One line of the table: a piece of work, ours against a peer's."""

    work: str
    peer: str
    ours_seconds: float
    peer_seconds: float
    ratio: float  # of the medians: above one if ours is faster
    ratios: tuple  # the least and the largest of the pairs
    agreement: str  # how the answers compare


def compare(work, peer, ours, theirs, agreement, pairs):
    """Time two callables in turn; return a row of the table.

    Parameters
    ----------
    work, peer : str
        What is done, and by what else.
    ours, theirs : callable
        Do the work and return their answer. Run once before the timed pairs.
    agreement : callable
        Maps the two answers to a phrase that compares them.
    pairs : int
        Number of runs of each, in turn.

    Returns
    -------
    Row
    """
    answers = ours(), theirs()
    seconds = [(timed(ours)[0], timed(theirs)[0]) for _ in range(pairs)]
    return _row(work, peer, seconds, agreement(*answers))


def compare_once(work, peer, ours, theirs, agreement):
    """Time what takes minutes once each, as `compare` does; return a row."""
    (mine, answer), (other, peer_answer) = timed(ours), timed(theirs)
    said = f"{agreement(answer, peer_answer)}; one run"
    return _row(work, peer, [(mine, other)], said)


def _row(work, peer, seconds, agreement):
    """Return the row of (ours, peer) pairs of seconds."""
    mine, other = (statistics.median(column) for column in zip(*seconds, strict=True))
    each = [b / a for a, b in seconds]
    ratios = min(each), max(each)
    return Row(work, peer, mine, other, other / mine, ratios, agreement)


def timed(function):
    """Return the seconds of a call, and its answer."""
    gc.collect()
    start = perf_counter()
    answer = function()
    return perf_counter() - start, answer


def table(rows):
    """Return rows as a Markdown table."""
    lines = [
        "| work | peer | skgen | peer | peer / skgen | pairs | answers |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        low, high = row.ratios
        lines.append(
            f"| {row.work} | {row.peer} | {row.ours_seconds:.3g} s | "
            f"{row.peer_seconds:.3g} s | **{_times(row.ratio)}** | "
            f"{_times(low)} to {_times(high)} | {row.agreement} |"
        )
    return "\n".join(lines)


def _times(ratio):
    """Return a ratio as text with a significant digit."""
    return f"{ratio:.1f}" if ratio >= 0.1 else f"{ratio:.2f}"


def environment(command):
    """Return the command, the machine and the versions as Markdown lines."""
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    versions = f"skgen {skgen.__version__}, {versions}"
    return (
        f"Command: `{command}`  \n"
        f"Processor: {_processor()}  \n"
        f"Python {platform.python_version()}, {versions}"
    )


def _processor():
    """Return the name of the processor and its number of cores."""
    from joblib import cpu_count

    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [
            line for line in info.read_text().splitlines() if "model name" in line
        ]
        name = models[0].split(":")[1].strip() if models else name
    return f"{name}, {cpu_count()} cores"


def main(rows, name):
    """Run one script by itself and print its table."""
    command = f"python -m benchmarks.{name}"
    sys.stdout.write(f"{table(rows(pairs=5))}\n\n{environment(command)}\n")
