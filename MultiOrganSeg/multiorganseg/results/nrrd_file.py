"""NRRD files with key/value pairs, written slice by slice.

Format: https://teem.sourceforge.net/nrrd/format.html
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multiorganseg.volumes.volume import Affine


def write_nrrd(
    path: Path, labels: NDArray[np.unsignedinteger], affine: Affine, pairs: Mapping[str, str]
) -> None:
    """Write labels with their geometry and key/value pairs, compressed by gzip level 1.

    SimpleITK would copy the whole array first and cannot open paths that are not ASCII on Windows.

    Args:
        path: The file; `atomic_path` is the caller's part.
        labels: Array (k, j, i), uint8 or uint16.
        affine: See `Grid.affine`.
        pairs: Key/value pairs; line breaks and backslashes are escaped as the format asks.
    """
    wide = labels.dtype != np.uint8
    columns = " ".join(_vector(affine[:3, axis]) for axis in range(3))
    lines = [
        "NRRD0004",
        "# Complete NRRD file format specification at:",
        "# http://teem.sourceforge.net/nrrd/format.html",
        f"type: {'unsigned short' if wide else 'unsigned char'}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(str(size) for size in labels.shape[::-1])}",
        f"space directions: {columns}",
        "kinds: domain domain domain",
        *(["endian: little"] if wide else []),
        "encoding: gzip",
        f"space origin: {_vector(affine[:3, 3])}",
        *(f"{key}:={_escape(value)}" for key, value in pairs.items()),
    ]
    with path.open("wb") as file:
        file.write(("\n".join(lines) + "\n\n").encode())
        with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=1, mtime=0) as stream:
            for slab in labels:
                stream.write(np.ascontiguousarray(slab, dtype="<u2" if wide else np.uint8).data)


def _vector(values: NDArray[np.floating]) -> str:
    return "(" + ",".join(repr(float(value)) for value in values) + ")"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n")
