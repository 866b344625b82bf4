"""Layers: nothing imports upwards, and heavy packages load only where they are needed."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENGINE = ROOT / "MultiOrganSeg" / "multiorganseg"
TRAINING = ROOT / "Training" / "multiorganseg_training"
RESEARCH = ROOT / "research"
ROOMS = ("cli", "advice", "acceptance", "run", "methods", "losses", "data", "project", "recipe")
"""Of the training package, from above to below."""
SLICER = {
    "slicer",
    "qt",
    "ctk",
    "DICOMLib",
    "SampleData",
    "ScriptedLoadableModule",
    "vtkSlicer",
    "MultiOrganSegLib",
}
SLICER_PREFIXES = ("vtkSegmentationCore", "vtkSlicer", "vtkMRML", "qSlicer")
HEAVY = {
    *("torch", "monai", "openvino", "highdicom", "vtk", "vtkmodules", "matplotlib", "pydicom", "requests"),
    *("dicomweb_client", "pynetdicom", "keyring", "contourpy"),
}
MAY_BE_HEAVY = ("networks", "inference")
LIGHT_MODULES = (
    "multiorganseg.volumes",
    "multiorganseg.organs.catalogue",
    "multiorganseg.organs.labels",
    "multiorganseg.geometry.canonical",
    "multiorganseg.quality.measure",
    "multiorganseg.metrics",
    "multiorganseg.bundles",
    "multiorganseg.results.write",
    "multiorganseg.networks.names",
    "multiorganseg.cli.app",
)


def _sources(package: Path) -> list[Path]:
    found = sorted(package.rglob("*.py"))
    assert found, package
    return found


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "relative imports hide what is imported"
        yield node.module or ""
    elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = ast.unparse(node.func)
        if called in ("__import__", "import_module", "importlib.import_module"):
            yield str(node.args[0].value)


def _imported(source: str) -> set[str]:
    return {name for node in ast.walk(ast.parse(source)) for name in _names(node)}


def _imported_at_once(source: str) -> set[str]:
    """What importing the module imports: everything outside functions and `if TYPE_CHECKING`."""
    names, waiting = set(), list(ast.parse(source).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            waiting += node.orelse
            continue
        names.update(_names(node))
        waiting += ast.iter_child_nodes(node)
    return names


def _of(package: str, names: set[str]) -> set[str]:
    return {name for name in names if name == package or name.startswith(f"{package}.")}


def _slicer(names: set[str]) -> set[str]:
    return {name for name in names if name.split(".")[0] in SLICER or name.startswith(SLICER_PREFIXES)}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _training_room(name: str) -> str:
    parts = name.split(".")
    return parts[1] if parts[0] == "multiorganseg_training" and len(parts) > 1 else ""


def test_nothing_imports_upwards() -> None:
    wrong = []
    for path in _sources(ENGINE):
        names = _imported(_text(path))
        above = _of("multiorganseg_training", names) | _of("research", names) | _slicer(names)
        wrong += [f"{path}: {name}" for name in above]
        if path.relative_to(ENGINE).parts[0] not in MAY_BE_HEAVY:
            at_once = _imported_at_once(_text(path))
            wrong += [f"{path}: {name} at once" for name in at_once if name.split(".")[0] in HEAVY]
    for path in _sources(TRAINING):
        names = _imported(_text(path))
        wrong += [f"{path}: {name}" for name in _slicer(names) | _of("research", names)]
        room = path.relative_to(TRAINING).parts[0]
        if room in ROOMS:
            others = {name for name in names if _training_room(name) in ROOMS}
            wrong += [
                f"{path}: {name}" for name in others if ROOMS.index(_training_room(name)) < ROOMS.index(room)
            ]
    wrong += [f"{path}: {name}" for path in _sources(RESEARCH) for name in _slicer(_imported(_text(path)))]
    assert not wrong


def test_every_module_of_the_training_lies_in_a_room() -> None:
    loose = {path.name for path in TRAINING.glob("*.py")}
    assert loose == {"__init__.py", "__main__.py"}
    rooms = {path.name for path in TRAINING.iterdir() if (path / "__init__.py").is_file()}
    assert rooms == set(ROOMS)


def test_the_rule_sees_every_way_to_import() -> None:
    source = """
from typing import TYPE_CHECKING
import numpy, torch.nn as nn
if TYPE_CHECKING:
    import vtk
else:
    import openvino
try:
    from slicer.util import getNode
except ImportError:
    pass
class Late:
    import qt
    def method(self):
        import monai
        importlib.import_module("multiorganseg_training.run.loop")
"""
    everything = _imported(source)
    assert {"torch.nn", "vtk", "slicer.util", "qt", "monai", "multiorganseg_training.run.loop"} <= everything
    assert _slicer(everything) == {"slicer.util", "qt"}
    assert _of("multiorganseg_training", everything) == {"multiorganseg_training.run.loop"}
    at_once = _imported_at_once(source)
    assert {"torch.nn", "openvino", "slicer.util", "qt"} <= at_once
    assert not {"vtk", "monai", "multiorganseg_training.run.loop"} & at_once


def test_importing_all_but_the_network_loads_nothing_heavy() -> None:
    for name in LIGHT_MODULES:
        assert importlib.util.find_spec(name), name
    lines = [f"import sys; sys.path[:0] = [{str(ENGINE.parent)!r}]"]
    lines += [f"import {name}" for name in LIGHT_MODULES]
    lines += [f"print(*sorted({HEAVY | {'multiorganseg_training'}!r} & set(sys.modules)))"]
    child = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False
    )
    assert child.returncode == 0, child.stderr
    assert child.stdout.split() == []
