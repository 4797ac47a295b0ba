"""What all tests share: real data where there are any, and array API checks."""

import os
from pathlib import Path

# scikit-learn runs its array API checks only where scipy was imported with this.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import numpy as np
import pytest


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
