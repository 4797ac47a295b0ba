"""What all tests share: real data where there are any, and array API checks."""

import os
from pathlib import Path

# Side by side, every process has one core to itself.
if "PYTEST_XDIST_WORKER" in os.environ:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")

# scikit-learn runs its array API checks only where scipy was imported with this.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import numpy as np
import pytest


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the slow tests as well")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--slow"):
        return
    skipped = pytest.mark.skip(reason="slow: give --slow to run it")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skipped)


@pytest.fixture
def rng():
    return np.random.RandomState(0)


@pytest.fixture(scope="session")
def real_data():
    """Return a function from a path below SKGEN_DATA to the file; skip without."""
    root = os.environ.get("SKGEN_DATA")

    def find(name):
        if not root:
            pytest.skip("SKGEN_DATA is not set: no real data to test with")
        path = Path(root) / name
        if not path.exists():
            pytest.skip(f"SKGEN_DATA holds no {name}")
        return path

    return find
