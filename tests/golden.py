"""A golden table: what every instance of the tests' table answers on fixed rows.

``python -m tests.golden`` fits each instance and compares it with ``golden.json``;
``--record`` writes the file anew. Answers are those of one machine: another processor
rounds otherwise, and iterations amplify rounding, so that a table is compared on the
machine that recorded it (``--against FOLDER`` records another checkout first).
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(threads, "1")
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np  # noqa: E402
from estimators import MODELS, WRAPPERS, name, rows  # noqa: E402
from sklearn.base import clone  # noqa: E402

FILE = Path(__file__).with_name("golden.json")


def answers(model):
    """Return what one fitted instance answers, as plain numbers."""
    X, y = rows(120, 3), np.arange(120) % 2
    model = clone(model).fit(X, y)
    last = getattr(model, "steps_", [(None, model)])[-1][1]
    found = {}
    for attribute in ("n_iter_", "lower_bound_", "loss_", "loo_score_"):
        if hasattr(last, attribute):
            found[attribute] = np.asarray(getattr(last, attribute)).tolist()
    held_out = rows(30, 3, seed=1)
    found["score_samples"] = model.score_samples(held_out).tolist()
    if hasattr(model, "transform"):
        found["transform"] = model.transform(held_out[:5]).ravel().tolist()
    if hasattr(model, "sample"):
        found["sample"] = model.sample(5, random_state=2).ravel().tolist()
    return found


def table():
    """Return the answers of all instances, and the processor that computed them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {name(model): answers(model) for model in MODELS + WRAPPERS}
    return {"processor": processor(), "instances": found}


def processor():
    """Return the name of this machine's processor and the vector units NumPy uses."""
    from numpy._core._multiarray_umath import __cpu_features__

    used = [f for f in ("AVX2", "AVX512F", "NEON") if __cpu_features__.get(f)]
    return f"{platform.machine()} {' '.join(used)}"


def differences(old, new, rtol):
    """Yield a line for each answer that differs by more than `rtol` of its size."""
    for instance in sorted({*old, *new}):
        if instance not in old or instance not in new:
            yield f"{instance}: only in {'the old' if instance in old else 'the new'}"
            continue
        for what in sorted({*old[instance], *new[instance]}):
            a, b = (np.asarray(t[instance].get(what), float) for t in (old, new))
            if a.shape != b.shape:
                yield f"{instance}: {what} has the shape {b.shape}, was {a.shape}"
                continue
            error = np.abs(a - b) / np.maximum(np.abs(a), 1)
            error = np.where(np.isnan(a) & np.isnan(b), 0.0, error)
            if not (error <= rtol).all():
                yield f"{instance}: {what} differs by {error.max():.1e}"


def recorded_by(folder):
    """Return the table of another checkout, which runs in a process of its own."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [sys.executable, __file__, "--record", "--output", file.name]
        environment = {**os.environ, "PYTHONPATH": str(folder)}
        subprocess.run(command, check=True, env=environment, cwd=folder)
        return json.loads(Path(file.name).read_text())


def main():
    """Record the table, or compare with a recorded one."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--record", action="store_true", help="write the file anew")
    parser.add_argument("--output", type=Path, default=FILE, help="the file")
    parser.add_argument("--against", type=Path, help="compare with another checkout")
    parser.add_argument("--rtol", type=float, default=1e-10)
    options = parser.parse_args()
    new = table()
    if options.record:
        options.output.write_text(json.dumps(new, indent=0) + "\n")
        return 0
    if options.against:
        old = recorded_by(options.against.resolve())
    else:
        old = json.loads(options.output.read_text())
    if old["processor"] != new["processor"]:
        sys.stdout.write(
            f"recorded on {old['processor']}, this is {new['processor']}\n"
        )
    lines = list(differences(old["instances"], new["instances"], options.rtol))
    verdict = f"{len(new['instances'])} instances, {len(lines)} differences"
    sys.stdout.write("\n".join([*lines, verdict, ""]))
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
