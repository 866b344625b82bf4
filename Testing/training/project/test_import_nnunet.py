from __future__ import annotations

import json

import numpy as np
import pytest

from multiorganseg.errors import TrainingError
from multiorganseg_training.project import LabelStatus, import_nnunet, load_project

RULES = {"left kidney": "kidney_left"}


def test_import(make_nnunet, tmp_path, voxels_of):
    project = import_nnunet(make_nnunet(), tmp_path / "p", RULES)
    assert load_project(project.folder) == project
    assert project.name == "Dataset201_Abdomen"
    assert project.table.organs == {1: "spleen", 2: "kidney_left"}
    assert list(project.cases) == ["a", "b"]
    assert project.matrix.known("b") == {"spleen", "kidney_left"}
    assert np.unique(voxels_of(project, "b")).tolist() == [0, 2]


def test_two_labels_become_one_organ(make_nnunet, tmp_path, voxels_of):
    labels = {"background": 0, "kidney_right": 1, "kidney_left": 2}
    rules = {"kidney_right": "kidneys", "kidney_left": "kidneys"}
    project = import_nnunet(make_nnunet(labels=labels), tmp_path / "p", rules)
    assert project.table.organs == {1: "kidneys"}
    assert (voxels_of(project, "a") == 1).sum() == 40


def test_regions_are_mapped_by_value(make_nnunet, tmp_path, voxels_of):
    labels = {"background": 0, "kidney": [1, 2, 3], "masses": [2, 3], "tumor": 2}
    folder = make_nnunet(labels=labels, regions_class_order=[1, 3, 2], cases={"a": (1, 2, 3)})
    with pytest.raises(TrainingError, match=r"1 \(1\), 3 \(3\)"):
        import_nnunet(folder, tmp_path / "p", {"tumor": "kidney_tumor"})
    rules = {"1": "kidneys", "tumor": "kidney_tumor", "3": "kidney_cyst"}
    project = import_nnunet(folder, tmp_path / "p", rules)
    assert project.table.organs == {1: "kidneys", 2: "kidney_tumor", 3: "kidney_cyst"}
    assert np.unique(voxels_of(project, "a")).tolist() == [0, 1, 2, 3]


def test_images_without_labels(make_nnunet, tmp_path, write_case):
    folder = make_nnunet(cases={"a": (1,), "b": None})
    write_case(folder / "imagesTs" / "c_0000.nii.gz", None, ())
    with pytest.raises(TrainingError, match="No labels for b"):
        import_nnunet(folder, tmp_path / "p", RULES)
    project = import_nnunet(folder, tmp_path / "p", RULES, unlabelled=True)
    assert [name for name, case in project.cases.items() if case.labels is None] == ["b", "c"]
    assert project.matrix.organs_with("b", LabelStatus.UNKNOWN) == {"spleen", "kidney_left"}


def test_one_of_several_channels(make_nnunet, tmp_path, write_case):
    folder = make_nnunet(channel_names={"0": "CT", "1": "MRI"}, cases={"a": (1,)})
    write_case(folder / "imagesTr" / "a_0001.nii.gz", None, (), 99)
    with pytest.raises(TrainingError, match=r"0 \(CT\), 1 \(MRI\)"):
        import_nnunet(folder, tmp_path / "p", RULES)
    with pytest.raises(TrainingError, match="no channel 2"):
        import_nnunet(folder, tmp_path / "p", RULES, channel=2)
    project = import_nnunet(folder, tmp_path / "p", RULES, channel=1)
    assert project.modality == "MR"
    assert project.image_path("a").read_bytes() == (folder / "imagesTr" / "a_0001.nii.gz").read_bytes()


def test_the_ignore_label_of_others_is_refused_where_it_occurs(make_nnunet, tmp_path):
    labels = {"background": 0, "spleen": 1, "ignore": 2}
    project = import_nnunet(make_nnunet(labels=labels, cases={"a": (1,)}), tmp_path / "p", {})
    assert project.matrix.known("a") == {"spleen"}
    folder = make_nnunet(name="Dataset202_Sparse", labels=labels, cases={"a": (1, 2)})
    with pytest.raises(TrainingError, match="20 voxels of the ignore label"):
        import_nnunet(folder, tmp_path / "q", {})


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"file_ending": ".png"}, "end in '.png'"),
        ({"dataset": {}}, "imagesTr and labelsTr"),
        ({"channel_names": ["CT"]}, "cannot be used"),
        ({"labels": {"background": 0, "spleen": "one"}}, "cannot be used"),
        ({"labels": {"background": 0, "spleen": 1, "liver": 1}}, "'spleen' and 'liver'"),
        ({"file_ending": ".nrrd"}, "no file that ends in _0000.nrrd"),
        ({"channel_names": {"0": "zscore"}}, "--modality"),
    ],
)
def test_descriptions_that_cannot_be_used(make_nnunet, tmp_path, changes, text):
    with pytest.raises(TrainingError, match=text):
        import_nnunet(make_nnunet(**changes), tmp_path / "p", RULES)


def test_a_folder_of_the_decathlon_is_named(make_nnunet, tmp_path):
    folder = make_nnunet()
    for image in (folder / "imagesTr").iterdir():
        image.rename(image.with_name(image.name.replace("_0000", "")))
    description = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver"}, "training": []}
    (folder / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    with pytest.raises(TrainingError, match="no nnU-Net folder") as caught:
        import_nnunet(folder, tmp_path / "p", RULES)
    assert "import-msd" in caught.value.next_step
