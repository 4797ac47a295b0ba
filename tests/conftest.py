"""What all tests share: groups, real data where there are any, array API checks."""

import os
import re
from functools import cache
from pathlib import Path

# Side by side, every process has one core to itself.
if "PYTEST_XDIST_WORKER" in os.environ:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")

# scikit-learn runs its array API checks only where scipy was imported with this.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import numpy as np
import pytest

# Tests of these files share fixtures.
GROUPED = {"test_distributed.py"}


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the slow tests as well")


def pytest_configure(config):
    # The tests of hypothesis try few examples unless the thorough ones are selected.
    from hypothesis import settings

    few = "not thorough" in config.option.markexpr
    settings.register_profile("skgen", deadline=None, max_examples=15 if few else 100)
    settings.load_profile("skgen")


def pytest_collection_modifyitems(config, items):
    skipped = pytest.mark.skip(reason="slow: give --slow to run it")
    for item in items:
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(skipped)
        if shared := _group(item):
            item.add_marker(pytest.mark.xdist_group(shared))


def _group(item):
    """Return the group of tests that one process runs, for the fits that they share."""
    if item.path.name in GROUPED:
        return item.path.name
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    model = parameters.get("model", parameters.get("estimator"))
    return _name(model) if hasattr(model, "get_params") else None


@cache
def _name(model):
    return re.sub(r"\W+", "-", str(model))


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
