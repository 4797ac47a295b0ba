"""The planted faults of ``python -m tests.mutants`` still apply."""

import importlib.util
from functools import cache
from pathlib import Path

import pytest

# Not `import tests.mutants`: the tests are no package where the wheel is tested.
FOLDER = Path(__file__).resolve().parent / "mutants"
SPEC = importlib.util.spec_from_file_location("mutants", FOLDER / "__init__.py")
mutants = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(mutants)

if not (mutants.ROOT / "skgen").is_dir():
    pytest.skip("the source is not here", allow_module_level=True)

MUTANTS = mutants.mutants()


@cache
def text_of(file):
    """Return the text of a file of the project."""
    return (mutants.ROOT / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("room", sorted({m.name.split("/")[0] for m in MUTANTS}))
def test_planted_faults_apply_and_name_a_test(room):
    for mutant in MUTANTS:
        if not mutant.name.startswith(f"{room}/"):
            continue
        assert mutant.what, mutant.name
        assert mutant.tests, mutant.name
        mutant.mutated()
        for _file, old, new in mutant.changes:
            assert old.split() != new.split(), mutant.name
        for test in mutant.tests:
            file, _, function = test.partition("::")
            function = function.partition("[")[0].split("::")[-1]
            assert f"def {function}(" in text_of(file), mutant.name
