from __future__ import annotations

from pathlib import Path

import pytest

from multiorganseg import folders
from multiorganseg.errors import ResourceError
from multiorganseg.folders import resources_dir


def _make(folder: Path) -> Path:
    (folder / "Organs").mkdir(parents=True)
    (folder / "Organs" / "organs.json").write_text("{}", encoding="utf-8")
    return folder


def test_a_checkout_has_them(monkeypatch) -> None:
    monkeypatch.delenv("MULTIORGANSEG_RESOURCES", raising=False)
    assert (resources_dir() / "Organs" / "organs.json").is_file()


def test_places_are_tried_in_order(tmp_path: Path, monkeypatch) -> None:
    package = tmp_path / "Modul é" / "MultiOrganSeg" / "multiorganseg"
    package.mkdir(parents=True)
    monkeypatch.setattr(folders, "__file__", str(package / "folders.py"))
    monkeypatch.delenv("MULTIORGANSEG_RESOURCES", raising=False)
    with pytest.raises(ResourceError) as caught:
        resources_dir()
    for place in (package.parent.parent, package.parent, package):
        assert str(place / "Resources") in caught.value.cause
    for place in (package.parent.parent, package.parent, package):
        assert resources_dir_after(place) == place / "Resources"
    own = _make(tmp_path / "own")
    monkeypatch.setenv("MULTIORGANSEG_RESOURCES", str(own))
    assert resources_dir() == own


def resources_dir_after(place: Path) -> Path:
    _make(place / "Resources")
    return resources_dir()


def test_a_wrong_override_falls_back(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("MULTIORGANSEG_RESOURCES", raising=False)
    usual = resources_dir()
    monkeypatch.setenv("MULTIORGANSEG_RESOURCES", str(tmp_path / "nowhere"))
    assert resources_dir() == usual
