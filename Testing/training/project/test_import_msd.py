from __future__ import annotations

import json

import numpy as np
import pytest

from multiorganseg.errors import Cancelled, TrainingError, VolumeError
from multiorganseg.progress import CancelToken, Progress
from multiorganseg.volumes.read import read_labels
from multiorganseg_training.project import LabelStatus, import_msd, load_project

ANNOTATED = LabelStatus.ANNOTATED


def test_a_tumour_becomes_part_of_its_organ(make_msd, tmp_path, voxels_of):
    folder = make_msd()
    project = import_msd(folder, tmp_path / "liver", {"cancer": "liver"})
    assert load_project(project.folder) == project
    assert project.table.organs == {1: "liver"}
    assert list(project.cases) == ["liver_0", "liver_1"]
    assert project.matrix.rows == {"liver_0": {"liver": ANNOTATED}, "liver_1": {"liver": ANNOTATED}}
    source = read_labels(folder / "labelsTr" / "liver_0.nii.gz")
    np.testing.assert_array_equal(voxels_of(project, "liver_0"), source.voxels > 0)
    assert project.image_path("liver_0").read_bytes() == (folder / "imagesTr/liver_0.nii.gz").read_bytes()
    assert project.cases["liver_0"].source == "Task03_Liver"
    assert project.sources["Task03_Liver"] == {"licence": "CC-BY-SA 4.0", "reference": "Somewhere"}


def test_a_tumour_becomes_background_or_an_organ(make_msd, tmp_path, voxels_of):
    folder = make_msd()
    kept = import_msd(folder, tmp_path / "kept", {"cancer": "liver_tumor"})
    dropped = import_msd(folder, tmp_path / "dropped", {"cancer": "background"})
    assert kept.table.organs == {1: "liver", 2: "liver_tumor"}
    assert np.unique(voxels_of(kept, "liver_0")).tolist() == [0, 1, 2]
    assert kept.matrix.known("liver_1") == {"liver", "liver_tumor"}
    assert dropped.table.organs == {1: "liver"}
    assert (voxels_of(dropped, "liver_0") == 1).sum() == 20


def test_the_affine_stays(make_msd, tmp_path):
    folder = make_msd()
    project = import_msd(folder, tmp_path / "liver", {"cancer": "liver"})
    before = read_labels(folder / "labelsTr" / "liver_0.nii.gz")
    after = read_labels(project.folder / "labels" / "liver_0.nii.gz")
    assert before.grid.same_as(after.grid, 1e-6)


def test_test_images_come_without_labels_when_asked_for(make_msd, tmp_path):
    project = import_msd(make_msd(), tmp_path / "liver", {"cancer": "liver"}, unlabelled=True)
    assert project.cases["liver_9"].labels is None
    assert project.matrix.known("liver_9") == frozenset()


def test_hard_links(make_msd, tmp_path):
    folder = make_msd()
    project = import_msd(folder, tmp_path / "liver", {"cancer": "liver"}, hardlink=True)
    assert project.image_path("liver_0").samefile(folder / "imagesTr" / "liver_0.nii.gz")


def test_undeclared_values_are_refused_and_nothing_is_left(make_msd, tmp_path):
    folder = make_msd(cases={"liver_0": (1, 5)})
    with pytest.raises(TrainingError, match=r"5 \(20 voxels\)"):
        import_msd(folder, tmp_path / "liver", {"cancer": "liver"})
    assert [entry.name for entry in tmp_path.iterdir()] == ["Task03_Liver"]


def test_cancelling_leaves_nothing(make_msd, tmp_path):
    folder, token = make_msd(), CancelToken()

    def report(stage: str, fraction: float) -> None:
        if stage == "importing" and fraction > 0:
            token.cancel()

    with pytest.raises(Cancelled):
        import_msd(
            folder, tmp_path / "liver", {"cancer": "liver"}, unlabelled=True, progress=Progress(report, token)
        )
    assert [entry.name for entry in tmp_path.iterdir()] == ["Task03_Liver"]


def test_a_missing_file(make_msd, tmp_path):
    folder = make_msd()
    (folder / "labelsTr" / "liver_1.nii.gz").unlink()
    with pytest.raises(VolumeError, match=r"liver_1\.nii\.gz does not exist"):
        import_msd(folder, tmp_path / "liver", {"cancer": "liver"})


def test_images_named_as_in_nnunet_1(make_msd, tmp_path, voxels_of):
    folder = make_msd()
    for image in [*(folder / "imagesTr").glob("liver*"), *(folder / "imagesTs").glob("liver*")]:
        image.rename(image.with_name(image.name.replace(".nii.gz", "_0000.nii.gz")))
    description = folder / "dataset.json"
    description.write_bytes(b"\xef\xbb\xbf" + description.read_bytes())
    project = import_msd(folder, tmp_path / "liver", {"cancer": "liver"}, unlabelled=True)
    assert sorted(project.cases) == ["liver_0", "liver_1", "liver_9"]
    assert (voxels_of(project, "liver_0") == 1).sum() == 40
    (folder / "imagesTr" / "liver_0_0000.nii.gz").unlink()
    with pytest.raises(VolumeError, match=r"liver_0\.nii\.gz does not exist"):
        import_msd(folder, tmp_path / "again", {"cancer": "liver"})


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"modality": {"0": "FLAIR", "1": "T1w"}}, "2 channels"),
        ({"modality": {"0": "T2"}}, "does not tell the modality"),
        ({"training": [{"image": "./imagesTr/a.nii.gz"}]}, "label"),
        ({"training": [{"image": "../../a.nii.gz", "label": "b.nii.gz"}]}, "outside"),
        ({"training": []}, "no training case"),
        ({"labels": ["background", "liver"]}, "cannot be used"),
        ({"labels": {"0": "background", "1": "liver", "01": "cancer"}}, "'liver' and 'cancer'"),
    ],
)
def test_descriptions_that_cannot_be_used(make_msd, tmp_path, changes, text):
    folder = make_msd()
    path = folder / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}), encoding="utf-8")
    with pytest.raises(TrainingError, match=text) as caught:
        import_msd(folder, tmp_path / "liver", {"cancer": "liver"})
    assert caught.value.next_step
    assert not (tmp_path / "liver").exists()


def test_the_modality_may_be_stated(make_msd, tmp_path):
    folder = make_msd(modality={"0": "T2"})
    assert import_msd(folder, tmp_path / "p", {"cancer": "liver"}, modality="MR").modality == "MR"


def test_no_dataset(tmp_path):
    with pytest.raises(TrainingError, match="is no dataset"):
        import_msd(tmp_path, tmp_path / "p", {})
