from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from multiorganseg.bundles import Bundle, load_bundle, read_weights, write_bundle
from multiorganseg.organs.labels import LabelTable
from multiorganseg_training.acceptance.score import HeldOutCase
from multiorganseg_training.project import Project, import_folder

TABLE = {1: "spleen", 6: "liver"}


@pytest.fixture(scope="session")
def without(full: Bundle) -> Callable[[str], Bundle]:
    """Make a network that never says one of its organs."""

    def make(organ: str) -> Bundle:
        weights = read_weights(full)
        weights["head.bias"][full.metadata.channel(organ)] = -1000
        folder = full.folder.parent / f"no-{organ}"
        return write_bundle(folder, full.metadata, weights, "# Lost", "Text", replace=True)

    return make


@pytest.fixture
def case(phantom_data: Path) -> Callable[..., HeldOutCase]:
    """Make a case of the phantom with what is said of its organs."""

    def make(name: str = "case_c", annotated: str = "spleen liver", absent: str = "") -> HeldOutCase:
        file = f"{name}.nii.gz"
        return HeldOutCase(
            name,
            phantom_data / "images" / file,
            phantom_data / "labels" / file,
            TABLE,
            frozenset(annotated.split()),
            frozenset(absent.split()),
        )

    return make


@pytest.fixture
def project(phantom_data: Path, tmp_path: Path) -> Project:
    return import_folder(phantom_data, tmp_path / "Projekt Größe 器官", LabelTable(TABLE), name="phantom")


@pytest.fixture
def run(project: Project, phantom_run, models: Path) -> Path:
    """The phantom's run, in the project."""
    folder = project.folder / "runs" / "liver-ct-plus-spleen"
    shutil.copytree(phantom_run.place.run, folder)
    return folder


@pytest.fixture
def installed_base(models: Path) -> Bundle:
    return load_bundle(models / "liver-ct")
