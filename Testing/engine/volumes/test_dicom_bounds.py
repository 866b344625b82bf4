"""Nothing that a DICOM header claims is allocated or looped over before the file is known to hold it."""

from __future__ import annotations

import contextlib
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import highdicom
import numpy as np
import psutil
import pydicom
import pytest

from multiorganseg.errors import VolumeError
from multiorganseg.volumes import read_volume
from multiorganseg.volumes.dicom_header import LeftOut, Why, read_dicom_header

PIXELS = b"\xe0\x7f\x10\x00"


def lies(file: Path, tag: bytes, length: int, width: int = 4) -> Path:
    """Overwrite the length of an element in explicit VR."""
    data = bytearray(file.read_bytes())
    place = data.index(tag) + (8 if width == 4 else 6)
    data[place : place + width] = length.to_bytes(width, "little")
    file.write_bytes(data)
    return file


def private(folder: Path, ct_slice: Callable, **fields: object) -> Path:
    slice_ = ct_slice(np.zeros((9, 7)), (0, 0, 50), **fields)
    slice_.add_new((0x0009, 0x0010), "LO", "OURS")
    slice_.add_new((0x0009, 0x1001), "OB", b"12345678")
    slice_.add_new((0xFFFC, 0xFFFC), "OB", b"1234")
    slice_.save_as(folder / "lies.dcm", enforce_file_format=True)
    return folder / "lies.dcm"


@pytest.mark.parametrize(
    "tag",
    [b"\x09\x00\x01\x10", PIXELS, b"\xfc\xff\xfc\xff"],
    ids=["before the pixels", "pixels", "behind the pixels"],
)
@pytest.mark.parametrize("length", [2_200_000_000, 0xFFFFFFFE])
def test_a_length_beyond_the_file_takes_no_memory(
    tag: bytes, length: int, write_series: Callable[..., Path], ct_slice: Callable
) -> None:
    folder = write_series()
    file = lies(private(folder, ct_slice), tag, length)
    before = psutil.Process().memory_info().vms
    tracemalloc.start()
    with pytest.raises(VolumeError, match="damaged"):
        read_volume(folder)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    assert psutil.Process().memory_info().vms - before < 200e6
    left_out = read_dicom_header(file)
    assert isinstance(left_out, LeftOut)
    assert left_out.why is Why.DAMAGED


@pytest.mark.parametrize("syntax", [None, pydicom.uid.RLELossless], ids=["plain", "compressed"])
def test_a_number_of_frames_beyond_the_pixels_is_refused(
    write_series: Callable[..., Path], tmp_path: Path, syntax: str | None
) -> None:
    slices = [pydicom.dcmread(file) for file in write_series().iterdir()]
    for slice_ in slices:
        slice_.InstanceNumber, slice_.PositionReferenceIndicator = 1, ""
        slice_.Manufacturer, slice_.ReferringPhysicianName, slice_.KVP = "", "", 120
    enhanced = highdicom.legacy.LegacyConvertedEnhancedCTImage(
        slices, pydicom.uid.generate_uid(), 2, pydicom.uid.generate_uid(), 1
    )
    if syntax:
        enhanced.compress(syntax)
    (tmp_path / "multi").mkdir()
    enhanced.save_as(tmp_path / "multi" / "ct.dcm")
    assert read_volume(tmp_path / "multi").voxels.shape == (12, 9, 7)
    for declared in (999_999_999, 13, 0, -5):
        enhanced.NumberOfFrames = declared
        enhanced.save_as(tmp_path / "multi" / "ct.dcm")
        with pytest.raises(VolumeError, match=r"frame"):
            read_volume(tmp_path / "multi")


def test_damaged_bytes_end_in_typed_errors(write_series: Callable[..., Path]) -> None:
    folder = write_series(keep=lambda k: k < 4)
    file = next(folder.iterdir())
    whole = file.read_bytes()
    generator = np.random.default_rng(11)
    for _ in range(150):
        data = bytearray(whole)
        for place in generator.integers(132, len(data), 6):
            data[place] = generator.integers(256)
        file.write_bytes(data[: generator.integers(140, len(data) + 1)])
        with contextlib.suppress(VolumeError):
            read_volume(folder)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"BitsAllocated": [16, 16]}, "how many bits"),
        ({"BitsAllocated": [8, 8, 8]}, "how many bits"),
        ({"BitsStored": 1}, "1 bits of which 15"),
        ({"HighBit": 11}, "16 bits of which 11"),
        ({"PhotometricInterpretation": "RGB"}, "colours in one sample"),
        ({"PhotometricInterpretation": "YBR_FULL"}, "colours in one sample"),
        ({"RescaleSlope": "nan"}, "RescaleSlope is no number: 'nan'"),
        ({"RescaleSlope": "inf"}, "RescaleSlope is no number"),
        ({"RescaleIntercept": "NaN"}, "RescaleIntercept is no number"),
        ({"RescaleSlope": ["1", "2"]}, "RescaleSlope is no number"),
        ({"RescaleSlope": "0"}, "RescaleSlope is 0"),
        ({"Columns": 2}, "1 frame(s) and its pixels suffice for"),
    ],
    ids=lambda value: value if isinstance(value, str) else "".join(map(str, value.values())),
)
def test_a_header_that_cannot_be_of_an_image_is_refused(
    write_series: Callable[..., Path], fields: dict[str, object], said: str
) -> None:
    folder = write_series()
    file = next(folder.glob("*-5.dcm"))
    with pydicom.config.disable_value_validation():
        slice_ = pydicom.dcmread(file)
        slice_.update(fields)
        slice_.save_as(file)
    with pytest.raises(VolumeError, match="damaged") as caught:
        read_volume(folder)
    assert said in caught.value.cause


@pytest.mark.parametrize("tag", [b"\x20\x00\x0e\x00UI", b"\x08\x00\x60\x00CS", b"\x28\x00\x00\x01US"])
def test_a_value_representation_that_is_none_is_damage(write_series: Callable[..., Path], tag: bytes) -> None:
    folder = write_series()
    file = next(folder.glob("*-5.dcm"))
    whole = file.read_bytes()
    assert tag in whole
    file.write_bytes(whole.replace(tag, tag[:-2] + bytes([tag[-2], 0xD7])))
    with pytest.raises(VolumeError, match="damaged"):
        read_volume(folder)


def test_a_description_of_very_many_values_takes_no_time(
    write_series: Callable[..., Path], slowness: float
) -> None:
    folder = write_series(keep=lambda k: k < 3)
    for file in folder.iterdir():
        data = pydicom.dcmread(file)
        data.SeriesDescription = ["x"] * 200_000
        data.save_as(file)
    started = time.process_time()
    assert read_volume(folder).voxels.ndim == 3
    assert time.process_time() - started < 2 * slowness
