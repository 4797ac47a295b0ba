"""Progress of a comparison, on standard error."""

import sys
import time
from contextlib import contextmanager
from itertools import count
from threading import Event, Thread

from skgen._lazy import is_installed, lazy_module

console = lazy_module("rich.console", "A progress bar")
rich_progress = lazy_module("rich.progress", "A progress bar")

# Seconds between two lines of text, where a progress bar cannot be drawn.
_SECONDS = 30.0


def progress(total):
    """Return a context whose value is called with a label before each of `total` fits.

    Shows a progress bar in a terminal, and a line of text now and then elsewhere.
    """
    return _bar(total) if _is_interactive() else _lines(total)


def _is_interactive():
    """Return whether standard error is a terminal that rich can draw in."""
    # rich alone would also trust FORCE_COLOR, which is set where logs are coloured.
    if not (sys.stderr.isatty() and is_installed("rich")):
        return False
    return console.Console(stderr=True).is_interactive


@contextmanager
def _bar(total):
    """Show a progress bar, which is removed at the end."""
    stderr, done = console.Console(stderr=True), count()
    with rich_progress.Progress(console=stderr, transient=True) as bar:
        task = bar.add_task("comparing", total=total)
        yield lambda label: bar.update(task, completed=next(done), description=label)


@contextmanager
def _lines(total):
    """Write a line of text every `_SECONDS`, also during a long fit."""
    start, stop, labels = time.monotonic(), Event(), []

    def report():
        while not stop.wait(_SECONDS):
            sys.stderr.write(
                f"{max(len(labels) - 1, 0)} of {total} fits done after "
                f"{time.monotonic() - start:.0f} s, now {''.join(labels[-1:])}\n"
            )

    thread = Thread(target=report, daemon=True)
    thread.start()
    try:
        yield labels.append
    finally:
        stop.set()
        thread.join()
