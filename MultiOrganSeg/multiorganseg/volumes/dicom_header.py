"""Read the header of one DICOM file, and check that the file can hold what it says.

Nothing else opens a DICOM file before it has passed here.

Source: DICOM PS3.5, section 7.1 (data elements) and annex A.4 (encapsulated pixel data); PS3.10, section 7.1.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from multiorganseg.errors import DependencyError, MultiOrganSegError, VolumeError
from multiorganseg.volumes.dicom_geometry import Slice

if TYPE_CHECKING:
    from pydicom import Dataset

_PREAMBLE = 132
_UNDEFINED = 0xFFFFFFFF
_ITEM, _DELIMITER = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
_PIXELS = ((0x7FE0, 0x0010), (0x7FE0, 0x0008), (0x7FE0, 0x0009))
_FIRST_GROUPS = (0x0002, 0x0008)
_FIRST_VRS = frozenset(b"AE CS DA DT LO OB PN SH SQ ST TM UC UI UL UN UR US UT".split())
_LONGEST_FIRST_VALUE = 1024
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_MOST_VALUES = 64
_NAMED_TEXT = 40
_COLOURS = ("RGB", "ARGB", "CMYK", "HSV", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT")
_TRANSFER_SYNTAXES = {
    *(f"1.2.840.10008.1.2{part}" for part in ("", ".1", ".2", ".5")),
    *(f"1.2.840.10008.1.2.4.{part}" for part in (50, 51, 57, 70, 80, 81, 90, 91)),
}
"""What the reader of pixels decodes: uncompressed, RLE, JPEG, JPEG-LS and JPEG 2000."""


class Why(Enum):
    """Why a file is no part of a volume; the value completes "…file(s) …"."""

    EMPTY = "empty"
    FOREIGN = "no DICOM"
    DAMAGED = "damaged"
    IMAGELESS = "DICOM without an image"
    MISSING = "missing"


@dataclass(frozen=True)
class LeftOut:
    """A file that is no part of a volume.

    Attributes:
        file: The file.
        why: The kind of reason.
        detail: What exactly is wrong; may be empty.
        uid: Series Instance UID, as far as it could be read.
    """

    file: Path
    why: Why
    detail: str = ""
    uid: str = ""


def is_dicom(path: Path) -> bool:
    """Whether a file bears the mark of DICOM Part 10, or begins like a data set without its preamble."""
    with path.open("rb") as file:
        head = file.read(_PREAMBLE)
    return head[128:] == b"DICM" or _begins_with_element(head)


def read_dicom_header(path: Path) -> Slice | LeftOut:
    """Read what one file says about its image; nothing larger than the file is ever allocated.

    A file without preamble or meta information is read all the same.

    Returns:
        The header, or why the file is left out.

    Raises:
        DependencyError: pydicom is not installed.
        OSError: The file cannot be opened.
    """
    size = path.stat().st_size
    if size == 0:
        return LeftOut(path, Why.EMPTY)
    if not is_dicom(path):
        return LeftOut(path, Why.FOREIGN)
    dcmread = _pydicom().dcmread
    with path.open("rb") as file:
        if _DEFLATED in file.read(_LONGEST_FIRST_VALUE):
            return LeftOut(path, Why.DAMAGED, "its whole content is deflated, which is not supported")
        file.seek(0)
        bounded = _Bounded(file, size)
        try:
            data = dcmread(bounded, force=True, stop_before_pixels=True)
            pixels = _PixelElement.at(bounded, data)
            if pixels:
                _walk_rest(bounded, data)
            slice_ = _slice(path, data, pixels) if pixels else None
            wrong = _impossible(slice_, pixels, data) if slice_ and pixels else ""
            uid, modality = _text(data, "SeriesInstanceUID"), _text(data, "Modality")
        except MultiOrganSegError:
            raise
        except Exception as error:  # pydicom lets errors of any type escape from damaged bytes
            return LeftOut(path, Why.DAMAGED, f"{type(error).__name__}: {error}")
    if bounded.beyond:
        return LeftOut(path, Why.DAMAGED, "an element is longer than the file", uid)
    if slice_ is None:
        return LeftOut(path, Why.IMAGELESS, modality, uid)
    return LeftOut(path, Why.DAMAGED, wrong, uid) if wrong else slice_


def open_dicom(path: Path) -> Dataset | None:
    """Read a whole file, without its pixels; None where it is no DICOM or damaged."""
    if path.stat().st_size == 0 or not is_dicom(path):
        return None
    dcmread = _pydicom().dcmread
    with path.open("rb") as file:
        try:
            return dcmread(_Bounded(file, path.stat().st_size), force=True, stop_before_pixels=True)
        except Exception:  # pydicom lets errors of any type escape from damaged bytes
            return None


def read_whole_dicom(path: Path) -> Dataset:
    """Read a whole file, with its pixels; nothing larger than the file is ever allocated.

    Raises:
        DependencyError: pydicom is not installed.
        VolumeError: It is missing, no DICOM or damaged.
    """
    dcmread = _pydicom().dcmread
    try:
        size = path.stat().st_size
        with path.open("rb") as file, damage_as_typed(path.name):
            return dcmread(_Bounded(file, size), force=True)
    except OSError as error:
        msg = f"{path} cannot be opened."
        raise VolumeError(msg, cause=str(error), next_step="Check that you may read it.") from error


@contextmanager
def damage_as_typed(name: str, kind: str = "DICOM") -> Iterator[None]:
    """Turn what escapes from pydicom and from attributes that are missing into a `VolumeError`.

    Args:
        name: What is read.
        kind: What it should be.
    """
    try:
        yield
    except MultiOrganSegError:
        raise
    except Exception as error:  # pydicom lets errors of any type escape from damaged bytes
        msg = f"{name} is no {kind} that can be read."
        raise VolumeError(
            msg, cause=f"{type(error).__name__}: {error}", next_step="Export it again."
        ) from error


def unsupported_syntax(uid: str) -> str:
    """Return the name of a transfer syntax that cannot be decoded; empty when it can."""
    if not uid or uid in _TRANSFER_SYNTAXES:
        return ""
    from pydicom.uid import UID

    return UID(uid).name


def numbers(data: Dataset, name: str, count: int) -> NDArray[np.float64]:
    """Return `count` numbers of an attribute; NaN where it is missing, shorter, longer or no number."""
    try:
        value = data.get(name)
        values = [float(part) for part in ([value] if count == 1 else value)]
    except (TypeError, ValueError, OverflowError):
        values = []
    return np.array(values if len(values) == count else [np.nan] * count)


def _pydicom() -> Any:
    try:
        import pydicom
    except ImportError as error:
        msg = "DICOM needs the package pydicom."
        raise DependencyError(msg, cause=str(error), next_step="Install it: pip install pydicom") from error
    return pydicom


def _begins_with_element(head: bytes) -> bool:
    if len(head) < _PREAMBLE:
        return False
    group, _, first, second = struct.unpack("<HHHH", head[:8])
    if group not in _FIRST_GROUPS:
        return False
    return head[4:6] in _FIRST_VRS or (second == 0 and first <= _LONGEST_FIRST_VALUE)


class _Bounded:
    """A file that never gives, and never allocates, more than it holds.

    Attributes:
        beyond: Whether something reached further than the file's end.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size, self.beyond = file, size, False

    def read(self, count: int = -1) -> bytes:
        left = max(0, self._size - self._file.tell())
        self.beyond |= count > left + _PREAMBLE
        return self._file.read(left if count < 0 else min(count, left))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        position = self._file.seek(offset, whence)
        self.beyond |= position > self._size
        return position

    def tell(self) -> int:
        return self._file.tell()

    @property
    def left(self) -> int:
        return self._size - self._file.tell()


@dataclass(frozen=True)
class _PixelElement:
    """The element that holds the pixels.

    Attributes:
        length: Bytes in it.
        fragments: How many pieces compressed pixels have; None where they are not compressed.
    """

    length: int
    fragments: int | None

    @classmethod
    def at(cls, file: _Bounded, data: Dataset) -> _PixelElement | None:
        """Read the element at which the reader stopped and step over it; None where there is none."""
        implicit, little = data.original_encoding
        order = "<" if little is not False else ">"
        head = file.read(8)
        if len(head) < 8 or struct.unpack(f"{order}HH", head[:4]) not in _PIXELS:
            return None
        head = head if implicit else head + file.read(4)
        (length,) = struct.unpack(f"{order}L", head[-4:])
        if length != _UNDEFINED:
            file.seek(length, os.SEEK_CUR)
            return cls(length, None)
        start, pieces = file.tell(), 0
        while True:
            group, element, size = struct.unpack(f"{order}HHL", file.read(8))
            if (group, element) == _DELIMITER:
                return cls(file.tell() - start, pieces - 1)
            if (group, element) != _ITEM or size > file.left:
                msg = "its compressed pixels are cut off"
                raise ValueError(msg)
            file.seek(size, os.SEEK_CUR)
            pieces += 1


def _walk_rest(file: _Bounded, data: Dataset) -> None:
    from pydicom.filereader import read_dataset

    implicit, little = data.original_encoding
    read_dataset(cast(BinaryIO, file), bool(implicit), little is not False)


def _impossible(piece: Slice, pixels: _PixelElement, data: Dataset) -> str:
    """Return why the pixels cannot be what the header says; empty when they can."""
    if min(piece.rows, piece.columns, piece.frames, piece.components) < 1:
        return f"its header says {piece.columns} × {piece.rows} pixels in {piece.frames} frames"
    stored, high = _whole(data, "BitsStored"), _whole(data, "HighBit")
    if stored is not None and high is not None and high != stored - 1:
        return f"its header says {stored} bits of which {high} is the highest"
    if piece.components == 1 and _text(data, "PhotometricInterpretation") in _COLOURS:
        return "its header says colours in one sample a pixel"
    for name in ("RescaleSlope", "RescaleIntercept"):
        if _text(data, name) and not np.isfinite(numbers(data, name, 1)[0]):
            return f"its {name} is no number: {_text(data, name)[:_NAMED_TEXT]!r}"
    if _text(data, "RescaleSlope") and numbers(data, "RescaleSlope", 1)[0] == 0:
        return "its RescaleSlope is 0, which makes all its pixels alike"
    if pixels.fragments is not None:
        held = pixels.fragments
    else:
        bits = _whole(data, "BitsAllocated") if data.get("BitsAllocated") else 16
        if bits is None or bits < 1:
            return "its header does not say how many bits a pixel has"
        held = pixels.length * 8 // (bits * piece.components * piece.rows * piece.columns)
    if held < piece.frames or (pixels.fragments is None and held >= 2 * piece.frames):
        return f"its header says {piece.frames:,} frame(s) and its pixels suffice for {held:,}"
    return ""


def _text(data: Dataset, name: str) -> str:
    try:
        value = data.get(name)
    except (ValueError, TypeError, LookupError):
        return ""
    if value is None:
        return ""
    several = hasattr(value, "__iter__") and not isinstance(value, str)
    return "\\".join(map(str, islice(value, _MOST_VALUES))) if several else str(value).strip()


def _whole(data: Dataset, name: str) -> int | None:
    (value,) = numbers(data, name, 1)
    return int(value) if np.isfinite(value) else None


def _slice(path: Path, data: Dataset, pixels: _PixelElement) -> Slice | None:
    rows, columns = _whole(data, "Rows"), _whole(data, "Columns")
    if rows is None or columns is None:
        return None
    frames, samples = _whole(data, "NumberOfFrames"), _whole(data, "SamplesPerPixel")
    return Slice(
        file=path,
        uid=_text(data, "SeriesInstanceUID"),
        description=_text(data, "SeriesDescription"),
        modality=_text(data, "Modality"),
        image_type=_text(data, "ImageType").upper(),
        inverted=_text(data, "PhotometricInterpretation") == "MONOCHROME1",
        columns=columns,
        rows=rows,
        frames=1 if frames is None else frames,
        components=1 if samples is None else samples,
        position=numbers(data, "ImagePositionPatient", 3),
        orientation=numbers(data, "ImageOrientationPatient", 6),
        spacing=numbers(data, "PixelSpacing", 2),
        number=_whole(data, "InstanceNumber"),
        announced=_whole(data, "NumberOfSeriesRelatedInstances"),
        study=_text(data, "StudyInstanceUID"),
        series_number=_whole(data, "SeriesNumber"),
        syntax=str(getattr(data, "file_meta", {}).get("TransferSyntaxUID") or ""),
    )
