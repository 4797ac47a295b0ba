"""The settings under which Python computes as on a processor without AVX-512.

NumPy, OpenBLAS, PyTorch, MKL and oneDNN choose their instructions by the processor, and
other instructions round otherwise. The tests of a shell that has run

    eval "$(python tests/older_processor.py)"

show that no result depends on the processor.
"""

from numpy._core._multiarray_umath import __cpu_dispatch__ as dispatched
from numpy._core._multiarray_umath import __cpu_features__ as features

# X86_V4 is the first group of AVX-512 in NumPy 2.4. Names from other versions of NumPy
# are an error.
NEWER = [
    name
    for name in dispatched
    if name.startswith(("AVX512", "X86_V4")) and features[name]
]
OLDER = {
    "NPY_DISABLE_CPU_FEATURES": " ".join(NEWER),
    "OPENBLAS_CORETYPE": "Haswell",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
}

if __name__ == "__main__" and NEWER:
    for variable, value in OLDER.items():
        print(f"export {variable}='{value}'")  # noqa: T201
