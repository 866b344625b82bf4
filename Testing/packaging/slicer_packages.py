"""Which packages are there in Slicer: what it brings, and what the extension then installs."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement

REQUIREMENTS = Path(__file__).resolve().parents[2] / "MultiOrganSeg" / "Resources" / "requirements.txt"
SLICER_BRINGS = (
    *("numpy", "scipy", "SimpleITK", "pydicom", "highdicom", "dcmqi", "dicomweb-client", "requests"),
    *("pillow", "packaging", "certifi", "charset-normalizer", "typing-extensions", "pip", "setuptools"),
)
"""Of Slicer 5.12."""

STAND_IN = {"slicer", "slicer_core", "vtk", "vtkmodules", "PySide6", "shiboken6", "qt", "ctk"}
"""Import names of what is the application itself."""


def import_names(packages: Iterable[str]) -> set[str]:
    """Names that can be imported from packages and all that they depend on, as far as installed."""
    wanted, waiting = set(), [_normal(name) for name in packages]
    while waiting:
        name = waiting.pop()
        if name in wanted:
            continue
        wanted.add(name)
        try:
            lines = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        needed = [Requirement(line) for line in lines]
        waiting += [_normal(r.name) for r in needed if r.marker is None or r.marker.evaluate({"extra": ""})]
    names = importlib.metadata.packages_distributions()
    return {top for top, owners in names.items() if {_normal(owner) for owner in owners} & wanted}


def fresh() -> set[str]:
    """What can be imported in a fresh Slicer."""
    return import_names(SLICER_BRINGS) | STAND_IN


def installed() -> set[str]:
    """What can be imported after the extension has installed what it needs."""
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    needed = [Requirement(line).name for line in lines if line and not line.startswith("#")]
    return fresh() | import_names([*needed, "torch"])


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")
