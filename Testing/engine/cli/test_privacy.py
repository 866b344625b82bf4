"""No result says more about the input than docs/privacy.md, and none is more readable than the input."""

from __future__ import annotations

import gzip
import json
import logging
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from typer.testing import CliRunner

from multiorganseg.bundles import Bundle
from multiorganseg.cli.app import app
from multiorganseg.privacy import no_more_readable_than, silent_dicom_libraries, without_folders
from multiorganseg.volumes import Volume, write_volume

PAGE = Path(__file__).parents[3] / "docs" / "privacy.md"
NAME, FOLDERS, PATIENT = "Loudcase", ("Loudlogin", "Loudfolder", "Loudhost"), "Loudpatient"
OUTPUTS = ("seg.nrrd", "nii.gz", "csv", "json", "dcm", "sr", "rtstruct")
ALL_FILES = 11

on_posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")


@pytest.fixture(scope="module")
def results(series: Path, tiny_bundle: Bundle) -> list[Path]:
    """All files of a segmentation, the log of its events too."""
    out = series.parents[2] / "out"
    segment(series, out, tiny_bundle)
    return [*out.iterdir(), out.parent / "events"]


@pytest.fixture(scope="module")
def loud_names() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield monkeypatch


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory, loud_names: pytest.MonkeyPatch) -> Path:
    """A DICOM series whose path, header, user and computer all have loud names."""
    home, monkeypatch = tmp_path_factory.mktemp("privacy") / "Loudlogin", loud_names
    folder = home / "Loudfolder" / NAME
    folder.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    for name in ("LOGNAME", "USER", "USERNAME"):
        monkeypatch.setenv(name, "Loudlogin")
    monkeypatch.setattr("platform.node", lambda: "Loudhost")
    monkeypatch.setattr("socket.gethostname", lambda: "Loudhost")
    generator = np.random.default_rng(0)
    k, j, i = np.mgrid[:20, :48, :48]
    body = ((j - 24) / 18) ** 2 + ((i - 24) / 20) ** 2 < 1
    voxels = np.where(body, 60 + 30 * np.sin(k / 3) + generator.normal(0, 10, body.shape), -1000)
    study, uid, frame = generate_uid(), generate_uid(), generate_uid()
    for number, pixels in enumerate(voxels.astype(np.int16)):
        slice_of(pixels, number, study, uid, frame).save_as(
            folder / f"{NAME}-{number}.dcm", enforce_file_format=True
        )
    return folder


def slice_of(pixels: np.ndarray, number: int, study: str, series: str, frame: str) -> Dataset:
    """A slice with the patient's loud name in every attribute that holds text."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = CTImageStorage
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = generate_uid()
    made.StudyInstanceUID, made.SeriesInstanceUID, made.FrameOfReferenceUID = study, series, frame
    for keyword in (
        "PatientName", "PatientID", "OtherPatientIDs", "PatientComments", "PatientAddress", "InstitutionName",
        "InstitutionAddress", "ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName",
        "StationName", "StudyDescription", "SeriesDescription", "ProtocolName", "AccessionNumber", "StudyID",
        "DeviceSerialNumber", "ImageComments", "RequestingPhysician", "Manufacturer", "ManufacturerModelName",
    ):  # fmt: skip
        setattr(made, keyword, PATIENT)
    made.PatientBirthDate, made.PatientSex, made.StudyDate, made.StudyTime = "19500101", "F", "20200101", "12"
    made.ContentDate, made.ContentTime, made.ReferencedSeriesSequence = "20200101", "120000", [Dataset()]
    made.private_block(0x0011, "Loudpatient vendor", create=True).add_new(1, "LO", PATIENT)
    made.Modality, made.SeriesNumber, made.InstanceNumber = "CT", 1, number + 1
    made.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    made.ImagePositionPatient, made.ImageOrientationPatient = [0, 0, 3.0 * number], [1, 0, 0, 0, 1, 0]
    made.PixelSpacing, made.SliceThickness = [2.0, 2.0], 3.0
    made.Rows, made.Columns = pixels.shape
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 16, 15, 1
    made.RescaleSlope, made.RescaleIntercept, made.RescaleType = 1, 0, "HU"
    made.PixelData = pixels.astype("<i2").tobytes()
    return made


def segment(source: Path, out: Path, bundle: Bundle, *more: str) -> None:
    options = ["--formats", ",".join(OUTPUTS), "--uncertainty", "--device", "cpu", "--quality", "fast", *more]
    command = [
        "segment",
        source,
        "-o",
        out,
        "--model",
        bundle.folder,
        "--events",
        out.parent / "events",
        *options,
    ]
    result = CliRunner().invoke(app, list(map(str, command)))
    assert result.exit_code == 0, result.output


def content(path: Path) -> bytes:
    """All that a file says, compressed parts and metadata of a picture included."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        return gzip.decompress(data)
    if path.suffix == ".nrrd":
        header, _, voxels = data.partition(b"\n\n")
        return header + gzip.decompress(voxels)
    if path.suffix == ".png":
        with Image.open(path) as picture:
            return data + json.dumps({key: str(value) for key, value in picture.info.items()}).encode()
    return data


def documented() -> dict[str, list[bool]]:
    """Ending → whether it may say the input's name, folders and the like, or the patient."""
    rows = re.findall(r"^\| (?:`(\.[\w.]+)`|(events)[^|]*) \|(.+)\|$", PAGE.read_text(encoding="utf-8"), re.M)
    return {
        ending or events: [cell.strip() == "yes" or "DICOM" in cell for cell in cells.split("|")]
        for ending, events, cells in rows
    }


@pytest.mark.slow
def test_no_result_says_more_than_the_table(results: list[Path]) -> None:
    table = documented()
    assert len(results) == ALL_FILES == len(table)
    for file in results:
        (allowed,) = (cells for ending, cells in table.items() if file.name.endswith(ending))
        said = content(file).lower()
        named = [
            NAME.lower().encode() in said.replace(b".seg.", b""),
            any(x.lower().encode() in said for x in FOLDERS),
        ]
        assert [*named, PATIENT.lower().encode() in said] == allowed, file.name


def elements(dataset: Dataset) -> Iterator[tuple[str, str]]:
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from elements(item)
        elif element.VR not in ("OB", "OW"):
            yield element.keyword or str(element.tag), str(element.value)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["seg", "sr", "rtstruct"])
def test_dicom_takes_from_its_images_what_dicom_requires(results: list[Path], kind: str) -> None:
    (file,) = (path for path in results if path.name.endswith(f".{kind}.dcm"))
    loud = {keyword for keyword, value in elements(pydicom.dcmread(file)) if "loud" in value.lower()}
    allowed = set(
        re.findall(r"`(\w+)`", PAGE.read_text(encoding="utf-8").split("### DICOM SEG")[1].split("##")[0])
    )
    assert {"PatientName", "PatientID"} <= loud <= allowed
    made = pydicom.dcmread(file)
    assert made.get("ContentDate") != "20200101"
    if kind == "seg":
        assert len(made.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 20


@on_posix
@pytest.mark.parametrize(
    ("mode", "umask", "most"), [(0o600, 0o022, 0o600), (0o640, 0o002, 0o640), (0o644, 0o077, 0o600)]
)
def test_no_result_is_more_readable_than_a_slice(mode, umask, most, series, tiny_bundle, tmp_path) -> None:
    next(series.iterdir()).chmod(mode)
    previous = os.umask(umask)
    try:
        segment(series, tmp_path / "out", tiny_bundle, "--no-preview")
        assert os.umask(umask) == umask
    finally:
        os.umask(previous)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out").iterdir()}
    assert len(modes) == ALL_FILES - 2
    assert {name: oct(found) for name, found in modes.items() if found & ~most} == {}


@on_posix
def test_what_others_may_read_stays_so(tmp_path: Path) -> None:
    source, folder = tmp_path / "a", tmp_path / "new"
    source.write_text("")
    source.chmod(0o644)
    previous = os.umask(0o022)
    try:
        with no_more_readable_than(source, tmp_path / "missing"):
            folder.mkdir()
            (folder / "file").write_text("")
    finally:
        os.umask(previous)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "file")] == [0o755, 0o644]


def test_a_failure_in_the_events_names_no_folder(tmp_path: Path, tiny_bundle: Bundle) -> None:
    source = tmp_path / "Loudfolder" / "damaged.nii.gz"
    source.parent.mkdir()
    write_volume(Volume(np.zeros((4, 4, 4), np.int16), np.eye(4)), source)
    events = tmp_path / "events"
    command = ["segment", source, "-o", tmp_path / "out", "--model", tiny_bundle.folder, "--events", events]
    result = CliRunner().invoke(app, list(map(str, command)))
    assert result.exit_code == 3
    assert "Loudfolder" in result.output.replace("\n", "")
    assert "damaged.nii.gz" in events.read_text(encoding="utf-8")
    assert "Loudfolder" not in events.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("Cannot write /data/Doe/ct.nii: full", "Cannot write ct.nii: full"),
        ("/data/Doe/sub dir/1.dcm and /data/2.dcm", "sub dir/1.dcm and 2.dcm"),
        ("/other/data/Doe/x", "/other/data/Doe/x"),
        ("/home/jane/x in /home/jane, not /home/janet", "~/x in ~, not /home/janet"),
        ({"a": ["/data/Doe/x", 3], "b": None}, {"a": ["x", 3], "b": None}),
        ("3/4 of data/Doe", "3/4 of data/Doe"),
    ],
)
@on_posix
def test_folders_are_left_away_and_nothing_else(text, short, monkeypatch) -> None:
    monkeypatch.setenv("HOME", "/home/jane")
    assert without_folders(text, [Path("/data"), Path("/data/Doe"), Path("/"), Path()]) == short


def test_messages_of_dicom_libraries_quote_no_header(caplog, recwarn) -> None:
    def told() -> list[str]:
        DataElement("SOPInstanceUID", "UI", "Doe^John")
        logging.getLogger("pydicom").warning("PatientName is Doe^John")
        logging.getLogger("highdicom.seg.sop").error("PatientName is Doe^John")
        found = [*caplog.messages, *(str(entry.message) for entry in recwarn.list)]
        caplog.clear()
        recwarn.clear()
        return [text for text in found if "Doe^John" in text]

    with silent_dicom_libraries():
        assert told() == []
    assert len(told()) >= 3
