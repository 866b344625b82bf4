from __future__ import annotations

import json

import numpy as np
import pytest

from multiorganseg.errors import TrainingError
from multiorganseg.volumes.read import read_labels, read_volume
from multiorganseg_training.project import (
    LabelStatus,
    PartialCases,
    export_nnunet,
    import_nnunet,
    merge_projects,
)

ANNOTATED, ABSENT, UNKNOWN, PSEUDO = LabelStatus
ORGANS = {3: "liver", 7: "spleen"}


def description_of(folder):
    return json.loads((folder / "dataset.json").read_text(encoding="utf-8"))


def test_round_trip_of_a_fully_known_project(make_project, tmp_path, voxels_of):
    project = make_project("p", ORGANS, {"a": (3, 7), "b": (3,), "c": (7,)})
    project = project.with_matrix(project.matrix.with_status("b", "spleen", ABSENT))
    target = tmp_path / "Dataset123_Abdomen"
    report = export_nnunet(project, target)
    assert report.cases == ("a", "b", "c")
    assert not report.partial
    assert not report.skipped
    assert report.lost == ("nnU-Net does not tell an absent organ from one without a voxel.",)
    description = description_of(target)
    assert description["labels"] == {"background": 0, "liver": 1, "spleen": 2}
    assert description["numTraining"] == 3
    assert description["channel_names"] == {"0": "CT"}
    assert description["file_ending"] == ".nii.gz"
    back = import_nnunet(target, tmp_path / "back", {})
    assert back.table.organs == {1: "liver", 2: "spleen"}
    assert back.matrix.rows == project.matrix.rows
    for case in project.cases:
        expected = np.select([voxels_of(project, case) == 3, voxels_of(project, case) == 7], [1, 2], 0)
        np.testing.assert_array_equal(voxels_of(back, case), expected)
        assert back.image_path(case).read_bytes() == project.image_path(case).read_bytes()


def test_partly_known_cases_are_refused_skipped_or_ignored(make_project, tmp_path, voxels_of):
    one = make_project("one", {1: "liver"}, {"a": (1,)})
    two = make_project("two", {1: "liver", 2: "spleen"}, {"b": (1, 2), "c": None})
    project = merge_projects([one, two], tmp_path / "all", "All")
    with pytest.raises(TrainingError, match="2 of 3 cases do not know every organ") as caught:
        export_nnunet(project, tmp_path / "Dataset001_A")
    assert "--partial" in caught.value.next_step
    assert not (tmp_path / "Dataset001_A").exists()

    skipped = export_nnunet(project, tmp_path / "Dataset001_A", PartialCases.SKIP)
    assert skipped.cases == ("b",)
    assert skipped.skipped == ("a", "c")
    assert "ignore" not in description_of(tmp_path / "Dataset001_A")["labels"]

    target = tmp_path / "Dataset002_B"
    report = export_nnunet(project, target, PartialCases.IGNORE)
    assert (report.cases, report.partial, report.skipped) == (("a", "b"), ("a",), ("c",))
    assert description_of(target)["labels"] == {"background": 0, "liver": 1, "spleen": 2, "ignore": 3}
    written = read_labels(target / "labelsTr" / "a.nii.gz").voxels
    np.testing.assert_array_equal(written, np.where(voxels_of(project, "a") == 1, 1, 3))
    assert 3 not in read_labels(target / "labelsTr" / "b.nii.gz").voxels

    back = import_nnunet(target, tmp_path / "back", {})
    assert back.matrix.rows == {case: project.matrix.rows[case] for case in "ab"}
    for case in "ab":
        np.testing.assert_array_equal(voxels_of(back, case), voxels_of(project, case))


def test_pseudo_labels_and_organs_around_unknown_ones_are_ignored(make_project, tmp_path):
    organs = {1: "liver", 2: "liver_tumor", 3: "spleen", 4: "pancreas"}
    project = make_project("p", organs, {"a": (1, 2, 3, 4)})
    matrix = project.matrix.with_status("a", "liver_tumor", UNKNOWN).with_status("a", "spleen", PSEUDO)
    target = tmp_path / "Dataset001_A"
    report = export_nnunet(project.with_matrix(matrix), target, PartialCases.IGNORE)
    labels = read_labels(target / "labelsTr" / "a.nii.gz").voxels
    assert np.unique(labels).tolist() == [4, 5]
    assert (labels == 4).sum() == 20
    text = " ".join(report.lost)
    assert "Pseudo-labels are not exported" in text
    assert "organ within them is not known: liver." in text
    back = import_nnunet(target, tmp_path / "back", {})
    assert back.matrix.known("a") == {"pancreas"}


def test_a_negative_case_without_a_label_file(make_project, tmp_path):
    project = make_project("p", {1: "liver"}, {"a": (1,), "b": None})
    project = project.with_matrix(project.matrix.with_status("b", "liver", ABSENT))
    target = tmp_path / "Dataset001_A"
    assert export_nnunet(project, target).cases == ("a", "b")
    labels = read_labels(target / "labelsTr" / "b.nii.gz")
    assert not labels.voxels.any()
    assert labels.grid.same_as(read_volume(project.image_path("b")).grid)


def test_mixed_formats_become_one(make_project, tmp_path):
    one = make_project("one", {1: "liver"}, {"a": (1,)})
    two = make_project("two", {1: "liver"}, {"b": (1,)}, suffix=".nrrd")
    project = merge_projects([one, two], tmp_path / "all", "All")
    target = tmp_path / "Dataset001_A"
    export_nnunet(project, target)
    assert sorted(path.name for path in (target / "imagesTr").iterdir()) == ["a_0000.nii.gz", "b_0000.nii.gz"]
    source, copy = read_volume(project.image_path("b")), read_volume(target / "imagesTr" / "b_0000.nii.gz")
    np.testing.assert_array_equal(source.voxels, copy.voxels)
    assert source.grid.same_as(copy.grid)


def test_names_and_targets(make_project, tmp_path):
    project = make_project("p", {1: "liver"}, {"a": (1,)})
    with pytest.raises(TrainingError, match="Dataset101_Abdomen"):
        export_nnunet(project, tmp_path / "Abdomen")
    hidden = project.with_matrix(project.matrix.with_status("a", "liver", UNKNOWN))
    with pytest.raises(TrainingError, match="No case is left"):
        export_nnunet(hidden, tmp_path / "Dataset001_A", PartialCases.IGNORE)
