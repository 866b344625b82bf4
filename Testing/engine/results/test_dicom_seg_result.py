from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from multiorganseg.errors import DependencyError, VolumeError
from multiorganseg.organs.catalogue import load_catalogue
from multiorganseg.organs.labels import LabelTable
from multiorganseg.results.dicom_seg import write_dicom_seg
from multiorganseg.results.segmentation import Author, Segmentation
from multiorganseg.results.write import write_results
from multiorganseg.volumes.read import read_volume

CATALOGUE = load_catalogue()
TILT = np.array([[6.0, 0.0, 0.0], [0.0, 6.0, 2.5], [0.0, 0.0, 8.0]])
FLIPPED = np.diag([6.0, 6.0, -8.0])
CORONAL = np.array([[6.0, 0.0, 0.0], [0.0, 0.0, 6.0], [0.0, -6.0, 0.0]])
OBLIQUE = np.array([[5.9, 0.0, 1.45], [0.0, 6.0, 0.0], [-1.09, 0.0, 7.87]])


@pytest.fixture(
    params=[None, TILT, FLIPPED, CORONAL, OBLIQUE], ids=["axial", "tilt", "flip", "coronal", "oblique"]
)
def series(request, tmp_path, phantom):
    """Volume as the package reads it, its segmentation and the slices in the writer's order."""
    truth, _ = phantom.case(phantom.grid((14, 40, 44), request.param))
    files = phantom.write_dicom_series(truth, tmp_path / "series")
    volume = read_volume(tmp_path / "series")
    _, segmentation = phantom.case(volume.grid)
    return segmentation, files


def masks_by_slice(segmentation: Segmentation) -> dict[tuple[str, int], np.ndarray]:
    """Non-empty frames by organ name and slice index."""
    frames = {}
    for k, plane in enumerate(segmentation.labels):
        for value in np.unique(plane[plane > 0]):
            frames[CATALOGUE.get(segmentation.table.organs[int(value)]).name, k] = plane == value
    return frames


def test_highdicom_reads_each_mask_at_its_place(series, tmp_path):
    segmentation, files = series
    path = tmp_path / "out" / "a.seg.dcm"
    write_dicom_seg(segmentation, path, CATALOGUE, files)
    read = highdicom.seg.segread(path)
    assert read.SegmentationType == "BINARY"
    names = {item.SegmentNumber: item.SegmentLabel for item in read.SegmentSequence}
    expected = masks_by_slice(segmentation)
    found = {}
    for functional, pixels in zip(read.PerFrameFunctionalGroupsSequence, read.pixel_array, strict=True):
        number = functional.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        position = [float(part) for part in functional.PlanePositionSequence[0].ImagePositionPatient]
        index = segmentation.grid.to_index(position)
        np.testing.assert_allclose(index, [round(index[0]), 0, 0], atol=0.01)
        found[names[number], round(index[0])] = pixels > 0
    assert found.keys() == expected.keys()
    for key, mask in expected.items():
        np.testing.assert_array_equal(found[key], mask)


def test_frames_refer_to_the_slices_that_they_lie_on(series, tmp_path):
    segmentation, files = series
    path = tmp_path / "a.dcm"
    write_dicom_seg(segmentation, path, CATALOGUE, files)
    positions = {}
    for file in files:
        header = pydicom.dcmread(file, stop_before_pixels=True)
        positions[header.SOPInstanceUID] = [float(part) for part in header.ImagePositionPatient]
    for functional in highdicom.seg.segread(path).PerFrameFunctionalGroupsSequence:
        source = functional.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        np.testing.assert_allclose(
            [float(part) for part in functional.PlanePositionSequence[0].ImagePositionPatient],
            positions[source],
            atol=1e-3,
        )


def test_segments_are_coded_and_coloured(tmp_path, phantom):
    volume, segmentation = phantom.case()
    files = phantom.write_dicom_series(volume, tmp_path / "series")
    write_dicom_seg(segmentation, tmp_path / "a.dcm", CATALOGUE, files)
    read = highdicom.seg.segread(tmp_path / "a.dcm")
    described = {item.SegmentLabel: item for item in read.SegmentSequence}
    assert set(described) == {"Spleen", "Right kidney", "Liver", "Aorta"}
    kidney = described["Right kidney"]
    assert kidney.segmented_property_type.value == "64033007"
    assert kidney.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[
        0
    ].CodeValue == ("24028007")
    assert kidney.SegmentAlgorithmType == "AUTOMATIC"
    parameters = kidney.SegmentationAlgorithmIdentificationSequence[0].AlgorithmParameters
    assert json.loads(parameters.removeprefix("provenance=")) == phantom.PROVENANCE
    color = highdicom.color.CIELabColor.from_dicom_value(tuple(kidney.RecommendedDisplayCIELabValue))
    np.testing.assert_allclose(color.to_rgb(), CATALOGUE.get("kidney_right").color, atol=2)
    assert (read.PatientID, read.StudyInstanceUID) == ("P1", pydicom.dcmread(files[0]).StudyInstanceUID)


def test_each_segment_says_who_drew_it(tmp_path, phantom):
    volume, segmentation = phantom.case()
    files = phantom.write_dicom_series(volume, tmp_path / "series")
    authors = {"spleen": Author.PEOPLE, "liver": Author.CORRECTED}
    write_dicom_seg(replace(segmentation, authors=authors), tmp_path / "a.dcm", CATALOGUE, files)
    found = {item.SegmentLabel: item for item in highdicom.seg.segread(tmp_path / "a.dcm").SegmentSequence}
    assert found["Spleen"].SegmentAlgorithmType == "MANUAL"
    assert "SegmentAlgorithmName" not in found["Spleen"]
    assert "SegmentationAlgorithmIdentificationSequence" not in found["Spleen"]
    assert found["Liver"].SegmentAlgorithmType == "SEMIAUTOMATIC"
    assert found["Liver"].SegmentAlgorithmName == "MultiOrganSeg"
    assert found["Aorta"].SegmentAlgorithmType == "AUTOMATIC"


def test_dcmqi_reads_the_same_voxels(tmp_path, phantom):
    tool = shutil.which("segimage2itkimage", path=str(Path(sys.executable).parent)) or shutil.which(
        "segimage2itkimage"
    )
    if not tool:
        pytest.skip("dcmqi is not installed")
    volume, segmentation = phantom.case()
    files = phantom.write_dicom_series(volume, tmp_path / "series")
    write_dicom_seg(segmentation, tmp_path / "a.dcm", CATALOGUE, files)
    (tmp_path / "itk").mkdir()
    subprocess.run(
        [tool, "--inputDICOM", tmp_path / "a.dcm", "--outputDirectory", tmp_path / "itk", "-t", "nrrd"],
        check=True,
        capture_output=True,
    )
    meta = json.loads(next((tmp_path / "itk").glob("*.json")).read_text(encoding="utf-8"))
    numbers = {
        entry["SegmentLabel"]: entry["labelID"] for group in meta["segmentAttributes"] for entry in group
    }
    assert set(numbers) == {"Spleen", "Right kidney", "Liver", "Aorta"}
    for file in sorted((tmp_path / "itk").glob("*.nrrd")):
        image = sitk.ReadImage(str(file))
        mask = sitk.GetArrayFromImage(image)
        (name,) = [name for name, number in numbers.items() if number == mask.max()]
        value = next(v for v, key in phantom.TABLE.organs.items() if CATALOGUE.get(key).name == name)
        expected = {tuple(point) for point in np.argwhere(segmentation.labels == value)}
        found = set()
        for k, j, i in np.argwhere(mask > 0):
            point = image.TransformIndexToPhysicalPoint((int(i), int(j), int(k)))
            found.add(tuple(int(part) for part in np.rint(segmentation.grid.to_index(point))))
        assert found == expected


def test_foreign_files_are_refused(tmp_path, phantom):
    volume, segmentation = phantom.case()
    files = phantom.write_dicom_series(volume, tmp_path / "series")
    with pytest.raises(VolumeError, match="do not match"):
        write_dicom_seg(segmentation, tmp_path / "a.dcm", CATALOGUE, files[1:])
    moved = segmentation.affine.copy()
    moved[0, 3] += 30
    with pytest.raises(VolumeError, match="do not match"):
        write_dicom_seg(
            Segmentation(segmentation.labels, moved, segmentation.table), tmp_path / "a.dcm", CATALOGUE, files
        )
    (tmp_path / "text.dcm").write_text("no image", encoding="utf-8")
    with pytest.raises(VolumeError, match="cannot be read as DICOM"):
        write_dicom_seg(segmentation, tmp_path / "a.dcm", CATALOGUE, [tmp_path / "text.dcm"])
    assert not (tmp_path / "a.dcm").exists()


def test_doubles_and_localizers_are_left_aside(tmp_path, phantom):
    volume, segmentation = phantom.case()
    files = phantom.write_dicom_series(volume, tmp_path / "series")
    double = pydicom.dcmread(files[0])
    double.SOPInstanceUID = pydicom.uid.generate_uid()
    double.save_as(tmp_path / "double.dcm")
    scout = pydicom.dcmread(files[0])
    scout.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    scout.save_as(tmp_path / "scout.dcm")
    write_dicom_seg(
        segmentation, tmp_path / "a.dcm", CATALOGUE, [*files, tmp_path / "double.dcm", tmp_path / "scout.dcm"]
    )
    assert len(highdicom.seg.segread(tmp_path / "a.dcm").SegmentSequence) == 4


def test_empty_result_is_refused(tmp_path, phantom):
    volume, segmentation = phantom.case()
    files = phantom.write_dicom_series(volume, tmp_path / "series")
    empty = Segmentation(np.zeros_like(segmentation.labels), segmentation.affine, segmentation.table)
    with pytest.raises(VolumeError, match="No DICOM SEG"):
        write_dicom_seg(empty, tmp_path / "a.dcm", CATALOGUE, files)


def test_missing_highdicom_names_the_command(tmp_path, monkeypatch, phantom):
    monkeypatch.setitem(sys.modules, "highdicom", None)
    _, segmentation = phantom.case()
    with pytest.raises(DependencyError, match=r"pip install 'multiorganseg\[dicom\]'"):
        write_dicom_seg(segmentation, tmp_path / "a.dcm", CATALOGUE, [])


TYPE_2 = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "AccessionNumber")


def edited(files: list[Path], **fields: object) -> None:
    """Overwrite attributes of every slice; None deletes them."""
    for file in files:
        header = pydicom.dcmread(file)
        for name, value in fields.items():
            if value is None:
                del header[name]
            else:
                setattr(header, name, value)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header.save_as(file, enforce_file_format=True)


@pytest.mark.parametrize("name", [*TYPE_2, "StudyDate", "StudyTime", "ReferringPhysicianName"])
def test_attributes_that_may_be_empty_are_empty_where_missing(name, tmp_path, phantom):
    volume, segmentation = phantom.case()
    files = phantom.write_dicom_series(volume, tmp_path / "series")
    edited(files, **{name: None})
    write_dicom_seg(segmentation, tmp_path / "a.dcm", CATALOGUE, files)
    read = highdicom.seg.segread(tmp_path / "a.dcm")
    assert name in read
    assert not read.get(name)


@pytest.mark.parametrize("thickness", [None, ""], ids=["missing", "empty"])
def test_a_missing_thickness_is_that_of_the_grid(thickness, tmp_path, phantom):
    volume, segmentation = phantom.case()
    files = phantom.write_dicom_series(volume, tmp_path / "series")
    edited(files, SliceThickness=thickness)
    write_dicom_seg(segmentation, tmp_path / "a.dcm", CATALOGUE, files)
    shared = highdicom.seg.segread(tmp_path / "a.dcm").SharedFunctionalGroupsSequence[0]
    assert float(shared.PixelMeasuresSequence[0].SliceThickness) == 8.0


@pytest.mark.parametrize(
    "fields",
    [
        {"PatientSex": "unknown"},
        {"FrameOfReferenceUID": None},
        {"StudyInstanceUID": None},
        {"SOPInstanceUID": None},
        {"StudyDate": "yesterday"},
        {"PatientBirthDate": "19-Mar"},
    ],
    ids=str,
)
def test_invalid_headers_are_refused_with_a_typed_error(fields, tmp_path, phantom):
    volume, segmentation = phantom.case()
    files = phantom.write_dicom_series(volume, tmp_path / "series")
    edited(files, **fields)
    with pytest.raises(VolumeError, match="No DICOM SEG") as caught:
        write_dicom_seg(segmentation, tmp_path / "out" / "a.dcm", CATALOGUE, files)
    assert caught.value.next_step
    assert not (tmp_path / "out").exists()


def test_the_other_formats_are_written_first(tmp_path, phantom):
    volume, segmentation = phantom.case()
    files = phantom.write_dicom_series(volume, tmp_path / "series")
    edited(files, FrameOfReferenceUID=None)
    with pytest.raises(VolumeError, match="No DICOM SEG"):
        write_results(
            segmentation,
            volume,
            tmp_path / "out",
            formats={"dcm", "seg.nrrd", "csv"},
            preview=False,
            dicom_files=files,
        )
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "patient one.seg.nrrd",
        "patient one.statistics.csv",
    }


def test_slices_without_preamble_can_be_referred_to(tmp_path, phantom):
    volume, segmentation = phantom.case()
    files = phantom.write_dicom_series(volume, tmp_path / "series")
    for file in files:
        file.write_bytes(file.read_bytes()[132:])
    write_dicom_seg(segmentation, tmp_path / "a.dcm", CATALOGUE, files)
    assert len(highdicom.seg.segread(tmp_path / "a.dcm").SegmentSequence) == 4


def test_a_structure_within_an_organ_names_its_region(tmp_path, phantom):
    volume, segmentation = phantom.case()
    files = phantom.write_dicom_series(volume, tmp_path / "series")
    table = LabelTable({**phantom.TABLE.organs, 6: "liver_cyst"})
    write_dicom_seg(
        Segmentation(segmentation.labels, segmentation.affine, table), tmp_path / "a.dcm", CATALOGUE, files
    )
    described = {
        item.SegmentLabel: item for item in highdicom.seg.segread(tmp_path / "a.dcm").SegmentSequence
    }
    (region,) = described["Liver cyst"].AnatomicRegionSequence
    assert region.CodeValue == CATALOGUE.get("liver").type.value
    assert "AnatomicRegionSequence" not in described["Aorta"]
