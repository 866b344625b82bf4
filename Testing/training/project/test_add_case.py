from __future__ import annotations

import errno
import shutil
import sys

import numpy as np
import pytest
import SimpleITK as sitk

from multiorganseg.errors import OrganError, ResourceError, TrainingError, VolumeError
from multiorganseg.organs.labels import LabelTable
from multiorganseg.volumes.read import read_labels, read_volume
from multiorganseg.volumes.volume import Volume
from multiorganseg.volumes.write import write_volume
from multiorganseg_training.project import (
    LabelStatus,
    add_case,
    create_project,
    find_contradictions,
    load_project,
)

ANNOTATED, ABSENT, UNKNOWN, PSEUDO = LabelStatus
TABLE = LabelTable({2: "liver", 300: "spleen"})
BOTH = {"liver": ANNOTATED, "spleen": ANNOTATED}


@pytest.fixture
def folder(tmp_path):
    return create_project(tmp_path / "Projekt ö", "Bauch", TABLE).folder


@pytest.fixture
def files(tmp_path, write_case):
    image, labels = tmp_path / "ct.nii.gz", tmp_path / "gezeichnet ß.nrrd"
    write_case(image, labels, (2, 300))
    return image, labels


def files_of(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_files_come_in_with_what_is_known(folder, files, voxels_of):
    image, labels = files
    project = add_case(folder, "eins ö", image, labels, {"liver": ANNOTATED, "spleen": PSEUDO})
    project = add_case(folder, "two", image, status={"liver": ABSENT})
    assert load_project(folder) == project
    assert project.cases["eins ö"].labels == "labels/eins ö.nii.gz"
    assert project.labels_path("two") is None
    assert project.image_path("two").read_bytes() == image.read_bytes()
    voxels = voxels_of(project, "eins ö")
    assert np.unique(voxels).tolist() == [0, 2, 300]
    assert (voxels == 300).sum() == 20
    assert project.matrix.known("two") == {"liver"}
    assert find_contradictions(project) == []


def test_values_of_another_table_become_the_projects(folder, files, tmp_path, write_case, voxels_of):
    write_case(tmp_path / "other.nii.gz", tmp_path / "labels.nii.gz", (1, 9))
    table = LabelTable({9: "liver", 1: "spleen"})
    project = add_case(folder, "one", files[0], tmp_path / "labels.nii.gz", BOTH, table=table)
    assert np.unique(voxels_of(project, "one")).tolist() == [0, 2, 300]
    with pytest.raises(OrganError, match="No organ 'aorta'"):
        add_case(folder, "two", files[0], files[1], table=LabelTable({2: "aorta"}))


def test_volumes_in_memory(folder, files, voxels_of):
    image, labels = read_volume(files[0]), read_labels(files[1])
    wide = Volume(labels.voxels.astype(np.int64), labels.affine)
    project = add_case(folder, "one", image, wide, BOTH)
    back = read_volume(project.image_path("one"))
    assert project.cases["one"].image == "images/one.nii.gz"
    np.testing.assert_array_equal(back.voxels, image.voxels)
    assert back.grid.same_as(image.grid)
    np.testing.assert_array_equal(voxels_of(project, "one"), labels.voxels)
    for voxels in (wide.voxels - 1, wide.voxels + 0.5, wide.voxels * 70000):
        with pytest.raises(TrainingError, match="not a label map"):
            add_case(folder, "two", image, Volume(voxels, labels.affine))


def test_a_folder_of_dicom_becomes_a_nifti_file(folder, files, tmp_path):
    volume = read_volume(files[0])
    series = tmp_path / "Série 1"
    series.mkdir()
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k, plane in enumerate(volume.voxels):
        image = sitk.GetImageFromArray(plane[None].astype(np.int16))
        image.SetSpacing((1.5, 1.5, 2.5))
        tags = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"1.2.3.{k + 1}",
            "0008|0060": "CT",
            "0020|000d": "1.2.4",
            "0020|000e": "1.2.5",
            "0020|0032": f"-7\\3\\{40 + 2.5 * k}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
        }
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(series / f"{k}.dcm"))
        writer.Execute(image)
    project = add_case(folder, "one", series)
    assert project.cases["one"].image == "images/one.nii.gz"
    back = read_volume(project.image_path("one"))
    np.testing.assert_array_equal(back.voxels, volume.voxels)
    assert back.grid.same_as(read_volume(series).grid)
    assert add_case(folder, "two", series / "0.dcm").cases["two"].image == "images/two.nii.gz"


def test_cases_that_cannot_be_added(folder, files, tmp_path, write_case):
    image, labels = files
    before = load_project(folder)
    for arguments, error, text in (
        (("one", image, None, {"liver": ANNOTATED}), TrainingError, "no label file"),
        (("one", image, labels, {"aorta": ABSENT}), TrainingError, "no organ 'aorta'"),
        (("../one", image, labels, BOTH), TrainingError, "cannot be the name"),
        (("one", tmp_path / "none.nii.gz"), VolumeError, "does not exist"),
        (("one", tmp_path / "image.png"), TrainingError, "of a kind that projects do not hold"),
        (("one", tmp_path), VolumeError, "DICOM"),
        (
            ("one", image, labels, {**BOTH, "spleen": ABSENT}),
            TrainingError,
            r"is absent, but labelled. \(20",
        ),
        (("one", image, labels, {"liver": ANNOTATED}), TrainingError, "spleen: It is unknown, but labelled"),
    ):
        with pytest.raises(error, match=text):
            add_case(folder, *arguments)
    write_case(tmp_path / "other.nii.gz", labels, (2, 7))
    with pytest.raises(TrainingError, match=r"7 \(20 voxels\)"):
        add_case(folder, "one", image, labels, BOTH)
    write_case(tmp_path / "other.nii.gz", labels, (2,))
    with pytest.raises(TrainingError, match=r"spleen: It is annotated, but no voxel is labelled: absent\?"):
        add_case(folder, "one", image, labels, BOTH)
    assert load_project(folder) == before
    assert files_of(folder) == [".lock", "project.json"]


@pytest.mark.parametrize("name", ["Bauch ä", "BAUCH Ä", "bauch a\u0308"])
def test_two_cases_of_one_name(folder, files, name):
    add_case(folder, "Bauch ä", *files, BOTH)
    with pytest.raises(TrainingError, match="has a case 'Bauch ä' already") as caught:
        add_case(folder, name, *files, BOTH)
    assert "--name" in caught.value.next_step


@pytest.mark.parametrize("change", ["origin", "shape"])
def test_labels_on_another_grid(folder, files, change):
    labels = read_labels(files[1])
    affine, voxels = labels.affine.copy(), labels.voxels
    if change == "origin":
        affine[0, 3] += 0.5
    else:
        voxels = voxels[:, :, :-1]
        affine[:3, 3] += 0.5 * affine[:3, 0]
    with pytest.raises(TrainingError, match="do not lie on its image's grid") as caught:
        add_case(folder, "one", files[0], Volume(voxels, affine), BOTH)
    assert ("6 × 8 × 10 voxels, the labels have 6 × 8 × 9" if change == "shape" else "another place") in str(
        caught.value
    )


def on_same_voxels(labels: Volume, change: str) -> Volume:
    """The same labels, as another program may have written them."""
    affine, voxels = labels.affine.copy(), labels.voxels
    if change == "rows flipped":
        affine[:3, 3] += (voxels.shape[1] - 1) * affine[:3, 1]
        affine[:3, 1] *= -1
        voxels = voxels[:, ::-1]
    elif change == "axes in another order":
        affine = affine[:, [1, 2, 0, 3]]
        voxels = voxels.transpose(2, 0, 1)
    elif change == "cropped":
        affine[:3, 3] += affine[:3, :3] @ [0, 0, 1]
        voxels = voxels[1:5]
    elif change == "larger":
        affine[:3, 3] -= affine[:3, :3] @ [2, 0, 1]
        voxels = np.pad(voxels, ((1, 3), (0, 0), (2, 0)))
    elif change == "rounded":
        affine[0, 0] += 0.0005
    return Volume(voxels, affine)


@pytest.mark.parametrize("change", ["rows flipped", "axes in another order", "cropped", "larger", "rounded"])
def test_labels_on_the_same_voxel_centres(folder, files, voxels_of, change, recwarn):
    labels = read_labels(files[1])
    moved = on_same_voxels(labels, change)
    project = add_case(folder, "one", files[0], moved, BOTH)
    assert np.array_equal(voxels_of(project, "one"), labels.voxels)
    stored = read_labels(project.labels_path("one"))
    assert stored.grid.same_as(read_volume(files[0]).grid)
    reported = [str(warning.message) for warning in recwarn if "counts as background" in str(warning.message)]
    assert bool(reported) == (change == "cropped")


def test_labels_that_lie_outside_the_image(folder, files):
    labels = read_labels(files[1])
    affine = labels.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [0, 0, 3]
    with pytest.raises(TrainingError, match="outside its image") as caught:
        add_case(folder, "one", files[0], Volume(labels.voxels, affine), BOTH)
    assert "20 labelled voxels" in caught.value.cause


@pytest.mark.parametrize("file", ["images", "labels", "project.json"])
def test_a_full_disk_leaves_the_project_as_it_was(folder, files, file, monkeypatch):
    project = add_case(folder, "one", *files, BOTH)
    full = OSError(errno.ENOSPC, "No space left on device")
    module = sys.modules["multiorganseg_training.project.add_case"]

    def fail(*arguments: object, **named: object) -> None:
        message = "Cannot write."
        raise ResourceError(message) from full

    name = {"images": "place_image", "labels": "write_volume", "project.json": "save_project"}[file]
    with monkeypatch.context() as patched:
        patched.setattr(module, name, fail)
        with pytest.raises(ResourceError):
            add_case(folder, "two", *files, BOTH)
    assert load_project(folder) == project
    assert find_contradictions(project) == []
    assert list(add_case(folder, "two", *files, BOTH).cases) == ["one", "two"]


def test_a_moved_project_goes_on(folder, files, tmp_path):
    add_case(folder, "one", *files, BOTH)
    moved = tmp_path / "anderswo" / "neu"
    moved.parent.mkdir()
    shutil.move(folder, moved)
    project = load_project(moved)
    assert find_contradictions(project) == []
    assert project.image_path("one").parent == moved / "images"
    project = add_case(moved, "two", *files, BOTH)
    assert find_contradictions(project) == []
    assert str(folder) not in (moved / "project.json").read_text(encoding="utf-8")


def test_an_image_of_two_files_becomes_one(folder, files, tmp_path):
    volume = read_volume(files[0])
    sitk.WriteImage(sitk.GetImageFromArray(volume.voxels), str(tmp_path / "two.mhd"))
    project = add_case(folder, "one", tmp_path / "two.mhd")
    assert project.cases["one"].image == "images/one.nii.gz"
    np.testing.assert_array_equal(read_volume(project.image_path("one")).voxels, volume.voxels)


def test_formats_that_are_kept(folder, files, tmp_path):
    for suffix in (".nii", ".nrrd", ".mha"):
        write_volume(read_volume(files[0]), tmp_path / f"image{suffix}")
        name = suffix.strip(".")
        project = add_case(folder, name, tmp_path / f"image{suffix}")
        assert project.cases[name].image == f"images/{name}{suffix}"
