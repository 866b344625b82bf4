from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from multiorganseg.errors import TrainingError
from multiorganseg.organs.labels import LabelTable
from multiorganseg.progress import Progress
from multiorganseg.volumes.read import read_labels
from multiorganseg.volumes.volume import Volume
from multiorganseg.volumes.write import write_volume
from multiorganseg_training.data.cache import prepare_cases
from multiorganseg_training.data.cases import training_cases
from multiorganseg_training.project import LabelStatus, Project, add_case, create_project, set_status
from multiorganseg_training.run.fit import Place, fit

ANNOTATED, ABSENT, UNKNOWN, PSEUDO = LabelStatus
TABLE = LabelTable({3: "liver", 5: "spleen", 9: "gallbladder"})
BOTH = {"liver": ANNOTATED, "spleen": ANNOTATED}
VALUES = {6: "liver", 1: "spleen"}
NAMES = {"labels": {"1": "spleen", "2": "liver"}, "validation": ["case_c"]}


@pytest.fixture
def project(phantom_data, tmp_path) -> Project:
    """The phantom's cases, of which the second has no label file."""
    folder, table = tmp_path / "Projekt ö", LabelTable(VALUES)
    create_project(folder, "P", TABLE)
    for name in ("case_a", "case_b", "case_c"):
        files = [phantom_data / kind / f"{name}.nii.gz" for kind in ("images", "labels")]
        drawn, status = (None, {}) if name == "case_b" else (files[1], BOTH)
        project = add_case(folder, name, files[0], drawn, status, table=table)
    return project


def test_the_matrix_says_what_is_known(project, phantom_recipe):
    set_status(project.folder, "case_a", "spleen", PSEUDO)
    set_status(project.folder, "case_b", "liver", ABSENT)
    cases = {case.name: case for case in training_cases(project.folder, phantom_recipe(data=NAMES))}
    assert list(cases) == ["case_a", "case_b", "case_c"]
    assert (cases["case_a"].channels, cases["case_a"].known) == ({3: 2}, {2})
    assert (cases["case_b"].labels, cases["case_b"].channels, cases["case_b"].known) == (None, {}, {2})
    assert (cases["case_c"].channels, cases["case_c"].known) == ({3: 2, 5: 1}, {1, 2})


def test_a_recipe_hides_more_but_not_in_the_fold(project, phantom_recipe):
    recipe = phantom_recipe(data={**NAMES, "known": {"*": ["spleen"]}})
    known = {case.name: case.known for case in training_cases(project.folder, recipe)}
    assert known == {"case_a": {1}, "case_b": frozenset(), "case_c": {1, 2}}


def test_a_data_folder_goes_by_the_recipe(phantom_data, phantom_recipe):
    recipe = phantom_recipe(data={"known": {"*": ["spleen"]}})
    cases = {case.name: case for case in training_cases(phantom_data, recipe)}
    assert all(case.channels == {1: 1, 6: 2} for case in cases.values())
    assert [cases[name].known for name in ("case_a", "case_c")] == [{1}, {1, 2}]


def test_labels_come_through_the_projects_table(project, phantom_recipe, tmp_path):
    recipe = phantom_recipe(data=NAMES)
    cases = training_cases(project.folder, recipe)
    first, second, _ = prepare_cases(cases, tmp_path / "cache", recipe.preprocessing, Progress())
    voxels = read_labels(project.labels_path("case_a")).voxels
    assert (first.labels == 2).sum() == (voxels == 3).sum() > 0
    assert (first.labels == 1).sum() == (voxels == 5).sum() > 0
    assert not second.labels.any()
    assert second.known == frozenset()


def test_a_voxel_of_an_absent_organ_is_not_learnt(project, phantom_recipe, tmp_path):
    path = project.labels_path("case_a")
    set_status(project.folder, "case_a", "spleen", UNKNOWN)
    labels = read_labels(path)
    write_volume(Volume(np.where(labels.voxels == 5, 0, labels.voxels).astype(np.uint8), labels.affine), path)
    set_status(project.folder, "case_a", "spleen", ABSENT)
    write_volume(labels, path)
    recipe = phantom_recipe(data=NAMES)
    cases = training_cases(project.folder, recipe)[:1]
    (case,) = prepare_cases(cases, tmp_path / "cache", recipe.preprocessing, Progress())
    assert case.known == {1, 2}
    assert set(np.unique(case.labels)) == {0, 2}


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        ({"modality": "MR"}, "The project is of CT, the recipe of MR"),
        ({"labels": {"1": "aorta"}}, "none of the organs aorta"),
    ],
)
def test_a_recipe_that_does_not_fit(project, phantom_recipe, data, cause):
    with pytest.raises(TrainingError, match="does not fit the recipe") as caught:
        training_cases(project.folder, phantom_recipe(data=data))
    assert cause in caught.value.cause


def test_a_project_without_cases(tmp_path, phantom_recipe):
    create_project(tmp_path / "p", "P", TABLE)
    with pytest.raises(TrainingError, match="no case"):
        training_cases(tmp_path / "p", phantom_recipe())


def test_fit_learns_from_a_project(project, phantom_recipe, place, tmp_path):
    set_status(project.folder, "case_c", "spleen", UNKNOWN)
    recipe = phantom_recipe(data=NAMES, method="partial", optimisation={"iterations": 2})
    scores = fit(
        recipe, Place(project.folder, tmp_path / "run", tmp_path / "cache", place.device), Progress()
    )
    assert np.isnan(scores["last"]["spleen"]), "the fold does not know it"
    assert not np.isnan(scores["last"]["liver"])
    assert Path(tmp_path / "run" / "checkpoint.pt").is_file()


@pytest.fixture
def tumours(phantom_data, tmp_path) -> Project:
    """Of two cases, in which a tumour lies where the phantom has its spleen, inside the liver by its name."""
    table = LabelTable({6: "liver_tumor", 1: "liver"})
    create_project(tmp_path / "T", "T", LabelTable({1: "liver", 2: "liver_tumor"}))
    for name in ("case_a", "case_c"):
        files = [phantom_data / kind / f"{name}.nii.gz" for kind in ("images", "labels")]
        status = {"liver": ANNOTATED, "liver_tumor": ANNOTATED}
        project = add_case(tmp_path / "T", name, *files, status, table=table)
    return project


@pytest.mark.parametrize(
    ("labels", "known", "status", "channels"),
    [
        ({"1": "liver", "2": "liver_tumor"}, {}, ANNOTATED, {1: 1, 2: 2}),
        ({"1": "liver", "2": "liver_tumor"}, {}, PSEUDO, {1: 1, 2: 1}),
        ({"1": "liver"}, {}, ANNOTATED, {1: 1, 2: 1}),
        ({"1": "liver", "2": "liver_tumor"}, {"*": ["liver"]}, ANNOTATED, {1: 1, 2: 1}),
        ({"1": "liver", "2": "liver_tumor"}, {"*": ["liver_tumor"]}, ANNOTATED, {1: 1, 2: 2}),
        ({"1": "liver_tumor"}, {}, ANNOTATED, {2: 1}),
    ],
)
def test_an_organ_that_is_not_learnt_is_a_part_of_the_one_around_it(
    tumours, phantom_recipe, tmp_path, labels, known, status, channels
):
    set_status(tumours.folder, "case_a", "liver_tumor", status)
    recipe = phantom_recipe(data={"labels": labels, "validation": [], "known": known})
    case = training_cases(tumours.folder, recipe)[0]
    assert case.channels == channels
    (prepared,) = prepare_cases([case], tmp_path / "cache", recipe.preprocessing, Progress())
    voxels = read_labels(tumours.labels_path("case_a")).voxels
    for channel in (1, 2):
        values = [value for value, to in channels.items() if to == channel and channel in case.known]
        assert (prepared.labels == channel).sum() == np.isin(voxels, values).sum()


def test_a_data_folder_knows_nested_organs_too(phantom_data, phantom_recipe):
    labels = {"1": "liver", "6": "liver_tumor"}
    recipe = phantom_recipe(data={"labels": labels, "known": {"*": ["liver"]}})
    (case, *_) = training_cases(phantom_data, recipe)
    assert case.channels == {1: 1, 6: 1}
    assert case.known == {1}
