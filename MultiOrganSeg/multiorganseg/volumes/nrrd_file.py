"""NRRD files with key/value pairs, written slice by slice.

Format: https://teem.sourceforge.net/nrrd/format.html
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from multiorganseg.volumes.volume import Affine

_TYPES = {
    "i1": "signed char",
    "u1": "unsigned char",
    "i2": "short",
    "u2": "unsigned short",
    "i4": "int",
    "u4": "unsigned int",
    "i8": "long long int",
    "u8": "unsigned long long int",
    "f4": "float",
    "f8": "double",
}


def write_nrrd(
    path: Path,
    voxels: NDArray,
    affine: Affine,
    pairs: Mapping[str, str] | None = None,
    *,
    compress: bool = True,
) -> None:
    """Write a scalar volume with its geometry and key/value pairs.

    SimpleITK would copy the whole array first and cannot open paths that are not ASCII on Windows.

    Args:
        path: The file; `atomic_path` is the caller's part.
        voxels: Array (k, j, i) of integers or of floats of 32 or 64 bits.
        affine: See `Grid.affine`.
        pairs: Key/value pairs; line breaks and backslashes are escaped as the format asks.
        compress: Whether to compress by gzip level 1; else the voxels are written raw.
    """
    stored = voxels.dtype.newbyteorder("<")
    columns = " ".join(_vector(affine[:3, axis]) for axis in range(3))
    lines = [
        "NRRD0004",
        "# Complete NRRD file format specification at:",
        "# http://teem.sourceforge.net/nrrd/format.html",
        f"type: {_TYPES[stored.str[1:]]}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(str(size) for size in voxels.shape[::-1])}",
        f"space directions: {columns}",
        "kinds: domain domain domain",
        *(["endian: little"] if stored.itemsize > 1 else []),
        f"encoding: {'gzip' if compress else 'raw'}",
        f"space origin: {_vector(affine[:3, 3])}",
        *(f"{key}:={_escape(value)}" for key, value in (pairs or {}).items()),
    ]
    with path.open("wb") as file:
        file.write(("\n".join(lines) + "\n\n").encode("utf-8", "replace"))
        if compress:
            with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=1, mtime=0) as stream:
                _write_slabs(stream, voxels, stored)
        else:
            _write_slabs(file, voxels, stored)


def _write_slabs(stream: IO[bytes] | gzip.GzipFile, voxels: NDArray, stored: np.dtype) -> None:
    for slab in voxels:
        stream.write(np.ascontiguousarray(slab, dtype=stored).data)


def _vector(values: NDArray[np.floating]) -> str:
    return "(" + ",".join(repr(float(value)) for value in values) + ")"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n")
