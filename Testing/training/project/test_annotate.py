from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

from multiorganseg.errors import OrganError, ResourceError, TrainingError
from multiorganseg.organs.labels import LabelTable
from multiorganseg.volumes.read import read_labels, read_volume
from multiorganseg_training.project import (
    LabelStatus,
    add_organ,
    find_contradictions,
    load_project,
    save_annotation,
    save_project,
    set_status,
    set_statuses,
)

ANNOTATED, ABSENT, UNKNOWN, PSEUDO = LabelStatus
SHAPE = (6, 8, 10)


@pytest.fixture
def project(make_project):
    """Two organs annotated in `a` (rows 0 and 1 of two planes), nothing labelled in `bare`."""
    cases = {"a": (1, 2), "bare": None}
    project = make_project("Projekt ö", {1: "liver", 2: "spleen"}, cases, suffix=".nrrd")
    return add_organ(project.folder, "gallbladder")


def mask(rows=slice(5, 7)):
    drawn = np.zeros(SHAPE, np.int64)
    drawn[1:5, rows] = 1
    return drawn


GALLBLADDER = {"gallbladder": ANNOTATED}
AS_MASK = {"table": LabelTable({1: "gallbladder"})}


@pytest.mark.parametrize("case", ["a", "bare"])
def test_a_new_organ_is_put_beside_the_others(project, voxels_of, case):
    before = np.zeros(SHAPE) if case == "bare" else voxels_of(project, case)
    saved = save_annotation(project.folder, case, mask(), GALLBLADDER, **AS_MASK)
    assert saved.voxels == {"gallbladder": 80}
    assert saved.taken == {}
    assert load_project(project.folder) == saved.project
    assert saved.project.case(case).labels == f"labels/{case}.nrrd"
    assert saved.project.matrix.status(case, "gallbladder") is ANNOTATED
    after = voxels_of(saved.project, case)
    np.testing.assert_array_equal(after, np.where(mask() > 0, 3, before))
    labels = read_labels(saved.project.labels_path(case))
    assert labels.grid.same_as(read_volume(saved.project.image_path(case)).grid)
    assert find_contradictions(saved.project) == []


def test_saving_again_replaces_what_was_there(project, voxels_of):
    save_annotation(project.folder, "a", mask(), GALLBLADDER, **AS_MASK)
    saved = save_annotation(project.folder, "a", mask(slice(7, 8)), GALLBLADDER, **AS_MASK)
    after = voxels_of(saved.project, "a")
    np.testing.assert_array_equal(after == 3, mask(slice(7, 8)) > 0)
    assert (after == 1).sum() == (after == 2).sum() == 20


def test_the_same_again_leaves_the_file_alone(project):
    saved = save_annotation(project.folder, "a", mask(), GALLBLADDER, **AS_MASK)
    path = saved.project.labels_path("a")
    before = path.stat().st_mtime_ns
    save_annotation(project.folder, "a", mask(), GALLBLADDER, **AS_MASK)
    assert path.stat().st_mtime_ns == before


def test_what_is_drawn_wins_and_is_reported(project, voxels_of):
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[2, 1] = 3
    saved = save_annotation(project.folder, "a", drawn, GALLBLADDER)
    assert saved.taken == {"spleen": 10}
    assert (voxels_of(saved.project, "a") == 2).sum() == 10


def test_values_of_organs_that_are_not_named_count_as_background(project, voxels_of):
    drawn = mask() * 3
    drawn[0] = 1
    saved = save_annotation(project.folder, "a", drawn, GALLBLADDER)
    assert (voxels_of(saved.project, "a") == 1).sum() == 20


def test_several_organs_and_statuses_at_once(project, voxels_of):
    drawn = mask() * 3
    drawn[0] = 1
    said = {"gallbladder": PSEUDO, "liver": ANNOTATED, "spleen": ABSENT}
    saved = save_annotation(project.folder, "bare", drawn, said)
    assert saved.project.matrix.rows["bare"] == said
    assert saved.voxels == {"gallbladder": 80, "liver": 80, "spleen": 0}
    assert np.unique(voxels_of(saved.project, "bare")).tolist() == [0, 1, 3]


def test_absent_alone_needs_no_labels(project):
    saved = save_annotation(project.folder, "bare", None, {"gallbladder": ABSENT})
    assert saved.project.labels_path("bare") is None
    assert load_project(project.folder).matrix.known("bare") == {"gallbladder"}


def test_absent_takes_the_voxels_of_a_pseudo_label_away(project, voxels_of):
    save_annotation(project.folder, "a", mask(), {"gallbladder": PSEUDO}, **AS_MASK)
    saved = save_annotation(project.folder, "a", None, {"gallbladder": ABSENT})
    assert 3 not in voxels_of(saved.project, "a")
    assert find_contradictions(saved.project) == []


def test_unknown_gives_an_annotation_up(project, voxels_of):
    saved = save_annotation(project.folder, "a", None, {"spleen": UNKNOWN})
    assert 2 not in voxels_of(saved.project, "a")
    assert saved.project.matrix.status("a", "spleen") is UNKNOWN


def test_an_empty_pseudo_label_may_be(project):
    saved = save_annotation(project.folder, "bare", np.zeros(SHAPE, np.uint8), {"spleen": PSEUDO})
    assert saved.project.labels_path("bare").is_file()
    assert find_contradictions(saved.project) == []


@pytest.mark.parametrize(
    ("labels", "said", "text"),
    [
        (np.zeros(SHAPE, np.uint8), GALLBLADDER, "annotation of gallbladder is empty.*--absent gallbladder"),
        (None, GALLBLADDER, "no labels of gallbladder"),
        (None, {"liver": ABSENT}, "liver cannot be absent: 20 voxels are annotated"),
        (np.full(SHAPE, 3), GALLBLADDER, "All 20 voxels of liver would go to gallbladder"),
        (np.full(SHAPE, 3)[1:], GALLBLADDER, "6 × 8 × 10 voxels, the labels have 5 × 8 × 10"),
        (np.full(SHAPE, 0.5), GALLBLADDER, "not a label map"),
        (np.full(SHAPE, -1), GALLBLADDER, "not a label map"),
        (mask(), {"aorta": ANNOTATED}, "no organ 'aorta'"),
    ],
)
def test_what_cannot_be_saved(project, labels, said, text):
    before = {path: path.read_bytes() for path in project.folder.rglob("*.*") if path.name != ".lock"}
    with pytest.raises(TrainingError, match=text):
        save_annotation(project.folder, "a", labels, said)
    assert before == {path: path.read_bytes() for path in before}


def test_another_case_table_or_place(project):
    with pytest.raises(TrainingError, match="no case 'z'"):
        save_annotation(project.folder, "z", mask(), GALLBLADDER)
    with pytest.raises(OrganError, match="gallbladder"):
        save_annotation(project.folder, "a", mask(), GALLBLADDER, table=LabelTable({1: "liver"}))
    affine = read_volume(project.image_path("a")).affine.copy()
    save_annotation(project.folder, "a", mask(), GALLBLADDER, affine=affine, **AS_MASK)
    affine[2, 3] += 1
    with pytest.raises(TrainingError, match="another place, spacing or direction"):
        save_annotation(project.folder, "a", mask(), GALLBLADDER, affine=affine, **AS_MASK)


def test_a_disk_that_fills_up_before_the_statuses_are_written_loses_no_voxel(project, voxels_of, monkeypatch):
    def fail(project: object) -> None:
        message = "No space left"
        raise ResourceError(message)

    with monkeypatch.context() as patched:
        patched.setattr(sys.modules["multiorganseg_training.project.annotate"], "save_project", fail)
        with pytest.raises(ResourceError):
            save_annotation(project.folder, "a", mask(), GALLBLADDER, **AS_MASK)
    kept = load_project(project.folder)
    assert kept.matrix == project.matrix
    voxels = voxels_of(kept, "a")
    assert [int((voxels == value).sum()) for value in (1, 2, 3)] == [20, 20, 80]
    saved = save_annotation(project.folder, "a", mask(), GALLBLADDER, **AS_MASK)
    assert find_contradictions(saved.project) == []


def test_statuses_are_set_where_the_voxels_bear_them_out(project):
    folder = project.folder
    with pytest.raises(TrainingError, match=r"spleen: It is absent, but labelled. \(20 voxels\)"):
        set_status(folder, "a", "spleen", ABSENT)
    with pytest.raises(TrainingError, match=r"gallbladder: It is annotated, but no voxel"):
        set_statuses(folder, ["a"], ["liver", "gallbladder"], ANNOTATED)
    with pytest.raises(TrainingError, match="no label file"):
        set_status(folder, "bare", "spleen", ANNOTATED)
    assert load_project(folder) == project
    assert set_status(folder, "bare", "spleen", ABSENT).matrix.known("bare") == {"spleen"}
    changed = set_statuses(folder, ["a", "bare"], ["spleen", "liver"], UNKNOWN)
    assert load_project(folder) == changed
    assert changed.matrix.known("a") == changed.matrix.known("bare") == frozenset()
    assert set_status(folder, "a", "spleen", ANNOTATED).matrix.known("a") == {"spleen"}, "the voxels stayed"


def test_a_large_label_value_widens_the_file(project, voxels_of):
    table = LabelTable({1: "liver", 2: "spleen", 400: "gallbladder"})
    save_project(replace(project, table=table))
    saved = save_annotation(project.folder, "a", mask(), GALLBLADDER, **AS_MASK)
    assert np.unique(voxels_of(saved.project, "a")).tolist() == [0, 1, 2, 400]
