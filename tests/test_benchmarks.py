"""The benchmarks can be imported; CI runs one of them."""

import importlib
import pkgutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = [module.name for module in pkgutil.iter_modules([str(ROOT / "benchmarks")])]


@pytest.mark.parametrize("module", MODULES)
def test_benchmarks_can_be_imported(module, monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    importlib.import_module(f"benchmarks.{module}")
