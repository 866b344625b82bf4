from __future__ import annotations

from multiorganseg_training.project import LabelStatus, find_contradictions, load_project

ANNOTATED, ABSENT, UNKNOWN, PSEUDO = LabelStatus


def test_a_project_in_order(make_project):
    project = make_project("p", {1: "liver", 2: "spleen"}, {"a": (1, 2), "b": (1,), "c": None})
    matrix = project.matrix.with_status("b", "spleen", PSEUDO)
    assert find_contradictions(project.with_matrix(matrix)) == []


def test_labels_against_the_matrix(make_project):
    project = make_project("p", {1: "liver", 2: "spleen"}, {"a": (1, 2), "b": (1,)})
    matrix = project.matrix.with_status("a", "liver", UNKNOWN).with_status("a", "spleen", ABSENT)
    before = {path: path.read_bytes() for path in project.folder.rglob("*") if path.is_file()}
    found = find_contradictions(project.with_matrix(matrix))
    assert [(entry.case, entry.organ, entry.voxels) for entry in found] == [
        ("a", "liver", 20),
        ("a", "spleen", 20),
        ("b", "spleen", 0),
    ]
    assert "unknown, but labelled" in found[0].problem
    assert "absent, but labelled" in found[1].problem
    assert "annotated, but no voxel" in found[2].problem
    assert before == {path: path.read_bytes() for path in project.folder.rglob("*") if path.is_file()}
    assert load_project(project.folder) == project


def test_files_that_do_not_fit(make_project, write_case):
    project = make_project("p", {1: "liver"}, {"a": (1,), "b": (1,), "c": (1,)})
    project.image_path("a").unlink()
    project.labels_path("b").write_bytes(b"no image")
    write_case(project.folder / "other.nii.gz", project.labels_path("c"), (1, 4))
    found = {entry.case: entry for entry in find_contradictions(project)}
    assert "does not exist" in found["a"].problem
    assert "b.nii.gz" in found["b"].problem
    assert found["c"].problem == "The label value 4 has no organ."
    assert found["c"].voxels == 20
