"""NRRD and MetaImage headers: what they claim, and how many voxels their data can hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from multiorganseg.errors import VolumeError
from multiorganseg.volumes.check import DEFLATE_RATIO, Header, check_spacing
from multiorganseg.volumes.volume import Affine

_COMPONENTS = ("UInt8", "Int8", "UInt16", "Int16", "UInt32", "Int32", "UInt64", "Int64", "Float32", "Float64")
_DTYPES = {
    getattr(sitk, f"sitk{form}{name}"): np.dtype(name.lower())
    for form in ("", "Vector")
    for name in _COMPONENTS
}
_COMPLEX = np.dtype(np.complex64)
_EXPANSION = {"raw": 1, "gzip": DEFLATE_RATIO, "gz": DEFLATE_RATIO}
_TEXT = ("ascii", "text", "txt", "hex")
_DATA_FIELDS = ("data file", "datafile", "elementdatafile")
_MAX_LINE = 1 << 20


def read_image_header(path: Path) -> tuple[Header, Mapping[str, str]]:
    """Read the header of a .nrrd, .nhdr, .mha or .mhd file, not its voxels.

    Returns:
        The header and the file's own key-value pairs.

    Raises:
        VolumeError: The header is damaged, its spacing impossible, or a data file that it names is missing.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise unreadable(path, error) from error
    spacing, dimension = reader.GetSpacing(), reader.GetDimension()
    check_spacing(spacing[:3], path)
    dtype = _DTYPES.get(reader.GetPixelID(), _COMPLEX)
    header = Header(
        path=path,
        sizes=tuple(reader.GetSize()),
        dtype=dtype,
        components=reader.GetNumberOfComponents(),
        affine=_affine(reader, dimension),
        capacity=_capacity(path, dtype),
    )
    return header, {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}


def unreadable(path: Path, error: RuntimeError) -> VolumeError:
    """Turn SimpleITK's message into ours."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return VolumeError(
        f"{path.name} cannot be read.",
        cause=lines[-1] if lines else "SimpleITK gives no reason.",
        next_step="Copy or export the file again.",
    )


def _affine(reader: sitk.ImageFileReader, dimension: int) -> Affine:
    affine = np.eye(4)
    axes = min(dimension, 3)
    direction = np.array(reader.GetDirection()).reshape(dimension, dimension)
    affine[:axes, :axes] = (direction * reader.GetSpacing())[:axes, :axes]
    affine[:axes, 3] = reader.GetOrigin()[:axes]
    return affine


def _capacity(path: Path, dtype: np.dtype) -> int:
    if path.suffix.lower() in (".nrrd", ".nhdr"):
        fields, offset, listed = _fields(path, ":", end="")
        data, encoding = (
            fields.get("data file", fields.get("datafile", "")),
            fields.get("encoding", "raw").lower(),
        )
    else:
        fields, offset, listed = _fields(path, "=", end="elementdatafile")
        data = fields.get("elementdatafile", "")
        compressed = fields.get("compresseddata", "").lower() == "true"
        text = fields.get("binarydata", "true").lower() == "false"
        encoding = "gzip" if compressed else "text" if text else "raw"
        data = "" if data.upper() == "LOCAL" else data
    if encoding not in _EXPANSION and encoding not in _TEXT:
        msg = f"{path.name} is compressed in a way that is not supported."
        raise VolumeError(
            msg,
            cause=f"Its encoding is '{encoding}'.",
            next_step="Save it with gzip compression or without compression.",
        )
    files = _data_files(path, data, listed)
    missing = [file for file in files if not file.is_file()]
    if missing:
        msg = f"A data file of {path.name} is missing."
        raise VolumeError(
            msg,
            cause=f"{missing[0].name} is not there.",
            next_step="Keep the header and its data files together in one folder.",
        )
    stored = sum(file.stat().st_size for file in files) if data else path.stat().st_size - offset
    return stored * _EXPANSION[encoding] if encoding in _EXPANSION else (stored + 1) // 2 * dtype.itemsize


def _fields(path: Path, separator: str, end: str) -> tuple[dict[str, str], int, list[str]]:
    """Read `key separator value` lines up to the key `end`; also the offset and the file names after it."""
    fields: dict[str, str] = {}
    names: list[str] = []
    with path.open("rb") as file:
        while line := file.readline(_MAX_LINE):
            key, _, value = (part.strip() for part in line.decode("utf-8", "replace").partition(separator))
            fields[key.lower()] = value
            if key.lower() in _DATA_FIELDS and value.upper().startswith("LIST"):
                names = file.read(_MAX_LINE).decode("utf-8", "replace").splitlines()
            if key.lower() == end:
                break
        return fields, file.tell(), [name.strip() for name in names if name.strip()]


def _data_files(path: Path, data: str, listed: list[str]) -> list[Path]:
    numbered = re.fullmatch(r"(.*%\d*d\S*)\s+(\d+)\s+(\d+)\s+([1-9]\d*)(\s+\d+)?", data)
    if data.upper().startswith("LIST"):
        names = listed
    elif numbered:
        first, last, step = map(int, numbered.group(2, 3, 4))
        names = [numbered.group(1) % number for number in range(first, last + 1, step)]
    else:
        names = [data] if data else []
    return [path.parent / name for name in names]
