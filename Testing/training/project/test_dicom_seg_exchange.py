from __future__ import annotations

import runpy
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest

from multiorganseg.bundles.metadata import CustomOrgan
from multiorganseg.errors import TrainingError, VolumeError
from multiorganseg.organs.catalogue import load_catalogue
from multiorganseg.organs.labels import LabelTable
from multiorganseg.results.dicom_seg import write_dicom_seg
from multiorganseg.volumes.read import read_labels, read_volume
from multiorganseg.volumes.volume import Volume
from multiorganseg_training.project import (
    LabelStatus,
    add_case,
    add_organ,
    create_project,
    load_project,
    save_annotation,
)
from multiorganseg_training.project.export_dicom_seg import export_dicom_seg
from multiorganseg_training.project.import_dataset import import_into
from multiorganseg_training.project.read_dataset import open_dataset

ENGINE = runpy.run_path(str(Path(__file__).parents[2] / "engine" / "results" / "conftest.py"))
TABLE = LabelTable(ENGINE["TABLE"].organs)
SHAPE = (8, 24, 26)
DIRECTIONS = {
    "axial": None,
    "tilted": np.array([[6.0, 0.0, 0.0], [0.0, 6.0, 2.5], [0.0, 0.0, 8.0]]),
    "oblique": np.array([[5.9, 0.0, 1.45], [0.0, 6.0, 0.0], [-1.09, 0.0, 7.87]]),
}


@pytest.fixture
def dicom(tmp_path: Path) -> Path:
    """A folder with a series of each direction."""
    for name, directions in DIRECTIONS.items():
        truth, _ = ENGINE["case"](ENGINE["grid"](SHAPE, directions))
        ENGINE["write_dicom_series"](truth, tmp_path / "dicom" / name)
    return tmp_path / "dicom"


@pytest.fixture
def folder(dicom: Path, tmp_path: Path) -> Path:
    """A project of these series, in which some organs are annotated, one by a network, and one is its own."""
    target = create_project(tmp_path / "P", "P", TABLE).folder
    add_organ(target, "my_lump", CustomOrgan("My lump", (1, 2, 3)))
    for name in DIRECTIONS:
        add_case(target, name, dicom / name)
        _, truth = ENGINE["case"](read_volume(dicom / name).grid)
        statuses = {"spleen": LabelStatus.ANNOTATED, "liver": LabelStatus.PSEUDO}
        save_annotation(target, name, truth.labels, statuses, table=TABLE)
    lump = np.zeros(SHAPE, np.uint8)
    lump[0, :3, :3] = 1
    save_annotation(
        target, "axial", lump, {"my_lump": LabelStatus.ANNOTATED}, table=LabelTable({1: "my_lump"})
    )
    return target


ONE = LabelTable({1: "spleen"})


def mask(folder: Path, case: str, organ: str) -> np.ndarray:
    project = load_project(folder)
    return read_labels(project.labels_path(case)).voxels == project.table.value(organ)


def test_annotations_come_back_voxel_by_voxel(folder, dicom, tmp_path):
    report = export_dicom_seg(load_project(folder), dicom / "segs", dicom)
    assert (report.cases, report.skipped) == (tuple(DIRECTIONS), {})
    again = create_project(tmp_path / "Q", "Q", LabelTable.numbered(["liver", "spleen"])).folder
    add_organ(again, "my_lump", CustomOrgan("My lump", (1, 2, 3)))
    with open_dataset(dicom) as dataset:
        assert set(dataset.labels.values()) == {"spleen", "My lump"}
        import_into(dataset, again, {"My lump": "my_lump"})
    project = load_project(again)
    assert set(project.cases) == set(DIRECTIONS)
    for case in DIRECTIONS:
        assert np.array_equal(mask(again, case, "spleen"), mask(folder, case, "spleen"))
        row = project.matrix.rows[case]
        assert (row["spleen"], row["liver"]) == (LabelStatus.ANNOTATED, LabelStatus.UNKNOWN)
        known = LabelStatus.ANNOTATED if case == "axial" else LabelStatus.UNKNOWN
        assert row["my_lump"] is known
    assert np.array_equal(mask(again, "axial", "my_lump"), mask(folder, "axial", "my_lump"))


def test_people_are_named_as_the_makers(folder, dicom, tmp_path):
    export_dicom_seg(load_project(folder), tmp_path / "segs", dicom)
    seg = pydicom.dcmread(tmp_path / "segs" / "axial.dcm")
    assert {item.SegmentAlgorithmType for item in seg.SegmentSequence} == {"MANUAL"}
    assert not any("SegmentAlgorithmName" in item for item in seg.SegmentSequence)
    assert {item.SegmentLabel for item in seg.SegmentSequence} == {"Spleen", "My lump"}


def test_what_people_corrected_after_a_network_says_so(folder, dicom, tmp_path):
    spleen = mask(folder, "axial", "spleen").astype(np.uint8)
    save_annotation(
        folder, "axial", spleen, {"spleen": LabelStatus.ANNOTATED}, table=ONE, corrected=["spleen"]
    )
    assert load_project(folder).case("axial").corrected == ("spleen",)
    export_dicom_seg(load_project(folder), tmp_path / "segs", dicom)
    seg = pydicom.dcmread(tmp_path / "segs" / "axial.dcm")
    kinds = {item.SegmentLabel: item.SegmentAlgorithmType for item in seg.SegmentSequence}
    assert kinds == {"Spleen": "SEMIAUTOMATIC", "My lump": "MANUAL"}
    save_annotation(folder, "axial", spleen, {"spleen": LabelStatus.ANNOTATED}, table=ONE)
    assert load_project(folder).case("axial").corrected == ()


def test_a_case_in_another_order_of_axes_finds_its_series(folder, dicom, tmp_path):
    """As an application stores it that turns volumes."""
    image = read_volume(dicom / "axial")
    turned = image.affine.copy()
    turned[:3, 3] += turned[:3, 2] * (SHAPE[0] - 1)
    turned[:3, 2] *= -1
    other = create_project(tmp_path / "Q", "Q", LabelTable.numbered(["spleen"])).folder
    add_case(other, "turned", Volume(np.flip(image.voxels, 0), turned))
    drawn = np.flip(mask(folder, "axial", "spleen"), 0).astype(np.uint8)
    save_annotation(other, "turned", drawn, {"spleen": LabelStatus.ANNOTATED})
    export_dicom_seg(load_project(other), dicom / "segs", dicom)
    third = create_project(tmp_path / "R", "R", LabelTable.numbered(["spleen"])).folder
    with open_dataset(dicom) as dataset:
        import_into(dataset, third, {})
    assert np.array_equal(mask(third, "turned", "spleen"), mask(folder, "axial", "spleen"))


def test_a_case_without_its_series_is_left_out_and_reported(folder, dicom, tmp_path):
    shutil.rmtree(dicom / "tilted")
    report = export_dicom_seg(load_project(folder), tmp_path / "segs", dicom)
    assert report.cases == ("axial", "oblique")
    assert "not among the DICOM series" in report.skipped["tilted"]
    with pytest.raises(TrainingError, match="No case is left"):
        export_dicom_seg(load_project(folder), tmp_path / "more", tmp_path / "segs")
    assert not (tmp_path / "more").exists()


def test_a_seg_without_its_series_is_refused(folder, dicom, tmp_path):
    export_dicom_seg(load_project(folder), tmp_path / "segs", dicom)
    with (
        pytest.raises(VolumeError, match="is not in"),
        open_dataset(tmp_path / "segs", described=True),
    ):
        pass


def test_what_the_engine_wrote_can_be_imported(dicom, tmp_path):
    """As a result that somebody corrected."""
    volume = read_volume(dicom / "oblique")
    _, truth = ENGINE["case"](volume.grid)
    files = sorted((dicom / "oblique").iterdir())
    write_dicom_seg(truth, dicom / "result.seg.dcm", load_catalogue(), files)
    target = create_project(tmp_path / "Q", "Q", TABLE).folder
    with open_dataset(dicom) as dataset:
        import_into(dataset, target, {})
    for value, key in TABLE.organs.items():
        expected = truth.labels == value
        if expected.any():
            assert np.array_equal(mask(target, "result", key), expected)
