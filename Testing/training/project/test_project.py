from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from multiorganseg.errors import OrganError, TrainingError, VolumeError
from multiorganseg.organs.labels import LabelTable
from multiorganseg_training.project import (
    LabelStatus,
    ProjectCase,
    add_case,
    channel_lookup,
    create_project,
    known_channels,
    load_project,
    save_project,
)

TABLE = LabelTable({2: "liver", 300: "spleen"})


@pytest.fixture
def project(tmp_path):
    return create_project(tmp_path / "Projekt ö", "Bauch", TABLE)


@pytest.fixture
def files(tmp_path, write_case):
    image, labels = tmp_path / "ct.nii.gz", tmp_path / "drawn.nrrd"
    write_case(image, labels, (2, 300))
    return image, labels


def test_create_load_and_save(project):
    assert load_project(project.folder) == project
    renamed = replace(project, name="Thorax", modality="MR", sources={"LiTS": {"licence": "ä"}})
    save_project(renamed)
    assert load_project(project.folder) == renamed


def test_a_folder_in_use_is_left_alone(project):
    with pytest.raises(TrainingError, match="exists already"):
        create_project(project.folder, "Other", TABLE)
    assert load_project(project.folder).name == "Bauch"


def test_an_empty_folder_may_be_there(tmp_path):
    (tmp_path / "new").mkdir()
    create_project(tmp_path / "new", "New", TABLE)
    assert [entry.name for entry in tmp_path.iterdir()] == ["new"]


def test_unknown_organs_are_refused(tmp_path):
    with pytest.raises(OrganError, match="livr"):
        create_project(tmp_path / "p", "P", LabelTable({1: "livr"}))
    assert not (tmp_path / "p").exists()


def test_add_cases(project, files, voxels_of):
    image, labels = files
    status = {"liver": LabelStatus.ANNOTATED, "spleen": LabelStatus.PSEUDO}
    project = add_case(project, "one", image, labels, status)
    project = add_case(project, "two", image, status={"liver": LabelStatus.ABSENT})
    assert load_project(project.folder) == project
    assert project.cases["one"].labels == "labels/one.nii.gz"
    assert project.labels_path("two") is None
    assert project.image_path("one").read_bytes() == image.read_bytes()
    voxels = voxels_of(project, "one")
    assert np.unique(voxels).tolist() == [0, 2, 300]
    assert (voxels == 300).sum() == 20
    assert project.matrix.known("two") == {"liver"}


def test_cases_that_cannot_be_added(project, files, tmp_path, write_case):
    image, labels = files
    with pytest.raises(TrainingError, match="no label file"):
        add_case(project, "one", image, None, {"liver": LabelStatus.ANNOTATED})
    with pytest.raises(TrainingError, match="no organ 'aorta'"):
        add_case(project, "one", image, labels, {"aorta": LabelStatus.ABSENT})
    with pytest.raises(TrainingError, match="cannot be the name"):
        add_case(project, "../one", image, labels)
    with pytest.raises(VolumeError, match="does not exist"):
        add_case(project, "one", tmp_path / "none.nii.gz")
    with pytest.raises(TrainingError, match="of a kind"):
        add_case(project, "one", tmp_path / "image.png")
    write_case(tmp_path / "other.nii.gz", labels, (2, 7))
    with pytest.raises(TrainingError, match=r"7 \(20 voxels\)"):
        add_case(project, "one", image, labels)
    assert load_project(project.folder) == project


def test_another_grid_is_refused(project, files, tmp_path):
    from multiorganseg.volumes.read import read_volume
    from multiorganseg.volumes.volume import Volume
    from multiorganseg.volumes.write import write_volume

    image, labels = files
    volume = read_volume(image)
    moved = volume.affine.copy()
    moved[0, 3] += 0.5
    write_volume(Volume(volume.voxels, moved), tmp_path / "moved.nii.gz")
    with pytest.raises(TrainingError, match="different grids"):
        add_case(project, "one", tmp_path / "moved.nii.gz", labels)


def test_a_new_organ_is_unknown_everywhere(project, files):
    project = add_case(project, "one", *files, {"liver": LabelStatus.ANNOTATED})
    grown = project.with_organ("aorta")
    assert grown.table.value("aorta") == 301
    assert grown.matrix.status("one", "aorta") is LabelStatus.UNKNOWN


def test_channels_follow_the_matrix(project, files):
    row = {"liver": LabelStatus.ANNOTATED, "spleen": LabelStatus.UNKNOWN}
    project = add_case(project, "one", *files, row)
    organs = ("aorta", "spleen", "liver")
    lookup = channel_lookup(project, "one", organs)
    assert lookup.nonzero()[0].tolist() == [2]
    assert lookup[2] == 3
    assert known_channels(project, "one", organs).tolist() == [False, False, True]
    pseudo = project.with_matrix(project.matrix.with_status("one", "spleen", LabelStatus.PSEUDO))
    assert channel_lookup(pseudo, "one", organs)[300] == 0
    assert channel_lookup(pseudo, "one", organs, frozenset({LabelStatus.PSEUDO}))[300] == 2
    assert known_channels(pseudo, "one", organs).tolist() == [False, False, True]


def test_parts_that_contradict_each_other(project, files):
    project = add_case(project, "one", *files)
    case = project.cases["one"]
    for changes, text in (
        ({"name": " "}, "no name"),
        ({"modality": "US"}, "US"),
        ({"table": LabelTable({2: "liver"})}, "spleen"),
        ({"cases": {}}, "case list"),
        ({"cases": {"one": replace(case, image="../ct.nii.gz")}}, "leaves its folder"),
        ({"cases": {"one": replace(case, image=case.labels)}}, "share a file"),
    ):
        with pytest.raises(TrainingError, match=text):
            replace(project, **changes)
    unlabelled = replace(project, cases={"one": ProjectCase("one", case.image, None)})
    with pytest.raises(TrainingError, match="no label file"):
        unlabelled.with_matrix(unlabelled.matrix.with_status("one", "liver", LabelStatus.PSEUDO))


@pytest.mark.parametrize(
    "change",
    [
        {"labels": {"1": "liver", "2": "liver"}},
        {"labels": {"x": "liver"}},
        {"cases": {"one": {"image": "images/one.nii.gz"}}},
        {"cases": []},
        {"name": 3},
        {"schema_version": 9},
    ],
)
def test_damaged_project_files(project, change):
    path = project.folder / "project.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**data, **change}), encoding="utf-8")
    with pytest.raises(TrainingError):
        load_project(project.folder)


def test_no_project(tmp_path):
    with pytest.raises(TrainingError, match="is no project"):
        load_project(tmp_path)


def test_projects_load_without_torch():
    code = "import sys, multiorganseg_training.project; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
