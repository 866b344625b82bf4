from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from multiorganseg.bundles import Bundle, load_bundle, read_weights, write_bundle
from multiorganseg.organs.labels import LabelTable
from multiorganseg.progress import Progress
from multiorganseg.resources import resources_dir
from multiorganseg_training.gate import GateCase
from multiorganseg_training.project import Project, import_folder
from multiorganseg_training.publish import Publication, publish

TABLE = {1: "spleen", 6: "liver"}


@pytest.fixture(scope="session")
def full(phantom_run, tmp_path_factory) -> Bundle:
    """A network that knows the phantom's spleen and liver."""
    folder = tmp_path_factory.mktemp("gate") / "phantom-ct"
    said = Publication("1.0.0", "CC-BY-4.0", "The licence's text", "Blocks.")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MULTIORGANSEG_CACHE", str(folder.parent / "cache"))
        return publish(phantom_run.place.run, phantom_run.place.data, folder, said, Progress())


@pytest.fixture(scope="session")
def base(full: Bundle) -> Bundle:
    """The same network without a channel for the spleen."""
    keep = [0, 2]
    weights = read_weights(full)
    weights["head.weight"] = weights["head.weight"][:, keep]
    weights["head.bias"] = weights["head.bias"][keep]
    metadata = replace(full.metadata, name="liver-ct", labels=LabelTable.numbered(["liver"]), metrics={})
    return write_bundle(full.folder.parent / "liver-ct", metadata, weights, "# Liver", "The licence's text")


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
def case(phantom_data: Path) -> Callable[..., GateCase]:
    """Make a case of the phantom with what is said of its organs."""

    def make(name: str = "case_c", annotated: str = "spleen liver", absent: str = "") -> GateCase:
        file = f"{name}.nii.gz"
        return GateCase(
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
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: Bundle) -> Path:
    """The user's folder of bundles, in which the base lies, beside an empty one of bundled networks."""
    resources, user = tmp_path / "Resources", tmp_path / "Modèles"
    shutil.copytree(resources_dir() / "Organs", resources / "Organs")
    (resources / "Models").mkdir()
    monkeypatch.setenv("MULTIORGANSEG_RESOURCES", str(resources))
    monkeypatch.setenv("MULTIORGANSEG_MODELS", str(user))
    monkeypatch.setenv("MULTIORGANSEG_CACHE", str(tmp_path / "cache"))
    shutil.copytree(base.folder, user / "liver-ct")
    return user


@pytest.fixture
def run(project: Project, phantom_run, models: Path) -> Path:
    """The phantom's run, in the project."""
    folder = project.folder / "runs" / "liver-ct-plus-spleen"
    shutil.copytree(phantom_run.place.run, folder)
    return folder


@pytest.fixture
def installed_base(models: Path) -> Bundle:
    return load_bundle(models / "liver-ct")
