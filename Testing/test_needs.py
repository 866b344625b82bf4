"""What an entry point imports, ours followed from file to file, stands on the list of what it needs."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from multiorganseg import needs

ROOT = Path(__file__).resolve().parents[1]
SOURCES = {
    "MultiOrganSeg": ROOT / "MultiOrganSeg",
    "MultiOrganSegEffects": ROOT / "MultiOrganSeg",
    "MultiOrganSegLib": ROOT / "MultiOrganSeg",
    "multiorganseg": ROOT / "MultiOrganSeg",
    "multiorganseg_training": ROOT / "Training",
}
SLICER = {
    *("slicer", "qt", "ctk", "vtk", "vtkmodules", "vtkSegmentationCorePython", "DICOMLib", "SampleData"),
    *("numpy", "scipy", "SimpleITK", "pydicom", "highdicom", "packaging", "requests", "PIL", "PyTorchUtils"),
}
"""What Slicer 5.12 brings, and modules of the application and of the extension PyTorch."""

LOOKED_FOR = {
    *("openvino", "sklearn", "einops", "tomli"),
    *("ray", "lightning_fabric", "fastapi", "starlette", "uvicorn"),
    *("contourpy", "dicomweb_client", "pynetdicom", "keyring"),
}
"""Used where they are installed, or named in an error of our own."""

PROCESSES = {
    needs.OPEN: ("MultiOrganSeg", "MultiOrganSegLib.widget", "MultiOrganSegLib.sample_data"),
    needs.DEVICE: ("multiorganseg.inference.report_device", "multiorganseg.inference.backends"),
    needs.SEGMENT: (
        *("multiorganseg.cli.app", "multiorganseg.inference.segment", "multiorganseg.results.seg_nrrd"),
        "multiorganseg.results.tables",
    ),
    needs.SERVER: ("multiorganseg.cli.app", "multiorganseg.resident.remote", "multiorganseg.resident.loop"),
    needs.ADD_ORGAN: ("multiorganseg_training.cli.app", "multiorganseg_training.cli.annotate"),
    needs.TRAIN: ("multiorganseg_training.cli.app", "multiorganseg_training.acceptance.add_organ"),
}
"""What each entry point loads; what these load at their import follows."""


def _file(module: str) -> Path | None:
    folder = SOURCES.get(module.partition(".")[0])
    if folder is None:
        return None
    path = folder.joinpath(*module.split("."))
    return next((f for f in (path.with_suffix(".py"), path / "__init__.py") if f.is_file()), None)


def _statements(tree: ast.AST, lazy: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    waiting: list[ast.AST] = list(ast.iter_child_nodes(tree))
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        elif lazy or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


@cache
def imported(path: Path, lazy: bool = False) -> frozenset[str]:
    """Modules that a file imports when it is imported itself; with `lazy` also within its functions."""
    names = set()
    for node in _statements(ast.parse(path.read_text(encoding="utf-8")), lazy):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        else:
            within = [f"{node.module}.{alias.name}" for alias in node.names]
            names.update([str(node.module), *(name for name in within if _file(name))])
    return frozenset(names)


def reached(modules: tuple[str, ...]) -> dict[str, str]:
    """By package that is not ours: one of our modules that imports it at once, from these modules on."""
    found, seen, waiting = {}, set(), list(modules)
    while waiting:
        module = waiting.pop()
        parents = [module.rsplit(".", number)[0] for number in range(module.count(".") + 1)]
        for name in set(parents) - seen:
            seen.add(name)
            path = _file(name)
            assert path, f"no module {name}"
            for other in imported(path):
                if _file(other):
                    waiting.append(other)
                else:
                    found.setdefault(other.partition(".")[0], name)
    return {name: by for name, by in found.items() if name not in sys.stdlib_module_names | SLICER}


def _allowed(entry: str) -> set[str]:
    return {needs.import_name(name) for name in needs.NEEDS[entry]} | {"__future__"}


@pytest.mark.parametrize("entry", needs.NEEDS)
def test_what_an_entry_point_loads_is_on_its_list(entry: str) -> None:
    found = reached(PROCESSES[entry])
    assert {name: by for name, by in found.items() if name not in _allowed(entry) | LOOKED_FOR} == {}


def test_the_search_follows_our_modules() -> None:
    assert {"torch", "psutil", "cc3d"} <= set(reached(PROCESSES[needs.SEGMENT]))
    assert {"torch", "typer"} <= set(reached(PROCESSES[needs.TRAIN]))


@pytest.mark.parametrize("source", ["MultiOrganSegLib", "multiorganseg", "multiorganseg_training"])
def test_what_is_imported_later_is_brought_or_looked_for_too(source: str) -> None:
    known = {needs.import_name(name) for name in needs.every_package()} | SLICER | LOOKED_FOR | set(SOURCES)
    for path in (SOURCES[source] / source).rglob("*.py"):
        names = {name.partition(".")[0] for name in imported(path, lazy=True)}
        assert names <= known | sys.stdlib_module_names | _slicers_own(names), path


def _slicers_own(names: set[str]) -> set[str]:
    return {name for name in names if name.startswith(("vtk", "qMRML", "qSlicer"))}
