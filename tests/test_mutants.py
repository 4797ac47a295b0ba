"""The planted faults of ``python -m tests.mutants`` still apply."""

import ast
import importlib.util
from pathlib import Path

import pytest

# Not `import tests.mutants`: the tests are no package where the wheel is tested.
FOLDER = Path(__file__).resolve().parent / "mutants"
SPEC = importlib.util.spec_from_file_location("mutants", FOLDER / "__init__.py")
mutants = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(mutants)

if not (mutants.ROOT / "skgen").is_dir():
    pytest.skip("the source is not here", allow_module_level=True)


@pytest.mark.parametrize("mutant", mutants.mutants(), ids=lambda m: m.name)
def test_planted_faults_apply_and_name_a_test(mutant):
    for file, text in mutant.mutated().items():
        assert ast.dump(ast.parse(text)) != ast.dump(
            ast.parse((mutants.ROOT / file).read_text(encoding="utf-8"))
        )
    assert mutant.what
    assert mutant.tests
    for test in mutant.tests:
        file, _, function = test.partition("::")
        text = (mutants.ROOT / file).read_text(encoding="utf-8")
        assert f"def {function.partition('[')[0]}(" in text
