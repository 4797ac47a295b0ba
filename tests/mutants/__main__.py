"""Plant each fault and see it found: ``python -m tests.mutants [PATTERN]``.

The tests that the patches name must pass as things are, and each must fail with its
fault. ``--table`` writes the outcome to ``tests/mutants/README.md``.
"""

import argparse
import contextlib
import io
import multiprocessing
import multiprocessing.pool
import os
import shutil
import sys
import tempfile
from pathlib import Path

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(threads, "1")
os.environ.setdefault("SCIPY_ARRAY_API", "1")
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
sys.dont_write_bytecode = True

import pandas  # noqa: E402, F401 (what children of this process need not import)
import pytest  # noqa: E402
import scipy.stats  # noqa: E402, F401
import sklearn.mixture  # noqa: E402
import sklearn.utils.estimator_checks  # noqa: E402, F401
import torch  # noqa: E402, F401

from tests.mutants import FOLDER, ROOT, mutants  # noqa: E402

_SECONDS = 600


class Outcomes:
    """A plugin of pytest that keeps the tests that passed and failed."""

    def __init__(self):
        self.passed, self.failed = [], []

    def pytest_runtest_logreport(self, report):
        """Keep the outcome of a test, or of what went wrong around it."""
        if report.failed:
            self.failed.append(report.nodeid)
        elif report.when == "call" and report.passed:
            self.passed.append(report.nodeid)


def run(tests, texts):
    """Run tests on a copy of the package with some texts replaced.

    Returns the tests that passed, those that failed, and pytest's exit status.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name in ("skgen", "tests"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, Path(folder, name), ignore=ignored)
        for name in ("setup.cfg", "README.md", "pyproject.toml"):
            shutil.copy(ROOT / name, folder)
        for file, text in texts.items():
            Path(folder, file).write_text(text, encoding="utf-8")
        os.chdir(folder)
        sys.path[:0] = [folder]
        for name in [m for m in sys.modules if m.partition(".")[0] == "skgen"]:
            del sys.modules[name]
        os.environ["PYTHONPATH"] = folder
        outcomes = Outcomes()
        options = ["-q", "-x", "-m", "", "-p", "no:cacheprovider"]
        options += ["--assert=plain", "-o", "addopts=--import-mode=importlib"]
        with contextlib.redirect_stdout(io.StringIO()) as output:
            status = pytest.main([*options, *tests], plugins=[outcomes])
        os.chdir(ROOT)
    return outcomes.passed, outcomes.failed, int(status), output.getvalue()


def _answer(connection, tests, texts):
    connection.send(run(tests, texts))


def isolated(job):
    """Run tests in a process of its own, with a limit of time."""
    tests, texts = job
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_answer, args=(theirs, tests, texts))
    process.start()
    theirs.close()
    try:
        if ours.poll(_SECONDS):
            return ours.recv()
        return [], [f"nothing after {_SECONDS} seconds"], 1, ""
    except EOFError:
        return [], ["the process died"], 1, ""
    finally:
        process.kill()
        process.join()


def verdict(mutant):
    """Return (mutant, whether it died, the test that noticed, or why it did not)."""
    try:
        texts = mutant.mutated()
    except ValueError as error:
        return mutant, False, f"the patch does not apply: {error}"
    passed, failed, status, output = isolated((mutant.tests, texts))
    if status == 1 and failed:
        return mutant, True, failed[0].removeprefix("tests/")
    if status == 0:
        return mutant, False, f"lives: {len(passed)} tests pass"
    return mutant, False, f"pytest ends with {status}: {output[-2000:]}"


def table(outcomes):
    """Return the outcomes as a page of Markdown."""
    lines = [
        "# Planted faults",
        "",
        "Command: `python -m tests.mutants --table`. Each fault is a patch in this",
        "folder. The tests pass without it, and the named test fails with it.",
        "",
        f"{len(outcomes)} faults, {sum(died for _, died, _ in outcomes)} found.",
        "",
        "| fault | what | file | found by |",
        "|---|---|---|---|",
    ]
    for mutant, died, how in outcomes:
        files = ", ".join(dict.fromkeys(f"`{c[0]}`" for c in mutant.changes))
        how = f"`{how}`" if died else f"**{' '.join(how.split())[:200]}**"
        how = how.replace("|", r"\|")
        lines.append(f"| {mutant.name} | {mutant.what} | {files} | {how} |")
    return "\n".join(lines) + "\n"


def main():
    """Plant the faults whose names match, and report what lives."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pattern", nargs="?", default="*", help="of names of patches")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--table", action="store_true", help="write the table")
    options = parser.parse_args()
    chosen = mutants(options.pattern)
    tests = sorted({test for mutant in chosen for test in mutant.tests})
    _, failed, status, output = isolated((tests, {}))
    if status:
        sys.stdout.write(f"{output}\nThe tests fail without a fault: {failed}\n")
        return 2
    outcomes = []
    with multiprocessing.pool.ThreadPool(options.jobs) as pool:
        for mutant, died, how in pool.imap(verdict, chosen):
            sys.stdout.write(f"{'dies ' if died else 'LIVES'} {mutant.name}: {how}\n")
            sys.stdout.flush()
            outcomes.append((mutant, died, how))
    if options.table:
        (FOLDER / "README.md").write_text(table(outcomes), encoding="utf-8")
    alive = [m.name for m, died, _ in outcomes if not died]
    sys.stdout.write(f"{len(outcomes)} faults, {len(alive)} live\n")
    return int(bool(alive))


if __name__ == "__main__":
    sys.exit(main())
