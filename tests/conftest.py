"""What all tests share: groups, real data where there are any, array API checks."""

import gc
import os
import re
from pathlib import Path

# Side by side, every process has one core to itself.
if "PYTEST_XDIST_WORKER" in os.environ:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")

# scikit-learn runs its array API checks only where scipy was imported with this.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import numpy as np
import pytest

# Imported modules and collected tests never become garbage. The collector is off until
# they exist, and ignores them then: half of the time of a collection.
gc.disable()


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the slow tests as well")


def pytest_configure(config):
    # The tests of hypothesis try few examples unless the thorough ones are selected.
    from hypothesis import settings

    few = "not thorough" in config.option.markexpr
    settings.register_profile("skgen", deadline=None, max_examples=15 if few else 100)
    settings.load_profile("skgen")


# Pages that start a cluster.
_PAGES_WITH_PROCESSES = ("large_data.md",)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    for item in items:
        if item.path.name in _PAGES_WITH_PROCESSES:
            item.add_marker(pytest.mark.process)
    if config.getoption("--slow"):
        return
    skipped = pytest.mark.skip(reason="slow: give --slow to run it")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skipped)


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Run all tests of a model in one process, which makes each of its fits once.

    Marks of the kind `xdist_group` have no effect with xdist 3.8 and pytest 9.2:
    https://github.com/pytest-dev/pytest-xdist/issues/1386.
    """
    if config.getoption("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByModel(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return _group(nodeid)

    return ByModel(config, log)


def _group(nodeid):
    """Return what tests of one process share: a file, a model or a function."""
    path, *_ = nodeid.split("::")
    if Path(path).name in ("test_distributed.py", "test_persistence.py"):
        return path  # one cluster, one fit of each model
    model = re.search(r"[\[-]([A-Z]\w*\(.*\))", nodeid)
    return model.group(1) if model else nodeid.partition("[")[0]


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
