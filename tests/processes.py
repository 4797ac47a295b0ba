"""What the tests share that run a script or a function in another process."""

import os
import signal
import subprocess
import sys


def warning_lines(script):
    """Run a script with Python's default filters; return its lines with warnings."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONWARNINGS"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return [line for line in done.stderr.splitlines() if "Warning:" in line]


def in_fork(function, generations=1, seconds=60):
    """Return the exit status of a forked child that calls a function: 0 if it returns.

    The child of the last of some `generations` calls it. A child that hangs is killed.
    """
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    signal.alarm(seconds)
    status = 1
    try:
        if generations > 1:
            status = int(in_fork(function, generations - 1, seconds) != 0)
        else:
            function()
            status = 0
    finally:
        os._exit(status)
