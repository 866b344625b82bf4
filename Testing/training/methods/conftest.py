from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

HARNESS = Path(__file__).parents[2] / "benchmarks" / "harness"


@pytest.fixture(scope="module")
def harness() -> Iterator[Callable[[str], ModuleType]]:
    """Load a module of the benchmarks, such as a plain rendering of a method, by its name."""
    with pytest.MonkeyPatch.context() as patch:

        def load(name: str) -> ModuleType:
            spec = importlib.util.spec_from_file_location(name, HARNESS / f"{name}.py")
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            patch.setitem(sys.modules, name, module)
            spec.loader.exec_module(module)
            return module

        yield load
