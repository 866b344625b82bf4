from __future__ import annotations

import pytest

from multiorganseg.errors import TrainingError
from multiorganseg_training.project import load_project, tidy


@pytest.fixture
def folder(make_project):
    return make_project("Projekt ö", {1: "liver"}, {"a": (1,), "b": None}).folder


def test_a_project_in_order_stays_as_it_is(folder):
    before = sorted(folder.rglob("*"))
    assert tidy(folder, delete_unused=True) == []
    assert [path for path in sorted(folder.rglob("*")) if path.name != ".lock"] == before


def test_half_written_files_go_and_whole_ones_are_named(folder):
    for place in (folder, folder / "images", folder / "labels"):
        (place / ".partial-x1").mkdir()
        (place / ".partial-x1" / "half.nii.gz").write_bytes(b"half")
    (folder / "labels" / "b.nii.gz").write_bytes(b"whole")
    (folder / "images" / "ö.nrrd").write_bytes(b"whole")
    (folder / "runs" / "r" / ".partial-y").mkdir(parents=True)
    assert tidy(folder) == ["images/ö.nrrd", "labels/b.nii.gz"]
    assert not list(folder.glob("**/.partial-x1"))
    assert (folder / "runs" / "r" / ".partial-y").is_dir(), "a run tidies up after itself"
    assert (folder / "images" / "ö.nrrd").is_file()
    assert tidy(folder, delete_unused=True) == ["images/ö.nrrd", "labels/b.nii.gz"]
    assert tidy(folder) == []
    project = load_project(folder)
    assert project.image_path("b").is_file()
    assert project.labels_path("a").is_file()


def test_no_project(tmp_path):
    with pytest.raises(TrainingError, match="is no project"):
        tidy(tmp_path)
    assert list(tmp_path.iterdir()) == []
