"""MetaImage headers.

Format: https://itk.org/Wiki/ITK/MetaIO/Documentation and the reader in MetaIO, metaImage.cxx.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multiorganseg.errors import VolumeError
from multiorganseg.volumes.check import VolumeWarning, check_spacing
from multiorganseg.volumes.file_header import (
    MAX_HEADER_BYTES,
    FileHeader,
    spatial_affine,
    warn_of_unknown_place,
)
from multiorganseg.volumes.stored import Stored, damaged, data_files
from multiorganseg.volumes.volume import Affine

_TYPES = {"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"}
_TYPES |= {"long": "i4", "ulong": "u4", "long_long": "i8", "ulong_long": "u8", "float": "f4", "double": "f8"}
_MM = {"": 1.0, "?": 1.0, "mm": 1.0, "cm": 10.0, "um": 1e-3, "m": 1000.0}
_FROM = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "I": (2, 1), "S": (2, -1)}
_MAX_AXES = 10


def read_metaimage_header(path: Path) -> FileHeader:
    """Read a .mha or .mhd header.

    Raises:
        VolumeError: As `read_image_header`.
        ValueError: A field is damaged.
    """
    fields, pairs, listed, offset = _parse(path)
    axes = int(fields.get("ndims", "0"))
    sizes = [int(size) for size in fields.get("dimsize", "").split()]
    if not 0 < axes <= _MAX_AXES or len(sizes) != axes:
        raise damaged(path, f"It says {axes} dimensions and {len(sizes)} sizes.")
    kind = fields.get("elementtype", "").upper().removeprefix("MET_").removesuffix("_ARRAY").lower()
    if kind not in _TYPES:
        raise damaged(path, f"Its voxels are of the type '{kind[:60]}'.")
    big = _is_true(_first(fields, "binarydatabyteordermsb", "elementbyteordermsb", default="False"))
    dtype = np.dtype(_TYPES[kind]).newbyteorder(">" if big else "<")
    spatial = list(sizes)
    while len(spatial) > 3 and spatial[-1] == 1:
        spatial.pop()
    components = int(fields.get("elementnumberofchannels", "1"))
    stored = _stored(path, fields, listed, offset)
    slope = float(_first(fields, "elementtointensityfunctionslope", "elementslope", default="1"))
    intercept = float(
        _first(fields, "elementtointensityfunctionoffset", "elementoffset", "elementintercept", default="0")
    )
    if components < 1 or not slope or not np.isfinite([slope, intercept]).all():
        raise damaged(
            path, f"It says {components} channels, a slope of {slope} and an offset of {intercept}."
        )
    return FileHeader(
        path=path,
        sizes=tuple(spatial),
        dtype=dtype,
        components=components,
        affine=_affine(path, fields, axes) if len(spatial) == 3 else np.eye(4),
        capacity=stored.capacity(dtype.itemsize),
        stored=stored,
        component_axis=None if components == 1 else len(spatial),
        slope=slope,
        intercept=intercept,
        pairs=pairs,
    )


def _parse(path: Path) -> tuple[dict[str, str], dict[str, str], list[str], int]:
    """Read the fields, the pairs as spelled, the names after a LIST and where local data begin."""
    fields: dict[str, str] = {}
    pairs: dict[str, str] = {}
    with path.open("rb") as file:
        while raw := file.readline(MAX_HEADER_BYTES - file.tell()):
            key, separator, value = (part.strip() for part in raw.decode("utf-8", "replace").partition("="))
            if not key and not separator:
                continue
            name = key.lower()
            if not separator or name in fields:
                raise damaged(path, f"A line of its header is no field, or stands twice: '{key[:60]}'.")
            fields[name] = pairs[key] = value
            if name == "elementdatafile":
                listed = file.read(MAX_HEADER_BYTES) if value.upper().startswith("LIST") else b""
                return fields, pairs, listed.decode("utf-8", "replace").splitlines(), file.tell()
    raise damaged(path, "Its header does not end with 'ElementDataFile'.")


def _stored(path: Path, fields: Mapping[str, str], listed: list[str], offset: int) -> Stored:
    compressed = _is_true(fields.get("compresseddata", "False"))
    text = not _is_true(fields.get("binarydata", "True"))
    data, skip = fields["elementdatafile"], int(fields.get("headersize", "0"))
    if not -1 <= skip < 1 << 40 or int(fields.get("headersizeperslice", "0")) or (skip < 0 and compressed):
        raise damaged(path, f"It passes over {skip} bytes, or over some before each slice.")
    local = data.upper() == "LOCAL"
    files = (path,) if local else data_files(path, data, listed)
    start = -1 if skip < 0 else (offset if local else 0) + skip
    return Stored(files, "deflate" if compressed else "text" if text else "raw", start)


def _affine(path: Path, fields: Mapping[str, str], axes: int) -> Affine:
    spacing = _numbers(_first(fields, "elementspacing", "elementsize"))
    if len(spacing) != axes:
        msg = f"{path.name} does not say how large its voxels are."
        raise VolumeError(
            msg,
            cause=f"Its 'ElementSpacing' is not that of {axes} axes.",
            next_step="Export it again from its source.",
        )
    unit = fields.get("distanceunits", "").lower()
    if unit not in _MM:
        msg = f"{path.name} measures in a unit that is not known."
        raise VolumeError(msg, cause=f"Its unit is '{unit[:60]}'.", next_step="Save it in millimetres.")
    check_spacing([value * _MM[unit] for value in spacing[:3]], path)
    origin = _numbers(_first(fields, "offset", "position", "origin")) or [0.0] * axes
    matrix = _numbers(_first(fields, "transformmatrix", "rotation", "orientation"))
    letters = fields.get("anatomicalorientation", "").upper()
    if len(origin) != axes or (matrix and len(matrix) != axes * axes):
        raise damaged(path, f"Its place and direction are not those of {axes} axes.")
    stated = _from_letters(letters[:3], axes)
    if matrix:
        direction = np.array(matrix).reshape(axes, axes).T
        _compare(direction[:3, :3], stated, letters, path)
    elif stated is None and letters.strip("?"):
        raise damaged(path, f"Its 'AnatomicalOrientation' {letters[:20]} is not known.")
    else:
        if stated is None:
            warn_of_unknown_place(path)
        direction = np.eye(axes) if stated is None else stated
    affine = spatial_affine(direction * np.array(spacing), np.array(origin), path)
    affine[:3] *= _MM[unit]
    return affine


def _from_letters(letters: str, axes: int) -> NDArray[np.float64] | None:
    """Return the directions of an `AnatomicalOrientation`: RAI means from right, anterior and inferior."""
    direction = np.eye(axes)
    direction[:3, :3] = 0
    if len(letters) != 3 or len({_FROM[letter][0] for letter in letters if letter in _FROM}) != 3:
        return None
    for axis, letter in enumerate(letters):
        row, sign = _FROM[letter]
        direction[row, axis] = sign
    return direction


def _compare(direction: NDArray, stated: NDArray | None, letters: str, path: Path) -> None:
    along = None if stated is None else np.sum(direction * stated[:3, :3], axis=0)
    if along is not None and along.min() < 0:
        warnings.warn(
            f"{path.name} says by AnatomicalOrientation {letters} that its axes run another way than by its "
            "TransformMatrix; the matrix is used, as other programs do.",
            VolumeWarning,
            stacklevel=2,
        )


def _first(fields: Mapping[str, str], *names: str, default: str = "") -> str:
    return next((fields[name] for name in names if name in fields), default)


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split()]


def _is_true(text: str) -> bool:
    return text[:1].lower() in ("t", "1")
