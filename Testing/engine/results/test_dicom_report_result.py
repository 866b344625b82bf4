"""The structured report, as highdicom and dcmqi read it, and RTSTRUCT as written."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest

from multiorganseg.errors import DependencyError, VolumeError
from multiorganseg.organs.catalogue import load_catalogue
from multiorganseg.quality import flags
from multiorganseg.results.dicom_report import OWN_SCHEME
from multiorganseg.results.rtstruct import write_rtstruct
from multiorganseg.results.segmentation import Author
from multiorganseg.results.write import plan_outputs, write_results
from multiorganseg.volumes.read import read_volume

CATALOGUE = load_catalogue()


@pytest.fixture
def written(tmp_path, phantom):
    """Segmentation and files of a series whose results are written as DICOM."""
    truth, _ = phantom.case()
    files = phantom.write_dicom_series(truth, tmp_path / "CT")
    volume = read_volume(tmp_path / "CT")
    _, made = phantom.case(volume.grid)
    noticed = (flags.CUT_BY_FIELD_OF_VIEW, flags.LOW_CONFIDENCE)
    statistics = [replace(s, flags=noticed) if s.key == "liver" else s for s in made.statistics]
    made = replace(made, statistics=tuple(statistics), authors={"spleen": Author.PEOPLE})
    write_results(
        made, volume, tmp_path / "out", formats={"sr", "rtstruct"}, preview=False, dicom_files=files
    )
    return made, files, tmp_path / "out"


def test_a_report_measures_each_segment_that_was_found(written):
    made, files, out = written
    seg = highdicom.seg.segread(out / "CT.seg.dcm")
    report = highdicom.sr.srread(out / "CT.sr.dcm")
    assert report.content.is_sr
    groups = report.content.get_volumetric_roi_measurement_groups()
    expected = {s.key: s for s in made.statistics if s.voxels}
    assert len(groups) == seg.number_of_segments == len(expected)
    for group in groups:
        key = group.tracking_identifier.split()[-1]
        (segment,) = (item for item in seg.SegmentSequence if item.TrackingUID == group.tracking_uid)
        reference = group.reference_type
        assert reference.meaning == "Referenced Segment"
        assert group.referenced_segment.referenced_sop_instance_uid == seg.SOPInstanceUID
        assert group.referenced_segment.referenced_segment_numbers == [segment.SegmentNumber]
        assert group.finding_type == segment.segmented_property_type
        found = {m.name.meaning: m for m in group.get_measurements()}
        assert found["Volume"].value == pytest.approx(expected[key].volume_ml, abs=1e-3)
        mean = found["Attenuation Coefficient"]
        assert (mean.derivation.meaning, mean.unit.value) == ("Mean", "[hnsf'U]")
        assert mean.value == pytest.approx(expected[key].mean_intensity, abs=0.06)
        assert ("Mean probability of the network" in found) == (key != "spleen")
        evaluations = group.get_qualitative_evaluations()
        noticed = [e.value.meaning for e in evaluations if e.name.scheme_designator == OWN_SCHEME]
        assert noticed == [flag.replace("_", " ") for flag in expected[key].flags]
    source = pydicom.dcmread(files[0])
    assert (report.StudyInstanceUID, report.PatientID) == (source.StudyInstanceUID, source.PatientID)
    assert (report.CompletionFlag, report.VerificationFlag) == ("COMPLETE", "UNVERIFIED")


def test_dcmqi_reads_the_report(written, tmp_path):
    program = Path(sys.executable).with_name("tid1500reader")
    reader = str(program) if program.is_file() else shutil.which("tid1500reader")
    if reader is None:
        pytest.importorskip("dcmqi", reason="dcmqi reads reports")
        reader = str(Path(importlib.util.find_spec("dcmqi").origin).parent / "bin" / "tid1500reader")
    made, _, out = written
    told = tmp_path / "report.json"
    command = [reader, "--inputDICOM", str(out / "CT.sr.dcm"), "--outputMetadata", str(told)]
    subprocess.run(command, check=True, capture_output=True)
    groups = json.loads(told.read_text(encoding="utf-8"))["Measurements"]
    volumes = {
        group["TrackingIdentifier"].split()[-1]: float(item["value"])
        for group in groups
        for item in group["measurementItems"]
        if item["quantity"]["CodeMeaning"] == "Volume"
    }
    assert volumes == {s.key: pytest.approx(s.volume_ml, abs=1e-3) for s in made.statistics if s.voxels}
    seg = pydicom.dcmread(out / "CT.seg.dcm")
    assert {group["segmentationSOPInstanceUID"] for group in groups} == {seg.SOPInstanceUID}


def test_an_mr_has_no_hounsfield_units_in_its_report(tmp_path, phantom):
    truth, _ = phantom.case()
    files = phantom.write_dicom_series(truth, tmp_path / "MR")
    volume = read_volume(tmp_path / "MR")
    _, made = phantom.case(volume.grid)
    write_results(made, volume, tmp_path, formats={"sr"}, preview=False, dicom_files=files, modality="MR")
    text = str(pydicom.dcmread(tmp_path / "MR.sr.dcm"))
    assert "MRI unspecified body region" in text
    assert "hnsf" not in text
    assert OWN_SCHEME in text


def test_a_report_brings_its_segmentation(tmp_path):
    plan = plan_outputs(tmp_path, "CT", formats={"sr"}, preview=False)
    assert {path.name for path in plan.paths.values()} == {"CT.seg.dcm", "CT.sr.dcm"}


def test_rtstruct_is_what_a_planning_system_asks_for(written):
    _, files, out = written
    data = pydicom.dcmread(out / "CT.rtstruct.dcm")
    source = pydicom.dcmread(files[0])
    assert data.file_meta.TransferSyntaxUID == pydicom.uid.ImplicitVRLittleEndian
    frame = data.ReferencedFrameOfReferenceSequence[0]
    series = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    assert frame.FrameOfReferenceUID == source.FrameOfReferenceUID
    assert series.SeriesInstanceUID == source.SeriesInstanceUID
    slices = {pydicom.dcmread(file).SOPInstanceUID: pydicom.dcmread(file) for file in files}
    assert {item.ReferencedSOPInstanceUID for item in series.ContourImageSequence} == set(slices)
    kinds = {item.ROIName: item.ROIGenerationAlgorithm for item in data.StructureSetROISequence}
    assert kinds["spleen"] == "MANUAL"
    assert kinds["liver"] == "AUTOMATIC"
    for region in data.ROIContourSequence:
        assert len(region.ROIDisplayColor) == 3
        for contour in region.ContourSequence:
            points = np.array(contour.ContourData, float).reshape(-1, 3)
            assert len(points) == contour.NumberOfContourPoints > 3
            (image,) = contour.ContourImageSequence
            height = float(slices[image.ReferencedSOPInstanceUID].ImagePositionPatient[2])
            np.testing.assert_allclose(points[:, 2], height, atol=1e-3)


def test_what_cannot_be_written_is_refused(tmp_path, phantom, monkeypatch):
    truth, made = phantom.case()
    files = phantom.write_dicom_series(truth, tmp_path / "CT")
    empty = replace(made, labels=np.zeros_like(made.labels))
    with pytest.raises(VolumeError, match="No RTSTRUCT"):
        write_rtstruct(empty, tmp_path / "a.dcm", CATALOGUE, files)
    with pytest.raises(VolumeError, match="do not match"):
        write_rtstruct(made, tmp_path / "a.dcm", CATALOGUE, files[1:])
    monkeypatch.setitem(sys.modules, "contourpy", None)
    with pytest.raises(DependencyError, match="contourpy"):
        write_rtstruct(made, tmp_path / "a.dcm", CATALOGUE, files)
    assert not (tmp_path / "a.dcm").exists()
