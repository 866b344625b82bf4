"""What lies among the slices of a series and is no part of the volume is reported; a loss is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from multiorganseg.errors import VolumeError
from multiorganseg.volumes import VolumeWarning, dicom_files, find_dicom_series, read_volume

Write = Callable[..., Path]


def numbered(k: int) -> dict:
    return {"InstanceNumber": k + 1}


def without_preamble(file: Path, *, meta: bool) -> None:
    data = file.read_bytes()[132:]
    if not meta:
        data = data[12 + int.from_bytes(data[8:12], "little") :]
    file.write_bytes(data)


@pytest.mark.parametrize("meta", [True, False], ids=["with meta information", "bare data set"])
def test_slices_without_preamble_are_read(write_series: Write, pixels: np.ndarray, meta: bool) -> None:
    for count in (2, 12):
        folder = write_series(f"{count}")
        for file in sorted(folder.iterdir())[:count]:
            without_preamble(file, meta=meta)
        volume = read_volume(folder)
        assert np.array_equal(volume.voxels, pixels - 1024)
        assert volume.warnings == ()


def test_implicit_and_big_endian_slices_without_meta_information(
    tmp_path: Path, pixels: np.ndarray, ct_slice: Callable
) -> None:
    for syntax in (pydicom.uid.ImplicitVRLittleEndian, pydicom.uid.ExplicitVRBigEndian):
        folder = tmp_path / syntax.name
        folder.mkdir()
        for k, plane in enumerate(pixels):
            slice_ = ct_slice(plane, (0, 0, 3 * k))
            slice_.file_meta.TransferSyntaxUID = syntax
            if syntax is pydicom.uid.ExplicitVRBigEndian:
                slice_.PixelData = plane.astype(">i2").tobytes()
            file = folder / f"{k}.dcm"
            slice_.save_as(file, enforce_file_format=True)
            if syntax is pydicom.uid.ImplicitVRLittleEndian:
                without_preamble(file, meta=False)
        assert np.array_equal(read_volume(folder).voxels, pixels - 1024)


@pytest.mark.parametrize("sop_class", ["1.2.3.4.5", "", None])
def test_a_sop_class_made_anonymous_is_read(write_series: Write, pixels: np.ndarray, sop_class) -> None:
    folder = write_series(fields=lambda k: {"SOPClassUID": sop_class})
    for file in folder.iterdir():
        slice_ = pydicom.dcmread(file)
        slice_.file_meta.MediaStorageSOPClassUID = sop_class or "1.2.3"
        slice_.save_as(file, enforce_file_format=True)
    assert np.array_equal(read_volume(folder).voxels, pixels - 1024)


def test_empty_and_foreign_files_are_counted_and_reported(write_series: Write) -> None:
    folder = write_series()
    (folder / "900.dcm").write_bytes(b"")
    (folder / "901.dcm").write_bytes(b"")
    (folder / "902.dcm").write_text("<html>404 not found</html>" * 50)
    (folder / ".hidden").write_bytes(b"")
    (folder / "series.statistics.json").write_text("{}")
    with pytest.warns(VolumeWarning) as caught:
        volume = read_volume(folder)
    reported = [str(warning.message) for warning in caught]
    assert tuple(reported) == volume.warnings
    assert len(reported) == 2
    assert "2 file(s) that are empty were left out: 900.dcm, 901.dcm" in reported[0]
    assert "1 file(s) that are no DICOM were left out: 902.dcm" in reported[1]


@pytest.mark.parametrize("lost", [{0, 1}, {0}, {11, 0}], ids=str)
def test_a_loss_at_an_end_is_refused_by_the_numbers(write_series: Write, lost: set[int]) -> None:
    folder = write_series(fields=numbered, keep=lambda k: k not in lost)
    with pytest.raises(VolumeError, match="missing at an end") as caught:
        read_volume(folder)
    assert "Their numbers run from" in caught.value.cause


def test_a_loss_at_the_last_end_is_refused_where_the_header_announces_more(write_series: Write) -> None:
    announced = {"NumberOfSeriesRelatedInstances": "12"}
    assert read_volume(write_series("whole", fields=lambda k: announced)).voxels.shape == (12, 9, 7)
    with pytest.raises(VolumeError, match="announce 12 images; 10 are there"):
        read_volume(write_series("part", fields=lambda k: announced, keep=lambda k: k < 10))


def test_numbers_that_tell_nothing_refuse_nothing(write_series: Write, ct_slice: Callable) -> None:
    for name, number in {
        "from nought": lambda k: k,
        "downwards": lambda k: 12 - k,
        "by two": lambda k: 2 * k + 4,
        "of a scanner that counts on": lambda k: 500 + k,
        "all alike": lambda k: 7,
    }.items():
        folder = write_series(name, fields=lambda k, number=number: {"InstanceNumber": number(k)})
        assert read_volume(folder).voxels.shape == (12, 9, 7)
        reported = " ".join(read_volume(folder).warnings)
        assert ("first number is 500" in reported) == (name == "of a scanner that counts on")
    folder = write_series("after a scout", fields=lambda k: {"InstanceNumber": k + 2})
    fields = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "InstanceNumber": 1}
    scout = ct_slice(np.zeros((40, 30)), (0, 0, 0), **fields)
    scout.save_as(folder / "scout.dcm", enforce_file_format=True)
    assert read_volume(folder).voxels.shape == (12, 9, 7)


def test_a_capture_in_the_series_is_left_out_and_reported(
    write_series: Write, pixels: np.ndarray, ct_slice: Callable
) -> None:
    folder = write_series()
    capture = ct_slice(np.zeros((9, 7)), (0, 0, 0), ImagePositionPatient=None, ImageOrientationPatient=None)
    capture.save_as(folder / "capture.dcm", enforce_file_format=True)
    with pytest.warns(VolumeWarning, match=r"do not say where they lie were left out: capture\.dcm"):
        volume = read_volume(folder)
    assert np.array_equal(volume.voxels, pixels - 1024)
    assert any("capture.dcm" in message for message in volume.warnings)
    with pytest.warns(VolumeWarning):
        assert len(dicom_files(folder)) == 12


def test_another_series_is_named(write_series: Write) -> None:
    folder = write_series()
    other = {"SeriesInstanceUID": "1.2.9", "SeriesDescription": "Chest part"}
    write_series("series/b", fields=lambda k: other, keep=lambda k: k < 5)
    with pytest.warns(VolumeWarning, match=r"Chest part.*5 slices"):
        assert any("Chest part" in message for message in read_volume(folder).warnings)


def test_a_uid_for_every_slice_is_told_as_the_cause(write_series: Write) -> None:
    folder = write_series(fields=lambda k: {"SeriesInstanceUID": f"1.2.9.{k}"})
    with pytest.raises(VolumeError, match="Each of the 12 images") as caught:
        read_volume(folder)
    assert "a Series Instance UID each" in caught.value.cause
    assert "one Series Instance UID" in caught.value.next_step


@pytest.mark.parametrize(
    ("syntax", "name"),
    [
        ("1.2.840.10008.1.2.4.201", "High-Throughput JPEG 2000"),
        ("1.2.840.10008.1.2.4.203", "High-Throughput JPEG 2000"),
        ("1.2.840.10008.1.2.4.102", "MPEG-4"),
        ("1.2.3.4", "1.2.3.4"),
    ],
)
def test_a_compression_that_cannot_be_decoded_is_named(write_series: Write, syntax: str, name: str) -> None:
    folder = write_series()
    for file in folder.iterdir():
        slice_ = pydicom.dcmread(file)
        slice_.PixelData = pydicom.encaps.encapsulate([slice_.PixelData])
        slice_.file_meta.TransferSyntaxUID = syntax
        slice_.save_as(file, enforce_file_format=True)
    with pytest.raises(VolumeError, match="cannot be decoded") as caught:
        read_volume(folder)
    assert name in caught.value.cause


def medium(folder: Path, names: list[str]) -> Path:
    """Write a DICOMDIR that lists images below `IMAGES`."""
    from pydicom.fileset import FileSet

    files = FileSet()
    for name in names:
        files.add(folder / name)
    target = folder.parent / "medium"
    files.write(target)
    return target


def test_a_dicomdir_stands_for_its_images(write_series: Write, pixels: np.ndarray) -> None:
    folder = write_series(fields=numbered)
    target = medium(folder, [file.name for file in folder.iterdir()])
    write_series("medium/another", fields=lambda k: {"SeriesInstanceUID": "1.2.9"})
    assert np.array_equal(read_volume(target / "DICOMDIR").voxels, pixels - 1024)
    listed = sorted(file for file in target.rglob("*") if file.is_file() and "another" not in str(file))
    listed[-1].unlink()
    with pytest.raises(VolumeError, match="damaged or missing") as caught:
        read_volume(target / "DICOMDIR")
    assert "DICOMDIR lists it" in caught.value.cause


def test_a_dicomdir_that_leads_elsewhere_or_is_damaged_stands_for_its_folder(
    write_series: Write, pixels: np.ndarray, tmp_path: Path
) -> None:
    folder = write_series("patient/images")
    record = pydicom.Dataset()
    record.DirectoryRecordType, record.ReferencedFileID = "IMAGE", ["..", "..", "etc", "passwd"]
    directory = pydicom.Dataset()
    directory.DirectoryRecordSequence = [record]
    directory.file_meta = pydicom.dataset.FileMetaDataset()
    directory.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    directory.file_meta.MediaStorageSOPClassUID = pydicom.uid.MediaStorageDirectoryStorage
    directory.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    path = folder.parent / "DICOMDIR"
    directory.save_as(path, enforce_file_format=True)
    assert np.array_equal(read_volume(path).voxels, pixels - 1024)
    path.write_bytes(bytes(128) + b"DICM" + bytes(64))
    assert np.array_equal(read_volume(path).voxels, pixels - 1024)


def test_listing_tells_what_it_leaves_out(write_series: Write) -> None:
    folder = write_series()
    (folder / "cut.dcm").write_bytes((folder / "000-0.dcm").read_bytes()[:-20])
    (folder / "empty").write_bytes(b"")
    with pytest.warns(VolumeWarning) as caught:
        (series,) = find_dicom_series(folder)
    reported = " ".join(str(warning.message) for warning in caught)
    assert "cut.dcm" in reported
    assert "empty" in reported
    assert {entry.file.name for entry in series.left_out} == {"cut.dcm", "empty"}
