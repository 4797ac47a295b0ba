"""The settings of an older processor take effect in every library."""

import json
import os
import subprocess
import sys

import pytest
from older_processor import NEWER, OLDER

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not NEWER, reason="the processor is an older one"),
]


def test_the_processor_is_an_older_one():
    code = """
import json, numpy, scipy.linalg, torch
from numpy._core._multiarray_umath import __cpu_features__
from threadpoolctl import threadpool_info
print(json.dumps([
    [name for name, there in __cpu_features__.items() if there],
    [library.get("architecture") for library in threadpool_info()],
    torch.backends.cpu.get_cpu_capability(),
]))
"""
    printed = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **OLDER},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    features, architectures, capability = json.loads(printed)
    assert not set(NEWER) & set(features)
    assert set(architectures) <= {"Haswell", None}
    assert capability in ("AVX2", "DEFAULT")
