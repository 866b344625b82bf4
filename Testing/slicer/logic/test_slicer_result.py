"""The result's table and files, read back by Slicer and by independent readers."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from multiorganseg.errors import ResourceError, VolumeError

Make = Callable[..., Any]
ANATOMY = "123037004"
CODES = {"spleen": "78961009", "liver": "10200004", "kidney_left": "64033007"}
LEFT = "7771000"
TAGS = {
    "MultiOrganSeg.Model": "abdomen-ct 1.2.3",
    "MultiOrganSeg.ModelSha256": "ab" * 32,
    "MultiOrganSeg.Software": "MultiOrganSeg 0.1",
    "MultiOrganSeg.Quality": "fast",
    "MultiOrganSeg.Modality": "CT",
    "DICOM.SegmentAlgorithmType": "AUTOMATIC",
    "DICOM.SegmentAlgorithmName": "MultiOrganSeg",
}


@pytest.fixture
def case(logic: Any, make_volume: Make, pretend: Make, tools: SimpleNamespace) -> SimpleNamespace:
    volume = make_volume()
    pretend(result=tools.result_file(volume))
    return SimpleNamespace(volume=volume, node=logic.process(volume), labels=tools.labels())


def described(node: Any) -> dict[str, Any]:
    """Name, colour, terminology and tags of each segment."""
    import slicer

    from MultiOrganSegLib.tags import tag

    found = {}
    for identity in node.GetSegmentation().GetSegmentIDs():
        segment = node.GetSegmentation().GetSegment(identity)
        terminology = tag(segment, slicer.vtkSegment.GetTerminologyEntryTagName())
        numbers = [tag(segment, f"MultiOrganSeg.{name}") for name in ("VolumeMl", "Confidence", "Flags")]
        tags = {name: tag(segment, name) for name in TAGS}
        color = tuple(round(channel, 4) for channel in segment.GetColor())
        found[identity] = (segment.GetName(), color, terminology, numbers, tags)
    return found


def test_rows_are_worst_first(case: SimpleNamespace) -> None:
    from MultiOrganSegLib.result import organ_rows

    rows = organ_rows(case.node)
    assert [row.segment_id for row in rows] == ["kidney_left", "liver", "spleen"]
    absent, liver, spleen = rows
    assert (absent.name, absent.flags, absent.volume_ml) == ("Left kidney", ("not_found",), 0.0)
    assert math.isnan(absent.confidence)
    assert math.isnan(absent.mean_intensity)
    assert liver.flags == ("cut_by_field_of_view",)
    assert (spleen.confidence, spleen.flags) == (0.91, ())
    assert spleen.volume_ml == pytest.approx((case.labels == 1).sum() * 2.5 * 2 * 3 / 1000)
    assert all(0 <= channel <= 1 for channel in spleen.color)


def test_every_segment_says_where_it_came_from(case: SimpleNamespace) -> None:
    for name, color, terminology, numbers, tags in described(case.node).values():
        assert name
        assert color
        assert terminology.count("~") == 6
        assert numbers[0]
        assert tags == TAGS


def test_rows_leave_out_what_others_drew(case: SimpleNamespace) -> None:
    from MultiOrganSegLib.result import organ_rows

    case.node.GetSegmentation().AddEmptySegment("mine", "Mine")
    assert "mine" not in [row.segment_id for row in organ_rows(case.node)]


def test_csv_has_the_engines_columns(case: SimpleNamespace, tmp_path: Path) -> None:
    from MultiOrganSegLib.result import export_csv

    case.node.GetSegmentation().AddEmptySegment("mine", "Mine")
    path = tmp_path / "Bäuche.csv"
    export_csv(case.node, path)
    with path.open(encoding="utf-8", newline="") as file:
        rows = {row["organ"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["spleen", "liver", "kidney_left"]
    assert rows["liver"]["name"] == "Liver"
    assert rows["liver"]["snomed_code"] == CODES["liver"]
    assert int(rows["liver"]["voxels"]) == int((case.labels == 2).sum())
    assert float(rows["liver"]["mean_hu"])
    assert rows["liver"]["flags"] == "cut_by_field_of_view"
    assert rows["kidney_left"]["confidence"] == ""
    assert rows["kidney_left"]["snomed_modifier"] == LEFT


def move_spleen(case: SimpleNamespace) -> np.ndarray:
    """Correct the spleen by hand: another shape of as many voxels as before."""
    import slicer

    drawn = np.zeros(case.labels.shape, np.uint8)
    drawn[2:6, 5:18, 8:18] = 1
    assert drawn.sum() == (case.labels == 1).sum()
    slicer.util.updateSegmentBinaryLabelmapFromArray(drawn, case.node, "spleen", case.volume)
    return drawn


def test_a_corrected_organ_is_measured_anew_in_table_and_files(case: SimpleNamespace, tmp_path: Path) -> None:
    """Although it has as many voxels as before. Its neighbours keep their figures."""
    import highdicom
    import slicer
    import slicerio

    from MultiOrganSegLib.result import export_csv, export_dicom_seg, export_seg_nrrd, organ_rows

    before = {row.segment_id: row for row in organ_rows(case.node)}
    drawn = move_spleen(case)
    mean = slicer.util.arrayFromVolume(case.volume)[drawn > 0].mean()
    export_csv(case.node, tmp_path / "a.csv")
    export_seg_nrrd(case.node, tmp_path / "a.seg.nrrd")
    write_series(case.volume, tmp_path / "series")
    export_dicom_seg(case.node, case.volume, tmp_path / "a.dcm")
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["organ"]: row for row in csv.DictReader(file)}
    assert float(rows["spleen"]["mean_hu"]) == pytest.approx(mean, abs=0.06)
    assert (rows["spleen"]["confidence"], rows["spleen"]["flags"]) == ("", "corrected")
    assert rows["liver"]["confidence"] == "0.83"
    tags = {
        each["id"]: each["tags"]
        for each in slicerio.read_segmentation(str(tmp_path / "a.seg.nrrd"))["segments"]
    }
    assert tags["spleen"]["DICOM.SegmentAlgorithmType"] == "SEMIAUTOMATIC"
    assert "MultiOrganSeg.Confidence" not in tags["spleen"]
    assert tags["liver"]["DICOM.SegmentAlgorithmType"] == "AUTOMATIC"
    read = highdicom.seg.segread(tmp_path / "a.dcm")
    assert {item.SegmentLabel: item.SegmentAlgorithmType for item in read.SegmentSequence} == {
        "Spleen": "SEMIAUTOMATIC",
        "Liver": "AUTOMATIC",
    }
    after = organ_rows(case.node)
    assert after[-1].segment_id == "spleen"
    assert after[-1].is_corrected
    np.testing.assert_equal(
        [vars(row) for row in after[:2]], [vars(before[row.segment_id]) for row in after[:2]]
    )


def test_counting_is_by_the_voxels_that_are_there(case: SimpleNamespace) -> None:
    """Of an organ that shrinks, one that is emptied, and one that was not found and is drawn."""
    import slicer

    from MultiOrganSegLib.result import organ_rows

    masks = {key: np.zeros(case.labels.shape, np.uint8) for key in ("spleen", "liver", "kidney_left")}
    masks["spleen"][3, 12:15, 9:14] = 1
    masks["kidney_left"][8:10, 20:30, 20:30] = 1
    for key, mask in masks.items():
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, case.node, key, case.volume)
    rows = {row.segment_id: row for row in organ_rows(case.node)}
    for key, mask in masks.items():
        assert rows[key].volume_ml == pytest.approx(mask.sum() * 2.5 * 2 * 3 / 1000, abs=1e-3)
        assert "corrected" in rows[key].flags
    assert math.isnan(rows["liver"].mean_intensity)


def test_what_is_not_edited_is_not_called_corrected(case: SimpleNamespace, tmp_path: Path) -> None:
    """Neither by saving and loading, nor by surfaces, names and colours, nor by a segment of others."""
    import slicer

    from MultiOrganSegLib.corrections import drawn_by_people, recount
    from MultiOrganSegLib.result import export_seg_nrrd

    case.node.CreateClosedSurfaceRepresentation()
    segment = case.node.GetSegmentation().GetSegment("liver")
    segment.SetName("My liver")
    segment.SetColor(1, 0, 0)
    case.node.GetSegmentation().AddEmptySegment("mine", "Mine")
    assert recount(case.node) == drawn_by_people(case.node) == []
    export_seg_nrrd(case.node, tmp_path / "a.seg.nrrd")
    assert recount(slicer.util.loadSegmentation(str(tmp_path / "a.seg.nrrd"))) == []
    slicer.util.saveScene(str(tmp_path / "a.mrb"))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "a.mrb"))
    assert recount(slicer.util.getNode("CT organs")) == []


def test_csv_of_a_foreign_segmentation_is_refused(make_volume: Make, tmp_path: Path) -> None:
    import slicer

    from MultiOrganSegLib.result import export_csv

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Foreign")
    node.GetSegmentation().AddEmptySegment("mine", "Mine")
    with pytest.raises(VolumeError, match="Foreign has no measured organs"):
        export_csv(node, tmp_path / "a.csv")


def test_seg_nrrd_is_read_by_slicerio_and_by_slicer(
    case: SimpleNamespace, tools: SimpleNamespace, tmp_path: Path
) -> None:
    import slicer
    import slicerio

    from MultiOrganSegLib.result import export_seg_nrrd

    path = tmp_path / "Bäuche 1.seg.nrrd"
    before = tools.snapshot()
    export_seg_nrrd(case.node, path)
    assert tools.snapshot() == before
    assert case.node.GetStorageNode() is None

    read = slicerio.read_segmentation(str(path))
    offset = read["referenceImageExtentOffset"]
    size = read["voxels"].shape
    inner = case.labels.transpose(2, 1, 0)[tuple(slice(o, o + s) for o, s in zip(offset, size, strict=True))]
    assert np.count_nonzero(inner) == np.count_nonzero(case.labels)
    by_id = {segment["id"]: segment for segment in read["segments"]}
    for value, (identity, code) in enumerate(CODES.items(), start=1):
        segment = by_id[identity]
        np.testing.assert_array_equal(read["voxels"] == segment["labelValue"], inner == value)
        assert segment["terminology"]["category"][:2] == ["SCT", ANATOMY]
        assert segment["terminology"]["type"][:2] == ["SCT", code]
        assert {name: segment["tags"][name] for name in TAGS} == TAGS
    assert by_id["kidney_left"]["terminology"]["typeModifier"] == ["SCT", LEFT, "Left"]

    expected = described(case.node)
    again = slicer.util.loadSegmentation(str(path))
    assert described(again) == expected
    for value, mask in enumerate(tools.segments(again, case.volume).values(), start=1):
        np.testing.assert_array_equal(mask, case.labels == value)


def test_seg_nrrd_into_nowhere_is_reported(case: SimpleNamespace, tmp_path: Path) -> None:
    from MultiOrganSegLib.result import export_seg_nrrd

    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError):
        export_seg_nrrd(case.node, tmp_path / "file" / "a.seg.nrrd")


def test_a_saved_scene_brings_everything_back(
    case: SimpleNamespace, tools: SimpleNamespace, tmp_path: Path
) -> None:
    import slicer

    from MultiOrganSegLib.result import organ_rows

    expected, rows = described(case.node), organ_rows(case.node)
    path = tmp_path / "scene.mrb"
    assert slicer.util.saveScene(str(path))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(path))
    node, volume = slicer.util.getNode("CT organs"), slicer.util.getNode("CT")
    assert described(node) == expected
    np.testing.assert_equal([vars(row) for row in organ_rows(node)], [vars(row) for row in rows])
    assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is volume
    for value, mask in enumerate(tools.segments(node, volume).values(), start=1):
        np.testing.assert_array_equal(mask, case.labels == value)


def write_series(node: Any, folder: Path) -> list[Path]:
    """Write a volume node as CT slices and tell node and database of them."""
    import pydicom
    import slicer
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    from MultiOrganSegLib.mrml import volume_from_node

    volume = volume_from_node(node)
    folder.mkdir()
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    files, identifiers = [], []
    for k, pixels in enumerate(volume.voxels):
        header = pydicom.Dataset()
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = CTImageStorage
        header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = generate_uid()
        header.StudyInstanceUID, header.SeriesInstanceUID, header.FrameOfReferenceUID = study, series, frame
        header.Modality, header.PatientID, header.PatientName = "CT", "P1", "Doe^Jane"
        header.PatientBirthDate = header.PatientSex = header.AccessionNumber = header.StudyID = ""
        header.StudyDate, header.StudyTime, header.ReferringPhysicianName = "20250101", "120000", ""
        header.SeriesNumber, header.InstanceNumber = 2, k + 1
        header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        header.ImagePositionPatient = [round(x, 6) for x in volume.grid.to_patient((k, 0, 0)).tolist()]
        directions = volume.grid.directions
        header.ImageOrientationPatient = [round(x, 9) for x in directions[:, :2].T.ravel().tolist()]
        header.PixelSpacing = list(volume.grid.spacing[1:])
        header.SliceThickness = volume.grid.spacing[0]
        header.Rows, header.Columns = pixels.shape
        header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
        header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 1
        header.RescaleSlope, header.RescaleIntercept, header.RescaleType = 1, 0, "HU"
        header.PixelData = pixels.astype("<i2").tobytes()
        files.append(folder / f"{k}.dcm")
        header.save_as(files[-1], enforce_file_format=True)
        identifiers.append(str(header.SOPInstanceUID))
    node.SetAttribute("DICOM.instanceUIDs", " ".join(identifiers))
    for file in files:
        slicer.dicomDatabase.insert(str(file))
    return files


def test_dicom_seg_is_read_by_highdicom(case: SimpleNamespace, tmp_path: Path) -> None:
    import highdicom
    import pydicom

    from MultiOrganSegLib.result import export_dicom_seg

    files = write_series(case.volume, tmp_path / "series")
    path = tmp_path / "Bäuche.dcm"
    export_dicom_seg(case.node, case.volume, path)
    read = highdicom.seg.segread(path)
    assert read.SegmentationType == "BINARY"
    sources = [pydicom.dcmread(file).SOPInstanceUID for file in files]
    for number, value in ((1, 1), (2, 2)):
        description = read.get_segment_description(number)
        key = ("spleen", "liver")[number - 1]
        assert description.segment_label == key.title()
        assert description.segmented_property_type.value == CODES[key]
        assert description.segmented_property_category.value == ANATOMY
        assert description.algorithm_type.value == "AUTOMATIC"
        pixels = read.get_pixels_by_source_instance(
            sources, segment_numbers=[number], assert_missing_frames_are_empty=True
        )
        np.testing.assert_array_equal(pixels[..., 0], case.labels == value)
    assert read.number_of_segments == 2, "a DICOM SEG must not hold empty segments"
    identification = read.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    assert identification.AlgorithmSource == "abdomen-ct 1.2.3"
    assert "ab" * 32 in identification.AlgorithmParameters


def test_segmentation_and_report_go_into_the_database_and_stay(case: SimpleNamespace, tmp_path: Path) -> None:
    import highdicom
    import pydicom
    import slicer

    from MultiOrganSegLib.dicom_objects import add_to_database
    from MultiOrganSegLib.result import organ_rows

    files = write_series(case.volume, tmp_path / "series")
    kept = add_to_database(case.node, case.volume)
    seg, report = highdicom.seg.segread(kept[0]), pydicom.dcmread(kept[1])
    assert {slicer.dicomDatabase.fileForInstance(each.SOPInstanceUID) for each in (seg, report)} == set(kept)
    source = pydicom.dcmread(files[0])
    for made in (seg, report):
        assert (made.StudyInstanceUID, made.PatientID) == (source.StudyInstanceUID, source.PatientID)
    groups = highdicom.sr.ComprehensiveSR.from_dataset(report).content.get_volumetric_roi_measurement_groups()
    volumes = {
        group.tracking_identifier.split()[-1]: float(measurement.value)
        for group in groups
        for measurement in group.get_measurements()
        if measurement.name.meaning == "Volume"
    }
    assert volumes == {
        row.segment_id: pytest.approx(row.volume_ml) for row in organ_rows(case.node) if row.volume_ml
    }


def test_dicom_seg_tells_the_networks_segments_from_those_of_people(
    case: SimpleNamespace, tmp_path: Path
) -> None:
    import highdicom
    import slicer

    from MultiOrganSegLib.result import export_dicom_seg

    write_series(case.volume, tmp_path / "series")
    case.node.GetSegmentation().AddEmptySegment("mine", "Mine")
    drawn = np.zeros(case.labels.shape, np.uint8)
    drawn[9:11, 2:6, 2:6] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(drawn, case.node, "mine", case.volume)
    export_dicom_seg(case.node, case.volume, tmp_path / "a.dcm")
    read = highdicom.seg.segread(tmp_path / "a.dcm")
    kinds = {item.SegmentLabel: item.SegmentAlgorithmType for item in read.SegmentSequence}
    assert kinds == {"Spleen": "AUTOMATIC", "Liver": "AUTOMATIC", "Mine": "MANUAL"}


def test_dicom_seg_without_its_slices_is_refused(case: SimpleNamespace, tmp_path: Path) -> None:
    from MultiOrganSegLib.result import export_dicom_seg

    path = tmp_path / "a.dcm"
    with pytest.raises(VolumeError, match="needs a volume that was loaded from DICOM"):
        export_dicom_seg(case.node, case.volume, path)
    files = write_series(case.volume, tmp_path / "series")
    case.volume.SetOrigin(case.volume.GetOrigin()[0] + 2, *case.volume.GetOrigin()[1:])
    with pytest.raises(VolumeError, match="do not match"):
        export_dicom_seg(case.node, case.volume, path)
    files[3].unlink()
    with pytest.raises(VolumeError, match="1 of 12"):
        export_dicom_seg(case.node, case.volume, path)
    assert not path.exists()
