"""No result depends on the processor: numerical tests again, as on an older one.

NumPy, OpenBLAS, PyTorch, MKL and oneDNN choose their instructions by the processor, and
other instructions round otherwise. Here all of them do without AVX-512.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from numpy._core._multiarray_umath import __cpu_dispatch__ as dispatched
from numpy._core._multiarray_umath import __cpu_features__ as features

# X86_V4 is the first group of AVX-512 in NumPy 2.4. Names from other versions of NumPy
# are an error.
NEWER = [
    name
    for name in dispatched
    if name.startswith(("AVX512", "X86_V4")) and features[name]
]
pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not NEWER, reason="the processor is an older one"),
]
TESTS = Path(__file__).parent
NO_AUTOENCODERS = "not AutoEncoder and not RAE and not SWAE and not VAE"

OLDER = {
    "NPY_DISABLE_CPU_FEATURES": " ".join(NEWER),
    "OPENBLAS_CORETYPE": "Haswell",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
}
# Groups of about the same duration, with pytest's arguments.
GROUPS = {
    "mixtures": [
        "test_acceleration.py",
        "test_device_mixture.py",
        "test_em_gaussian_mixture.py",
        "test_iterated.py",
        "test_mapped.py",
        "test_pass.py",
        "test_starts.py",
        "test_stepwise.py",
        "test_whitening.py",
    ],
    "kernels": [
        "test_bandwidth.py",
        "test_bounds.py",
        "test_gaussian_kde.py",
        "test_kernel_sums.py",
    ],
    "wrappers": ["test_classifier_and_outliers.py", "test_pipeline.py"],
    "gradients": ["test_autoencoder_formulas.py", "test_sgd_gaussian_mixture.py"],
    "contract": ["test_contract.py", "-k", NO_AUTOENCODERS],
}


def older(*arguments):
    """Run Python as on an older processor; return what it prints."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=TESTS.parent,
        env={**os.environ, **OLDER},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


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
    features, architectures, capability = json.loads(older("-W", "error", "-c", code))
    assert not set(NEWER) & set(features)
    assert set(architectures) <= {"Haswell", None}
    assert capability in ("AVX2", "DEFAULT")


@pytest.mark.parametrize("group", GROUPS)
def test_results_do_not_depend_on_the_processor(group):
    arguments = [
        str(TESTS / argument) if argument.endswith(".py") else argument
        for argument in GROUPS[group]
    ]
    options = ["-m", "pytest", "-q", "-p", "no:cacheprovider"]
    assert " passed" in older(*options, *arguments)
