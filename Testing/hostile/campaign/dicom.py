"""DICOM: a series of single slices, a multi-frame file and a segmentation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import highdicom
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from campaign.kind import Kind
from campaign.mutate import spoil_file

SLICES, ROWS, COLUMNS = 6, 8, 9
SPACING, THICKNESS = (0.7, 0.8), 2.5


def _prepare_series(folder: Path) -> None:
    (folder / "ct").mkdir()
    for k in range(SLICES):
        _slice(k).save_as(folder / "ct" / f"{k}.dcm", enforce_file_format=True)


def _slice(k: int) -> Dataset:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = CTImageStorage
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = generate_uid(entropy_srcs=[str(k)])
    for name, value in {
        "SpecificCharacterSet": "ISO_IR 100",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "StudyDate": "20200101",
        "StudyTime": "120000",
        "StudyInstanceUID": "1.2.826.0.1.1",
        "SeriesInstanceUID": "1.2.826.0.1.2",
        "FrameOfReferenceUID": "1.2.826.0.1.3",
        "SeriesDescription": "axial",
        "SeriesNumber": 1,
        "InstanceNumber": k + 1,
        "AcquisitionNumber": 1,
        "Modality": "CT",
        "PatientID": "made-up",
        "PatientName": "Made^Up",
        "PatientBirthDate": "",
        "PatientSex": "",
        "ReferringPhysicianName": "",
        "StudyID": "1",
        "AccessionNumber": "",
        "Manufacturer": "none",
        "Rows": ROWS,
        "Columns": COLUMNS,
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 1,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "PixelSpacing": list(SPACING),
        "SliceThickness": THICKNESS,
        "ImagePositionPatient": [-30.0, 12.5, 100.0 + THICKNESS * k],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        "RescaleType": "HU",
    }.items():
        setattr(made, name, value)
    values = np.random.default_rng(k).integers(0, 2000, (ROWS, COLUMNS))
    made.PixelData = values.astype("<i2").tobytes()
    return made


EXTREMES: dict[str, tuple[Any, ...]] = {
    "DS": ("", "0", "-1", "nan", "1e400", "1e30", "x", "0.0000001", "1" * 40, "1,5", "2"),
    "IS": ("", "0", "-1", "2147483648", "1.5", "x", "999999999", "9" * 30, "2"),
    "US": (0, 1, 2, 8, 12, 32, 64, 65535),
    "CS": ("", "MR", "SEG", "MONOCHROME1", "RGB", "PALETTE COLOR", "x" * 100, "é", "OT"),
    "UI": ("", "1.2.3", "1..2", "x", "1.2.840.10008.1.2.4.90", "9" * 200),
}
TEXTS = ("", "x" * 70_000, "a\x00b", "Ω^ü", "[red]", "../../x", "\\", "\x1b[31m")
SYNTAXES = (
    "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.1.99", "1.2.3", "",
)  # fmt: skip


def _spoil_dataset(random: Random, path: Path) -> str:
    """Change one to three elements, at any depth; what pydicom cannot write is spoilt in bytes instead."""
    dataset = pydicom.dcmread(path)
    done = []
    try:
        for _ in range(random.choice((1, 1, 2, 3))):
            done.append(_spoil_element(random, dataset))
        dataset.save_as(path)
    except Exception:
        return spoil_file(random, path)
    if random.random() < 0.1:
        done.append(spoil_file(random, path))
    return f"{path.name}: {'; '.join(done)}"


def _spoil_element(random: Random, dataset: Dataset) -> str:
    if random.random() < 0.07:
        dataset.file_meta.TransferSyntaxUID = random.choice(SYNTAXES)
        return f"syntax {dataset.file_meta.TransferSyntaxUID}"
    holders = [dataset]
    for holder in holders:
        holders += [item for element in holder if element.VR == "SQ" for item in element.value or ()]
    holder = random.choice((dataset, random.choice(holders)))
    if not len(holder):
        return "nothing"
    element = holder[random.choice(list(holder.keys()))]
    name = random.choice(("drop", "value", "value", "value", "many", "empty", "from another", "VR"))
    if name == "drop":
        del holder[element.tag]
    elif name == "empty":
        holder.add_new(
            element.tag, element.VR, [] if element.VR == "SQ" else b"" if element.VR == "OW" else ""
        )
    elif name == "VR":
        holder.add_new(element.tag, random.choice(("UN", "LO", "OB", "SQ", "DS")), b"\x01\x02")
    elif element.VR == "SQ":
        element.value = list(element.value or ())[: random.choice((0, 1))] * random.choice((1, 2, 50))
    elif element.VR in ("OW", "OB"):
        data = bytes(element.value)
        element.value = random.choice(
            (data[:-2], data + data, data[: len(data) // 2], data + b"\0\0", b"\0\0")
        )
    else:
        value = random.choice(EXTREMES.get(element.VR, TEXTS))
        if name == "many":
            value = [value] * random.choice((2, 3, 6, 1000))
        elif name == "from another":
            value = holder[random.choice(list(holder.keys()))].value
        element.value = value
    return f"{element.keyword or element.tag} {name}"


def _without_checks(work: Callable[[], str]) -> str:
    settings = pydicom.config.settings
    reading, writing = settings.reading_validation_mode, settings.writing_validation_mode
    settings.reading_validation_mode = settings.writing_validation_mode = pydicom.config.IGNORE
    try:
        return work()
    finally:
        settings.reading_validation_mode, settings.writing_validation_mode = reading, writing


def _mutate_series(random: Random, folder: Path) -> str:
    files = sorted((folder / "ct").iterdir())
    some = random.choice((files[:1], files[2:3], [random.choice(files)], files, files[3:]))
    name = random.choice(
        ("elements",) * 6 + ("bytes", "bytes", "preamble", "gone", "foreign", "twice", "length")
    )

    def spoil() -> str:
        state = random.getstate()
        done = []
        for path in some:
            random.setstate(state)  # the same change in every one of them
            done.append(
                _spoil_dataset(random, path) if name == "elements" else _spoil_slice(random, name, path)
            )
        return f"{len(some)} × {done[0]}"

    return _without_checks(spoil)


def _spoil_slice(random: Random, name: str, path: Path) -> str:
    data = path.read_bytes()
    if name == "bytes":
        return spoil_file(random, path, random.choice((132, 1000, len(data))))
    if name == "preamble":
        path.write_bytes(random.choice((data[128:], data[132:], b"\xff" * 128 + data[128:])))
    elif name == "gone":
        path.unlink()
    elif name == "foreign":
        (path.parent / random.choice(("a.txt", "DICOMDIR", "b.dcm", ".c"))).write_bytes(
            random.choice((b"", b"hi", data[:200]))
        )
    elif name == "twice":
        (path.parent / "copy.dcm").write_bytes(data)
    else:  # an element's length lies: explicit little endian, VR of two letters, then two bytes
        at = data.find(random.choice((b"DS", b"IS", b"UI", b"LO", b"CS", b"OW")), 140)
        lie = random.choice(
            (b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\xfe\xff\xff\x7f", b"\x01\x00\x00\x00")
        )
        path.write_bytes(data[: at + 2] + lie[: random.choice((2, 4))] + data[at + 4 :])
    return f"{path.name}: {name}"


def _read_series(folder: Path) -> Any:
    from multiorganseg.volumes import dicom_files, read_volume

    return read_volume(folder / "ct"), dicom_files(folder / "ct")


def _judge_series(folder: Path, result: Any) -> str:
    volume, files = result
    slices = {}
    for path in (folder / "ct").iterdir():
        try:
            header = pydicom.dcmread(path, force=True)
            if "PixelData" in header:
                slices[path] = header
        except Exception:
            continue
    try:
        left_out = {
            path.name
            for path, header in slices.items()
            if path not in files
            and header.SeriesInstanceUID == slices[files[0]].SeriesInstanceUID
            and header.pixel_array is not None
            and not any(header.PixelData == slices[each].PixelData for each in files)
        }
    except Exception:
        left_out = set()
    if left_out:
        return f"left out: {left_out}"
    try:
        stored = [(slices[path], slices[path].pixel_array) for path in files]
        planes = np.stack(
            [
                pixels * float(header.get("RescaleSlope", 1)) + float(header.get("RescaleIntercept", 0))
                for header, pixels in stored
            ]
        )
        first = [float(part) for part in stored[0][0].ImagePositionPatient]
    except Exception:
        return ""
    if any(header.get("PhotometricInterpretation") != "MONOCHROME2" for header, _ in stored):
        return ""
    if planes.shape != volume.voxels.shape:
        return f"shape {volume.voxels.shape} instead of {planes.shape}"
    if not np.allclose(planes, volume.voxels, rtol=1e-4, atol=0.01):
        return f"{np.count_nonzero(~np.isclose(planes, volume.voxels, rtol=1e-4, atol=0.01))} other voxels"
    if not np.allclose(first, volume.affine[:3, 3], atol=0.1):
        return f"position {volume.affine[:3, 3].tolist()} instead of {first}"
    return ""


# ── Multi-frame ─────────────────────────────────────────────────────────────────────────────────────────────


def _prepare_multiframe(folder: Path) -> None:
    made = _slice(0)
    pixels = [np.random.default_rng(k).integers(0, 2000, (ROWS, COLUMNS)) for k in range(SLICES)]
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    made.NumberOfFrames = SLICES
    for name in ("PixelSpacing", "SliceThickness", "ImagePositionPatient", "ImageOrientationPatient",
                 "RescaleSlope", "RescaleIntercept", "RescaleType"):  # fmt: skip
        delattr(made, name)
    shared, measures, plane = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = list(SPACING), THICKNESS
    plane.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    rescale = Dataset()
    rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = 1, -1024, "HU"
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
    shared.PixelValueTransformationSequence = [rescale]
    made.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for k in range(SLICES):
        frame, position, content = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [-30.0, 12.5, 100.0 + THICKNESS * k]
        content.StackID, content.InStackPositionNumber, content.DimensionIndexValues = "1", k + 1, [1, k + 1]
        frame.PlanePositionSequence, frame.FrameContentSequence = [position], [content]
        frames.append(frame)
    made.PerFrameFunctionalGroupsSequence = frames
    made.PixelData = np.stack(pixels).astype("<i2").tobytes()
    made.save_as(folder / "ct.dcm", enforce_file_format=True)


def _mutate_one(name: str) -> Callable[[Random, Path], str]:
    def mutate(random: Random, folder: Path) -> str:
        path = folder / name
        spoil = random.choice((_spoil_dataset,) * 3 + (spoil_file,))
        return _without_checks(lambda: spoil(random, path))

    return mutate


def _read_multiframe(folder: Path) -> Any:
    from multiorganseg.volumes import read_volume

    return read_volume(folder / "ct.dcm")


def _judge_multiframe(folder: Path, volume: Any) -> str:
    try:
        header = pydicom.dcmread(folder / "ct.dcm")
        shared = header.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence[0]
        heights = [
            float(frame.PlanePositionSequence[0].ImagePositionPatient[2])
            for frame in header.PerFrameFunctionalGroupsSequence
        ]
        pixels = header.pixel_array[np.argsort(heights)]
        planes = pixels * float(shared.RescaleSlope) + float(shared.RescaleIntercept)
    except Exception:
        return ""
    if any("PixelValueTransformationSequence" in frame for frame in header.PerFrameFunctionalGroupsSequence):
        return ""
    if header.PhotometricInterpretation != "MONOCHROME2":
        return ""
    if planes.shape != volume.voxels.shape:
        return f"shape {volume.voxels.shape} instead of {planes.shape}"
    upside_down = volume.affine[2, 2] < 0
    if not np.allclose(planes[::-1] if upside_down else planes, volume.voxels, rtol=1e-4, atol=0.01):
        return "other voxels"
    return ""


# ── Segmentation ────────────────────────────────────────────────────────────────────────────────────────────


def _prepare_seg(folder: Path) -> None:
    from multiorganseg.organs.catalogue import load_catalogue
    from multiorganseg.organs.labels import LabelTable
    from multiorganseg.results.dicom_seg import write_dicom_seg
    from multiorganseg.results.segmentation import Segmentation
    from multiorganseg.volumes import dicom_files, read_volume

    _prepare_series(folder)
    volume = read_volume(folder / "ct")
    labels = np.random.default_rng(5).integers(0, 3, volume.voxels.shape).astype(np.uint8)
    made = Segmentation(labels, volume.affine, LabelTable({1: "spleen", 2: "liver"}))
    write_dicom_seg(made, folder / "seg.dcm", load_catalogue(), dicom_files(folder / "ct"))


def _read_seg(folder: Path) -> Any:
    from multiorganseg.volumes import read_labels
    from multiorganseg_training.project.read_dicom_seg import read_dicom_seg

    work = folder / "work"
    work.mkdir()
    dataset = read_dicom_seg(folder, work)
    (case,) = dataset.cases
    return dataset.labels, None if case.labels is None else read_labels(case.labels).voxels


def _judge_seg(folder: Path, result: Any) -> str:
    names, labels = result
    try:
        seg = pydicom.dcmread(folder / "seg.dcm")
        frames = seg.pixel_array.reshape(-1, ROWS, COLUMNS) > 0
        numbers = [
            int(frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
            for frame in seg.PerFrameFunctionalGroupsSequence
        ]
        counts = {number: int(frames[[each == number for each in numbers]].sum()) for number in set(numbers)}
    except Exception:
        return ""
    if seg.get("SegmentationType") != "BINARY" or len(frames) != len(numbers):
        return ""
    found = sorted(int((labels == value).sum()) for value in names if (labels == value).any())
    expected = sorted(count for count in counts.values() if count)
    return "" if found == expected else f"segments of {found} voxels instead of {expected}"


KINDS = (
    Kind("dicom-series", _prepare_series, _mutate_series, _read_series, _judge_series),
    Kind(
        "dicom-multiframe",
        _prepare_multiframe,
        _mutate_one("ct.dcm"),
        _read_multiframe,
        _judge_multiframe,
        lambda folder: highdicom.imread(folder / "ct.dcm"),
    ),
    Kind("dicom-seg", _prepare_seg, _mutate_one("seg.dcm"), _read_seg, _judge_seg),
)
