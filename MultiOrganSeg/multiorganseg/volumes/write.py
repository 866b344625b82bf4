"""Write a volume or a label map, atomically and with its affine as it is.

NRRD files have key/value pairs and are written slice by slice, see
https://teem.sourceforge.net/nrrd/format.html.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from multiorganseg.atomic import atomic_path
from multiorganseg.errors import ResourceError, VolumeError
from multiorganseg.volumes.check import check_affine
from multiorganseg.volumes.nifti import write_nifti
from multiorganseg.volumes.volume import Affine, Volume

_NIFTI = (".nii", ".nii.gz")
_OTHERS = (".nrrd", ".mha")
_GZIP_LEVEL = 1


def write_volume(volume: Volume, path: Path, *, compress: bool = True, qform: Affine | None = None) -> None:
    """Write a volume; the file appears whole or not at all.

    Args:
        volume: Any real scalar volume; bool is written as uint8, half precision as float32. A sheared affine
            is kept: in NIfTI as sform, in NRRD and MetaImage as direction.
        path: Ends in .nii, .nii.gz, .nrrd or .mha.
        qform: See `write_nifti`; other formats need none.
        compress: Whether .nrrd and .mha are compressed, at gzip level 1; .nii.gz always is, .nii never.

    Raises:
        VolumeError: Another suffix, or an affine that no reader could take.
        ResourceError: The folder cannot be written or the disk is full.
    """
    path = Path(path)
    name = path.name.lower()
    if not name.endswith((*_NIFTI, *_OTHERS)):
        msg = f"{path.name} cannot be written."
        raise VolumeError(
            msg,
            cause="Its suffix tells no image format.",
            next_step=f"Choose a name that ends in {', '.join((*_NIFTI, *_OTHERS))}.",
        )
    check_affine(volume.affine, path)
    mended = {np.dtype(bool): np.uint8, np.dtype(np.float16): np.float32}.get(volume.voxels.dtype)
    if mended:
        volume = replace(volume, voxels=volume.voxels.astype(mended))
    with atomic_path(path) as partial:
        if name.endswith(_NIFTI):
            write_nifti(volume, partial, qform=qform)
        elif name.endswith(".nrrd"):
            write_nrrd(partial, volume.voxels, volume.affine, compress=compress)
        else:
            _write_metaimage(volume, partial, compress)


def _write_metaimage(volume: Volume, path: Path, compress: bool) -> None:
    spacing = np.linalg.norm(volume.affine[:3, :3], axis=0)
    native = volume.voxels.dtype.newbyteorder("=")
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.voxels, dtype=native))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((volume.affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(volume.affine[:3, 3].tolist())
    try:
        sitk.WriteImage(image, str(path), compress, _GZIP_LEVEL)
    except RuntimeError as error:
        msg = f"Cannot write {path.name}."
        raise ResourceError(
            msg,
            cause=str(error).strip().splitlines()[-1],
            next_step="Check that the disk has enough free space.",
        ) from error


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
