"""What the tests share that run a script in a process of its own."""

import os
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
