from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from multiorganseg.errors import OrganError, TrainingError
from multiorganseg_training.project import (
    LabelStatus,
    MergeOptions,
    load_project,
    merge_projects,
    save_project,
)

ANNOTATED, ABSENT, UNKNOWN, PSEUDO = LabelStatus


def test_organs_meet_by_key(make_project, tmp_path, voxels_of):
    livers = make_project("livers", {6: "liver", 9: "spleen"}, {"a": (6, 9)})
    spleens = make_project("spleens", {1: "spleen", 2: "pancreas"}, {"b": (1, 2), "c": None})
    merged = merge_projects([livers, spleens], tmp_path / "all", "All")
    assert load_project(tmp_path / "all") == merged
    assert merged.table.organs == {1: "liver", 2: "spleen", 3: "pancreas"}
    assert merged.matrix.rows["a"] == {"liver": ANNOTATED, "spleen": ANNOTATED, "pancreas": UNKNOWN}
    assert merged.matrix.rows["b"] == {"liver": UNKNOWN, "spleen": ANNOTATED, "pancreas": ANNOTATED}
    assert merged.matrix.known("c") == frozenset()
    for case, rows in {"a": (1, 2), "b": (2, 3)}.items():
        assert voxels_of(merged, case)[2, :2, 0].tolist() == list(rows)
    assert merged.image_path("b").read_bytes() == spleens.image_path("b").read_bytes()
    assert merged.cases["c"].labels is None
    assert set(merged.sources) == {"livers-data", "spleens-data"}


def test_clashing_case_names_get_a_prefix(make_project, tmp_path):
    one = make_project("one", {1: "liver"}, {"case_1": (1,), "case_2": (1,)})
    two = make_project("two", {1: "liver"}, {"Case_1": (1,)})
    merged = merge_projects([one, two], tmp_path / "all", "All")
    assert list(merged.cases) == ["one_case_1", "case_2", "two_Case_1"]
    with pytest.raises(TrainingError, match="clash"):
        merge_projects([one, one], tmp_path / "twice", "Twice")
    assert not (tmp_path / "twice").exists()


def test_unions(make_project, tmp_path, voxels_of):
    sides = {1: "kidney_left", 2: "kidney_right"}
    both = make_project("both", sides, {"a": (1, 2), "b": (1, 2), "c": (1,)})
    matrix = both.matrix.with_status("b", "kidney_right", UNKNOWN).with_status("c", "kidney_right", ABSENT)
    both = both.with_matrix(matrix)
    whole = make_project("whole", {4: "kidneys"}, {"d": (4,)})
    options = MergeOptions({"kidneys": ("kidney_left", "kidney_right")})
    merged = merge_projects([both, whole], tmp_path / "all", "All", options)
    assert merged.table.organs == {1: "kidneys"}
    assert [row["kidneys"] for row in merged.matrix.rows.values()] == [
        ANNOTATED,
        UNKNOWN,
        ANNOTATED,
        ANNOTATED,
    ]
    assert [(voxels_of(merged, case) == 1).sum() for case in "abcd"] == [40, 0, 20, 20]


def test_labels_that_are_said_to_be_unknown_stay_behind(make_project, tmp_path, voxels_of):
    project = make_project("p", {1: "liver", 2: "spleen"}, {"a": (1, 2)})
    hidden = project.with_matrix(project.matrix.with_status("a", "spleen", UNKNOWN))
    merged = merge_projects([hidden], tmp_path / "all", "All")
    assert np.unique(voxels_of(merged, "a")).tolist() == [0, 1]
    assert np.unique(voxels_of(hidden, "a")).tolist() == [0, 1, 2]


def test_pseudo_labels_stay_pseudo(make_project, tmp_path, voxels_of):
    project = make_project("p", {1: "liver"}, {"a": (1,)})
    pseudo = project.with_matrix(project.matrix.with_status("a", "liver", PSEUDO))
    merged = merge_projects([pseudo], tmp_path / "all", "All")
    assert merged.matrix.status("a", "liver") is PSEUDO
    assert voxels_of(merged, "a").any()


def test_projects_that_cannot_be_merged(make_project, tmp_path):
    project = make_project("p", {1: "liver"}, {"a": (1,)})
    mr = replace(make_project("m", {1: "liver"}, {"b": (1,)}), modality="MR")
    save_project(mr)
    for projects, unions, text in (
        ([], {}, "none"),
        ([project, mr], {}, "p CT, m MR"),
        ([project], {"kidneys": ("kidney_left",)}, "No project has kidney_left"),
        ([project], {"kidneys": ("liver",), "lungs": ("liver",)}, "liver more than once"),
    ):
        with pytest.raises(TrainingError, match=text):
            merge_projects(projects, tmp_path / "all", "All", MergeOptions(unions))
    with pytest.raises(OrganError, match="organ"):
        merge_projects([project], tmp_path / "all", "All", MergeOptions({"livers": ("liver",)}))
    with pytest.raises(TrainingError, match="exists already"):
        merge_projects([project], project.folder, "All")
