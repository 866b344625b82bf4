"""NRRD headers.

Format: https://teem.sourceforge.net/nrrd/format.html
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multiorganseg.errors import VolumeError
from multiorganseg.volumes.check import check_spacing
from multiorganseg.volumes.file_header import (
    MAX_HEADER_BYTES,
    FileHeader,
    spatial_affine,
    warn_of_unknown_place,
)
from multiorganseg.volumes.stored import Stored, damaged, data_files
from multiorganseg.volumes.volume import Affine

_MAGIC = re.compile(rb"NRRD000[1-5]\s*")
_LINE = re.compile(r"([^:]*?)(:=|:)[ \t]*(.*)", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)")
# fmt: off
_FIELDS = frozenset({
    "dimension", "type", "blocksize", "encoding", "endian", "content", "min", "max", "oldmin", "oldmax",
    "datafile", "lineskip", "byteskip", "number", "sampleunits", "sizes", "spacings", "thicknesses",
    "axismins", "axismaxs", "centers", "centerings", "labels", "units", "kinds", "measurementframe",
    "space", "spacedimension", "spaceunits", "spaceorigin", "spacedirections",
})
# fmt: on
_TYPE_NAMES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_TYPES = {name: dtype for dtype, names in _TYPE_NAMES.items() for name in names}
_ENCODINGS = {"raw": "raw", "gzip": "deflate", "gz": "deflate", "hex": "hex"}
_ENCODINGS |= dict.fromkeys(("ascii", "text", "txt"), "text")
_ENDS = {"right": -1, "left": 1, "anterior": -1, "posterior": 1, "inferior": -1, "superior": 1}
_SPACES = {
    "-".join(names): np.array([_ENDS[name] for name in names], float)
    for names in product(("right", "left"), ("anterior", "posterior"), ("inferior", "superior"))
}
_SPACES |= {"".join(word[0] for word in name.split("-")): signs for name, signs in _SPACES.items()}
_UNPLACED = ("", "scanner-xyz", "3d-right-handed")
_SPATIAL = ("domain", "space", "none", "???")
_MM = {"": 1.0, "mm": 1.0, "millimeter": 1.0, "millimetre": 1.0, "cm": 10.0, "centimeter": 10.0}
_MM |= {"centimetre": 10.0, "m": 1000.0, "meter": 1000.0, "metre": 1000.0, "um": 1e-3, "µm": 1e-3}
_MM |= {"μm": 1e-3, "micrometer": 1e-3, "micron": 1e-3, "???": 1.0}
_MAX_AXES = 16


def read_nrrd_header(path: Path) -> FileHeader:
    """Read a .nrrd or .nhdr header.

    Raises:
        VolumeError: As `read_image_header`.
        ValueError: A field is damaged.
    """
    fields, pairs, listed, offset = _parse(path)
    dtype = _dtype(path, fields)
    sizes = [int(size) for size in fields["sizes"].split()] if "sizes" in fields else []
    if not 0 < len(sizes) <= _MAX_AXES or int(fields.get("dimension", "0")) != len(sizes):
        raise damaged(path, "Its 'dimension' does not tell the number of its 'sizes'.")
    space, component = _axes(path, fields, sizes)
    kept = [axis for axis in range(len(sizes)) if axis in space or axis == component]
    components = 1 if component is None else sizes[component]
    spatial = tuple(sizes[axis] for axis in space)
    return FileHeader(
        path=path,
        sizes=spatial,
        dtype=dtype,
        components=components,
        affine=_affine(path, fields, space, len(sizes)) if len(space) == 3 else np.eye(4),
        capacity=(stored := _stored(path, fields, listed, offset)).capacity(dtype.itemsize),
        stored=stored,
        component_axis=None if component is None else len(kept) - 1 - kept.index(component),
        pairs=pairs,
    )


def _parse(path: Path) -> tuple[dict[str, str], dict[str, str], list[str], int]:
    """Read the fields, the key-value pairs, the names after a LIST and where attached data begin."""
    fields: dict[str, str] = {}
    pairs: dict[str, str] = {}
    with path.open("rb") as file:
        if not _MAGIC.fullmatch(file.readline(64)):
            raise damaged(path, "It does not begin with the magic word of NRRD.")
        while raw := file.readline(MAX_HEADER_BYTES - file.tell()):
            line = raw.decode("utf-8", "replace").rstrip("\r\n")
            if not line:
                break
            if line.startswith("#"):
                continue
            match = _LINE.fullmatch(line)
            if match is None:
                raise damaged(path, f"A line of its header is no field: '{line[:60]}'.")
            if match[2] == ":=":
                pairs[match[1]] = _ESCAPE.sub(lambda found: "\n" if found[1] == "n" else found[1], match[3])
                continue
            name = match[1].strip().lower().replace(" ", "")
            if name not in _FIELDS or name in fields:
                raise damaged(path, f"The field '{match[1][:60]}' is unknown or stands twice.")
            fields[name] = match[3].strip()
            if name == "datafile" and fields[name].upper().startswith("LIST"):
                return fields, pairs, file.read(MAX_HEADER_BYTES).decode("utf-8", "replace").splitlines(), 0
        if file.tell() >= MAX_HEADER_BYTES:
            raise damaged(path, f"Its header is longer than {MAX_HEADER_BYTES >> 20} MiB.")
        return fields, pairs, [], file.tell()


def _dtype(path: Path, fields: Mapping[str, str]) -> np.dtype:
    kind = " ".join(fields.get("type", "").lower().split())
    if kind not in _TYPES:
        raise damaged(path, f"Its voxels are of the type '{kind[:60]}'.")
    if "oldmin" in fields or "oldmax" in fields:
        msg = f"{path.name} holds quantised values, not the true ones."
        raise VolumeError(msg, cause="Its header has 'old min' or 'old max'.", next_step="Export it again.")
    dtype, endian = np.dtype(_TYPES[kind]), fields.get("endian", "").lower()
    if dtype.itemsize == 1 or _encoding(path, fields) == "text":
        return dtype
    if endian not in ("little", "big"):
        raise damaged(path, "It does not say the order of bytes: 'endian' is missing.")
    return dtype.newbyteorder("<" if endian == "little" else ">")


def _encoding(path: Path, fields: Mapping[str, str]) -> str:
    name = fields.get("encoding", "").lower()
    if name not in _ENCODINGS:
        msg = f"{path.name} is compressed in a way that is not supported."
        raise VolumeError(
            msg,
            cause=f"Its encoding is '{name[:60]}'.",
            next_step="Save it with gzip compression or without compression.",
        )
    return _ENCODINGS[name]


def _stored(path: Path, fields: Mapping[str, str], listed: list[str], offset: int) -> Stored:
    encoding = _encoding(path, fields)
    lines, skip = int(fields.get("lineskip", "0")), int(fields.get("byteskip", "0"))
    if not 0 <= lines <= MAX_HEADER_BYTES or not -1 <= skip < 1 << 40 or (skip < 0 and encoding != "raw"):
        raise damaged(path, f"It passes over {lines} lines and {skip} bytes.")
    data = fields.get("datafile", "")
    files = data_files(path, data, listed) if data else (path,)
    start = -1 if skip < 0 else 0 if data else offset
    return Stored(files, encoding, start, lines, max(skip, 0))


def _axes(path: Path, fields: Mapping[str, str], sizes: list[int]) -> tuple[list[int], int | None]:
    """Find which axes are those of space, and which one holds components; others have a single entry."""
    count = len(sizes)
    kinds = [kind.lower() for kind in fields.get("kinds", "").split()] or ["none"] * count
    vectors = _vectors(fields.get("spacedirections", "")) or [np.zeros(0)] * count
    if len(kinds) != count or len(vectors) != count:
        raise damaged(path, f"Its 'kinds' or 'space directions' are not those of {count} axes.")
    space = [axis for axis in range(count) if kinds[axis] in _SPATIAL and vectors[axis] is not None]
    single = [axis for axis in space[3:] if sizes[axis] == 1]
    space = [axis for axis in space if axis not in single]
    others = [axis for axis in range(count) if axis not in (*space, *single) and sizes[axis] != 1]
    times = [axis for axis in others if kinds[axis] == "time"]
    if times:
        msg = f"{path.name} is a time series."
        raise VolumeError(
            msg,
            cause=f"Its header says {sizes[times[0]]} points in time.",
            next_step="Save one time point as a 3-D file and pass that.",
        )
    if len(others) > 1:
        raise damaged(path, f"It has {len(others)} axes that are not of space.")
    return space, others[0] if others else None


def _affine(path: Path, fields: Mapping[str, str], space: list[int], count: int) -> Affine:
    name = fields.get("space", "").lower().removesuffix("-time")
    name = name[:3] if len(name) == 4 and name[:3] in _SPACES and name[3] == "t" else name
    if name not in _SPACES and name not in _UNPLACED:
        msg = f"{path.name} lies in a space that has no place in the patient."
        raise VolumeError(
            msg,
            cause=f"Its 'space' is '{name[:60]}'.",
            next_step="Save it as left-posterior-superior or right-anterior-superior.",
        )
    if name not in _SPACES:
        warn_of_unknown_place(path)
    if not fields.get("spacedirections"):
        return _from_spacings(path, fields, space, count)
    stated = _vectors(fields["spacedirections"])
    order = [*space, *(axis for axis in range(count) if axis not in space)]
    vectors = [vector for axis in order if (vector := stated[axis]) is not None]
    given = _vectors(fields.get("spaceorigin", ""))
    dimension = vectors[0].size
    origin = given[0] if given and given[0] is not None else np.zeros(dimension)
    if not 3 <= dimension <= 4 or any(vector.size != dimension for vector in (*vectors, origin)):
        raise damaged(path, "Its 'space directions' and 'space origin' are not three-dimensional.")
    columns = np.stack(vectors, axis=1)
    units = [_mm(path, unit) for unit in _quoted(fields.get("spaceunits", ""))][:3] or [1.0] * 3
    if len(units) != 3:
        raise damaged(path, "Its 'space units' are not those of three axes.")
    affine = spatial_affine(columns, origin, path)
    signs = _SPACES.get(name, np.ones(3))
    affine[:3] *= (signs * units)[:, None]
    return affine


def _from_spacings(path: Path, fields: Mapping[str, str], space: list[int], count: int) -> Affine:
    spacings = [float(text) for text in fields.get("spacings", "").split()]
    if len(spacings) != count:
        msg = f"{path.name} does not say how large its voxels are."
        raise VolumeError(
            msg,
            cause="It has no 'space directions' or 'spacings'.",
            next_step="Export it again from its source.",
        )
    for name in ("axismins", "axismaxs"):
        ends = [float(text) for text in fields.get(name, "").split()]
        if any(end and math.isfinite(end) for end in ends):
            raise damaged(
                path, "It says by 'axis mins' or 'axis maxs' where it lies; 'space origin' is needed."
            )
    units = [_mm(path, unit) for unit in _quoted(fields.get("units", ""))] or [1.0] * count
    if len(units) != count:
        raise damaged(path, f"Its 'units' are not those of {count} axes.")
    spacing = [spacings[axis] * units[axis] for axis in space]
    check_spacing(spacing, path)
    return np.diag([*spacing, 1.0])


def _vectors(text: str) -> list[NDArray[np.float64] | None]:
    """Read `(1,0,0) none (0,0,1)`.

    Raises:
        ValueError: It is something else.
    """
    vectors: list[NDArray[np.float64] | None] = []
    for part in re.findall(r"none|\([^()]*\)|\S+", text, re.IGNORECASE):
        if part.lower() == "none":
            vectors.append(None)
        elif part[0] == "(" and part[-1] == ")":
            vectors.append(np.array([float(number) for number in part[1:-1].split(",")]))
        else:
            message = f"'{part[:60]}' is no vector"
            raise ValueError(message)
    return vectors


def _quoted(text: str) -> list[str]:
    return re.findall(r'"([^"]*)"', text)


def _mm(path: Path, unit: str) -> float:
    if unit.strip().lower() not in _MM:
        msg = f"{path.name} measures in a unit that is not known."
        raise VolumeError(msg, cause=f"Its unit is '{unit[:60]}'.", next_step="Save it in millimetres.")
    return _MM[unit.strip().lower()]
