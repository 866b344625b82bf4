from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from multiorganseg.bundles.metadata import CustomOrgan
from multiorganseg.errors import OrganError, TrainingError
from multiorganseg.organs.labels import LabelTable
from multiorganseg_training.project import (
    LabelStatus,
    ProjectCase,
    add_case,
    create_project,
    load_project,
    save_project,
)

TABLE = LabelTable({2: "liver", 300: "spleen"})
BOTH = dict.fromkeys(("liver", "spleen"), LabelStatus.ANNOTATED)


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


def test_a_new_organ_is_unknown_everywhere(project, files):
    project = add_case(project.folder, "one", *files, BOTH)
    grown = project.with_organ("aorta")
    assert grown.table.value("aorta") == 301
    assert grown.matrix.status("one", "aorta") is LabelStatus.UNKNOWN
    with pytest.raises(TrainingError, match="has the organ 'aorta' already"):
        grown.with_organ("aorta")


def test_parts_that_contradict_each_other(project, files):
    project = add_case(project.folder, "one", *files, BOTH)
    case = project.cases["one"]
    for changes, text in (
        ({"name": " "}, "no name"),
        ({"modality": "US"}, "US"),
        ({"table": LabelTable({2: "liver"})}, "spleen"),
        ({"cases": {}}, "case list"),
        ({"custom_organs": {"mass": CustomOrgan("Mass", (1, 2, 3))}}, "describes mass"),
        ({"cases": {"one": replace(case, image="../ct.nii.gz")}}, "leaves its folder"),
        ({"cases": {"one": replace(case, image=case.labels)}}, "share a file"),
    ):
        with pytest.raises(TrainingError, match=text):
            replace(project, **changes)
    bare = {"one": ProjectCase("one", case.image, None)}
    nothing = project.matrix.with_statuses(["one"], ["liver", "spleen"], LabelStatus.UNKNOWN)
    unlabelled = replace(project, cases=bare, matrix=nothing)
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
        {"custom_organs": {"liver": {"name": "Liver"}}},
        {"custom_organs": {"liver": {"name": "Liver", "color": [1, 2]}}},
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
