"""NIfTI-1 and NIfTI-2 single files, with every affine that they can hold.

SimpleITK refuses a sheared sform, or silently replaces it by the orthogonal qform, so that a tilted CT would
move in the patient; therefore the header is read and written here.
Source: https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h and nifti2.h.
"""

from __future__ import annotations

import gzip
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from multiorganseg.errors import VolumeError
from multiorganseg.volumes.check import (
    DEFLATE_RATIO,
    Header,
    VolumeWarning,
    check_header,
    check_spacing,
    compact,
)
from multiorganseg.volumes.volume import Affine, Volume

# fmt: off
_NIFTI1 = np.dtype([
    ("sizeof_hdr", "i4"), ("unused1", "S35"), ("dim_info", "u1"), ("dim", "i2", 8), ("intent", "f4", 3),
    ("intent_code", "i2"), ("datatype", "i2"), ("bitpix", "i2"), ("slice_start", "i2"), ("pixdim", "f4", 8),
    ("vox_offset", "f4"), ("scl_slope", "f4"), ("scl_inter", "f4"), ("slice_end", "i2"), ("slice_code", "u1"),
    ("xyzt_units", "u1"), ("cal", "f4", 4), ("unused2", "i4", 2), ("descrip", "S80"), ("aux_file", "S24"),
    ("qform_code", "i2"), ("sform_code", "i2"), ("quatern", "f4", 3), ("qoffset", "f4", 3),
    ("srow", "f4", (3, 4)), ("intent_name", "S16"), ("magic", "S4"),
])
_NIFTI2 = np.dtype([
    ("sizeof_hdr", "i4"), ("magic", "S8"), ("datatype", "i2"), ("bitpix", "i2"), ("dim", "i8", 8),
    ("intent", "f8", 3), ("pixdim", "f8", 8), ("vox_offset", "i8"), ("scl_slope", "f8"), ("scl_inter", "f8"),
    ("cal", "f8", 4), ("slice_start", "i8"), ("slice_end", "i8"), ("descrip", "S80"), ("aux_file", "S24"),
    ("qform_code", "i4"), ("sform_code", "i4"), ("quatern", "f8", 3), ("qoffset", "f8", 3),
    ("srow", "f8", (3, 4)), ("slice_code", "i4"), ("xyzt_units", "i4"), ("intent_code", "i4"),
    ("intent_name", "S16"), ("dim_info", "u1"), ("unused3", "S15"),
])
# fmt: on
_DATATYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 32: "c8", 64: "f8", 128: "V3", 256: "i1", 512: "u2"}
_DATATYPES |= {768: "u4", 1024: "i8", 1280: "u8", 1792: "c16", 2304: "V4"}
_CODES = {np.dtype(name): code for code, name in _DATATYPES.items()}
_MM_PER_UNIT = {1: 1000.0, 3: 0.001}
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_FORM_TOLERANCE_MM = 1.0


@dataclass(frozen=True, eq=False)
class NiftiHeader(Header):
    """A NIfTI header.

    Attributes:
        offset: Where the voxels begin in the decompressed file.
        slope: Factor from stored to true values.
        intercept: Added after the factor.
    """

    offset: int
    slope: float
    intercept: float


def read_nifti(path: Path) -> Volume:
    """Read a 3-D NIfTI file; trailing axes of length one are dropped.

    Raises:
        VolumeError: It is not a NIfTI file, is damaged, or fails `check_header`.
        ResourceError: Its voxels do not fit into memory.
    """
    try:
        header = read_nifti_header(path)
        check_header(header)
        voxels = np.empty(header.shape, header.dtype)
        with _open(path) as file:
            file.seek(header.offset)
            buffer, filled = memoryview(voxels.data).cast("B"), 0
            while count := file.readinto(buffer[filled:]):  # type: ignore[attr-defined]
                filled += count
            file.read(1)  # makes gzip verify its checksum
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _damaged(path, str(error)) from error
    if filled != voxels.nbytes:
        raise _damaged(path, f"Of {voxels.nbytes:,} bytes only {filled:,} are there.")
    voxels = voxels.astype(voxels.dtype.newbyteorder("="), copy=False)
    return Volume(_rescaled(voxels, header.slope, header.intercept), header.affine, str(path))


def read_nifti_header(path: Path) -> NiftiHeader:
    """Read the header alone.

    Raises:
        VolumeError: It is not a single-file NIfTI header.
    """
    with _open(path) as file:
        raw = file.read(_NIFTI2.itemsize)
        compressed = isinstance(file, gzip.GzipFile)
    record = _parse(raw, path)
    dimensions = int(record["dim"][0])
    sizes = [int(size) for size in record["dim"][1 : dimensions + 1]]
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    code = int(record["datatype"])
    if not 1 <= dimensions <= 7 or code not in _DATATYPES or not np.isfinite(record["vox_offset"]):
        raise _damaged(path, f"It has {dimensions} dimensions and voxels of type {code}.")
    slope, intercept = float(record["scl_slope"]), float(record["scl_inter"])
    if slope == 0 or not np.isfinite([slope, intercept]).all():
        slope, intercept = 1.0, 0.0
    offset, on_disk = max(int(record["vox_offset"]), 0), path.stat().st_size
    return NiftiHeader(
        path=path,
        sizes=tuple(sizes),
        dtype=np.dtype(_DATATYPES[code]).newbyteorder(record["dim"].dtype.byteorder),
        components=1,
        affine=_affine(record, path),
        capacity=on_disk * DEFLATE_RATIO if compressed else max(on_disk - offset, 0),
        offset=offset,
        slope=slope,
        intercept=intercept,
    )


def write_nifti(volume: Volume, path: Path) -> None:
    """Write a NIfTI-1 file, gzipped (level 1) when the name ends in `.gz`.

    The sform holds the affine; the qform, which cannot hold shear, is written only where it agrees.
    """
    from scipy.spatial.transform import Rotation

    voxels = np.ascontiguousarray(volume.voxels)
    affine = _RAS_TO_LPS @ volume.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    record = np.zeros((), _NIFTI1.newbyteorder("<"))
    record["sizeof_hdr"], record["magic"], record["vox_offset"] = _NIFTI1.itemsize, b"n+1", 352
    record["dim"] = [3, *voxels.shape[::-1], 1, 1, 1, 1]
    record["datatype"], record["bitpix"] = _CODES[voxels.dtype.newbyteorder("=")], 8 * voxels.dtype.itemsize
    record["scl_slope"], record["xyzt_units"] = 1, 2
    record["srow"], record["sform_code"], record["qoffset"] = affine[:3], 1, affine[:3, 3]
    record["pixdim"] = [1, *spacing, 0, 0, 0, 0]
    axes = affine[:3, :3] / spacing
    if np.allclose(axes.T @ axes, np.eye(3), atol=1e-5):
        sign = np.sign(np.linalg.det(axes))
        x, y, z, w = Rotation.from_matrix(axes * [1, 1, sign]).as_quat()
        record["quatern"], record["pixdim"][0] = np.array([x, y, z]) * (1 if w >= 0 else -1), sign
        record["qform_code"] = 1
    little = voxels.astype(voxels.dtype.newbyteorder("<"), copy=False)
    with path.open("wb") as raw:
        file = gzip.GzipFile("", "wb", 1, raw, 0) if path.suffix == ".gz" else raw
        with file:
            file.write(record.tobytes() + bytes(4))
            file.write(memoryview(little.data).cast("B"))


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return cast("IO[bytes]", gzip.open(path)) if compressed else path.open("rb")


def _parse(raw: bytes, path: Path) -> np.void:
    for native, magic in ((_NIFTI1, b"n+1"), (_NIFTI2, b"n+2")):
        for layout in (native.newbyteorder("<"), native.newbyteorder(">")):
            if len(raw) >= layout.itemsize:
                record = np.frombuffer(raw, layout, 1)[0]
                if record["magic"][:3] == magic and record["sizeof_hdr"] == layout.itemsize:
                    return cast("np.void", record)
    raise _damaged(path, "It does not begin with the header of a single-file NIfTI.")


def _affine(record: np.void, path: Path) -> Affine:
    units = _MM_PER_UNIT.get(int(record["xyzt_units"]) & 7, 1.0)
    scale = np.diag([units, units, units, 1.0])
    spacing = record["pixdim"][1:4].astype(np.float64) * units
    if int(record["sform_code"]) > 0:
        affine = scale @ np.vstack([record["srow"], [0, 0, 0, 1]]).astype(np.float64)
        if int(record["qform_code"]) > 0:
            _compare_forms(affine, scale @ _qform(record), record["dim"][1:4].astype(float), path)
        return _RAS_TO_LPS @ affine
    check_spacing(spacing.tolist(), path)
    if int(record["qform_code"]) > 0:
        return _RAS_TO_LPS @ scale @ _qform(record)
    warnings.warn(
        f"{path.name} does not say how it lies in the patient; its axes are taken as left, posterior, "
        "superior. Left and right may be swapped.",
        VolumeWarning,
        stacklevel=2,
    )
    return np.diag([*spacing, 1.0])


def _qform(record: np.void) -> Affine:
    b, c, d = record["quatern"].astype(np.float64)
    a = np.sqrt(max(1.0 - (b * b + c * c + d * d), 0.0))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    affine = np.eye(4)
    affine[:3, :3] = rotation * record["pixdim"][1:4] * [1, 1, -1 if record["pixdim"][0] < 0 else 1]
    affine[:3, 3] = record["qoffset"]
    return affine


def _compare_forms(sform: Affine, qform: Affine, sizes: NDArray[np.float64], path: Path) -> None:
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in sizes])).reshape(3, -1)
    apart = np.abs((sform - qform)[:3, :3] @ corners + (sform - qform)[:3, 3:]).max()
    if apart > _FORM_TOLERANCE_MM:
        warnings.warn(
            f"{path.name} says twice how it lies in the patient, {apart:.1f} mm apart; the sform is used. "
            "Programs that use the qform will show it elsewhere.",
            VolumeWarning,
            stacklevel=2,
        )


def _rescaled(voxels: NDArray, slope: float, intercept: float) -> NDArray:
    if (slope, intercept) == (1.0, 0.0):
        return compact(voxels)
    if voxels.dtype.kind in "iu" and slope == 1 and intercept.is_integer() and abs(intercept) < 2**31:
        return compact(voxels.astype(np.int64) + int(intercept))
    scaled = voxels.astype(np.float32)
    scaled *= np.float32(slope)
    scaled += np.float32(intercept)
    return scaled


def _damaged(path: Path, cause: str) -> VolumeError:
    return VolumeError(
        f"{path.name} is not a readable NIfTI file.",
        cause=cause,
        next_step="Copy or export the file again; save it as one .nii or .nii.gz file.",
    )
