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
    check_affine,
    check_header,
    check_spacing,
)
from multiorganseg.volumes.stored import native, not_opened, rescaled
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
_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_NO_IMAGE_INTENTS = frozenset({*range(2, 25), *range(1004, 1011)})
"""Statistics, matrices, vectors, points, triangles and quaternions."""
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_DAMAGES = (EOFError, zlib.error, gzip.BadGzipFile)
_FORM_TOLERANCE_MM = 1.0
_QUATERNION_TOLERANCE = 1e-3
_ROUNDING_MM = 1e-3


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
    header = read_nifti_header(path)
    check_header(header)
    try:
        voxels = np.empty(header.shape, header.dtype)
        with _open(path) as file:
            file.seek(header.offset)
            buffer, filled = memoryview(voxels.data).cast("B"), 0
            while count := file.readinto(buffer[filled:]):  # type: ignore[attr-defined]
                filled += count
            file.read(1)  # makes gzip verify its checksum
    except _DAMAGES as error:
        raise _damaged(path, str(error)) from error
    if filled != voxels.nbytes:
        raise _damaged(path, f"Of {voxels.nbytes:,} bytes only {filled:,} are there.")
    return Volume(rescaled(native(voxels), header.slope, header.intercept), header.affine, str(path))


def read_nifti_header(path: Path) -> NiftiHeader:
    """Read the header alone.

    Raises:
        VolumeError: It is not a single-file NIfTI header.
    """
    record, compressed = _record(path)
    dimensions = int(record["dim"][0])
    sizes = [int(size) for size in record["dim"][1 : dimensions + 1]]
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    code = int(record["datatype"])
    if not 1 <= dimensions <= 7 or code not in _DATATYPES:
        raise _damaged(path, f"It has {dimensions} dimensions and voxels of type {code}.")
    if int(record["intent_code"]) in _NO_IMAGE_INTENTS:
        msg = f"{path.name} is no image of the body."
        raise VolumeError(
            msg,
            cause=f"Its intent {int(record['intent_code'])} says that it holds statistics or vectors.",
            next_step="Choose the CT itself.",
        )
    slope, intercept = _scaling(record, path)
    on_disk = path.stat().st_size
    offset = _offset(record, on_disk * DEFLATE_RATIO if compressed else on_disk, path)
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


def read_nifti_qform(path: Path) -> Affine | None:
    """Return the qform of a NIfTI file as an affine to LPS mm; None when it has none that can be used.

    Raises:
        VolumeError: It is not a single-file NIfTI header.
    """
    record, _ = _record(path)
    qform = _qform(record, _units(record, path))
    return None if qform is None else _RAS_TO_LPS @ qform


def write_nifti(volume: Volume, path: Path, *, qform: Affine | None = None) -> None:
    """Write a NIfTI-1 file, gzipped (level 1) when the name ends in `.gz`.

    The sform holds the affine. The qform cannot hold shear: of a sheared affine it is the one given, else the
    nearest one, and none where that would miss a voxel by half its size or by 1 mm.

    Args:
        volume: What to write.
        path: Of the file.
        qform: Affine without shear, to LPS mm, by which other programs place the input of which this is a
            result; ITK and 3D Slicer read a sheared file by it, and not at all without it.
    """
    from scipy.spatial.transform import Rotation

    voxels = np.ascontiguousarray(volume.voxels)
    affine = _RAS_TO_LPS @ volume.affine
    record = np.zeros((), _NIFTI1.newbyteorder("<"))
    record["sizeof_hdr"], record["magic"], record["vox_offset"] = _NIFTI1.itemsize, b"n+1", 352
    record["dim"] = [3, *voxels.shape[::-1], 1, 1, 1, 1]
    record["datatype"], record["bitpix"] = _CODES[voxels.dtype.newbyteorder("=")], 8 * voxels.dtype.itemsize
    record["scl_slope"], record["xyzt_units"], record["descrip"] = 1, 2, b"MultiOrganSeg"
    record["srow"], record["sform_code"] = affine[:3], 1
    sizes = np.array(voxels.shape[::-1], float)
    nearest = _without_shear(affine, sizes)
    apart = _apart(affine, nearest, sizes)
    if qform is not None and apart > _ROUNDING_MM:
        nearest = _RAS_TO_LPS @ qform
    elif apart >= min(0.5 * np.linalg.norm(affine[:3, :3], axis=0).min(), _FORM_TOLERANCE_MM):
        nearest = affine
    spacing = np.linalg.norm(nearest[:3, :3], axis=0)
    axes = nearest[:3, :3] / spacing
    record["pixdim"], record["qoffset"] = [1, *spacing, 0, 0, 0, 0], nearest[:3, 3]
    if nearest is not affine:
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


def _record(path: Path) -> tuple[np.void, bool]:
    """Read the header's fields, and whether the file is compressed."""
    try:
        with _open(path) as file:
            return _parse(file.read(_NIFTI2.itemsize), path), isinstance(file, gzip.GzipFile)
    except _DAMAGES as error:
        raise _damaged(path, str(error)) from error
    except OSError as error:
        raise not_opened(path, error) from error


def _parse(raw: bytes, path: Path) -> np.void:
    for version, magic in ((_NIFTI1, b"n+1"), (_NIFTI2, b"n+2")):
        for layout in (version.newbyteorder("<"), version.newbyteorder(">")):
            if len(raw) >= layout.itemsize:
                record = np.frombuffer(raw, layout, 1)[0]
                if record["magic"][:3] == magic and record["sizeof_hdr"] == layout.itemsize:
                    return cast("np.void", record)
    raise _damaged(path, "It does not begin with the header of a single-file NIfTI.")


def _units(record: np.void, path: Path) -> float:
    code = int(record["xyzt_units"]) & 7
    if code not in _MM_PER_UNIT:
        raise _damaged(path, f"Its unit of length has the unknown code {code}.")
    return _MM_PER_UNIT[code]


def _scaling(record: np.void, path: Path) -> tuple[float, float]:
    """Return slope and intercept; a slope of 0, and one that is no number, means that nothing is scaled."""
    slope, intercept = float(record["scl_slope"]), float(record["scl_inter"])
    if slope == 0 or np.isnan(slope):
        return 1.0, 0.0
    if not np.isfinite([slope, intercept]).all():
        raise _damaged(path, f"Its values are scaled by {slope} and {intercept}.")
    return slope, intercept


def _offset(record: np.void, size: int, path: Path) -> int:
    """Return where the voxels begin: behind the header, and within the file."""
    offset = float(record["vox_offset"])
    if not (offset.is_integer() and int(record["sizeof_hdr"]) <= offset <= size):
        raise _damaged(path, f"Its voxels are said to begin at byte {offset:g}.")
    return int(offset)


def _affine(record: np.void, path: Path) -> Affine:
    units = _units(record, path)
    spacing = (record["pixdim"][1:4].astype(np.float64) * units).tolist()
    qform = _qform(record, units)
    if int(record["sform_code"]) > 0:
        sform = np.diag([units, units, units, 1.0]) @ np.vstack([record["srow"], [0, 0, 0, 1]])
        try:
            check_affine(sform, path)
        except VolumeError:
            if qform is None:
                raise
            _warn(f"{path.name} has an sform that is impossible; its qform is used.")
            return _RAS_TO_LPS @ qform
        if qform is not None:
            _compare_forms(sform, qform, record["dim"][1:4].astype(float), path)
        else:
            _compare_spacing(np.linalg.norm(sform[:3, :3], axis=0), np.array(spacing), path)
        return _RAS_TO_LPS @ sform
    check_spacing(spacing, path)
    if qform is not None:
        return _RAS_TO_LPS @ qform
    if int(record["qform_code"]) > 0:
        raise _damaged(path, "Its quaternion is not of unit length, or its position is not a number.")
    _warn(
        f"{path.name} does not say how it lies in the patient; its axes are taken as left, posterior, "
        "superior. Left and right may be swapped."
    )
    return np.diag([*spacing, 1.0])


def _qform(record: np.void, units: float) -> Affine | None:
    """Return the qform in RAS mm; None where there is none or its numbers cannot be used."""
    from scipy.spatial.transform import Rotation

    spacing, vector = record["pixdim"][1:4].astype(np.float64), record["quatern"].astype(np.float64)
    offset, square = record["qoffset"].astype(np.float64), float(np.sum(vector**2))
    usable = np.isfinite([*spacing, *offset]).all() and spacing.min() > 0
    if int(record["qform_code"]) <= 0 or not usable or not square <= 1 + _QUATERNION_TOLERANCE:
        return None
    rotation = Rotation.from_quat([*vector, np.sqrt(max(1.0 - square, 0.0))]).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = rotation * spacing * [1, 1, -1 if record["pixdim"][0] < 0 else 1]
    affine[:3, 3] = offset
    affine[:3] *= units
    return affine


def _without_shear(affine: Affine, sizes: NDArray[np.float64]) -> Affine:
    """Return the nearest affine with axes at right angles, of the same spacing and centre."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    left, _, right = np.linalg.svd(affine[:3, :3] / spacing)
    nearest = affine.copy()
    nearest[:3, :3] = (left @ right) * spacing
    nearest[:3, 3] += (affine - nearest)[:3, :3] @ (0.5 * (sizes - 1))
    return nearest


def _apart(one: Affine, other: Affine, sizes: NDArray[np.float64]) -> float:
    """How far apart two affines put the corners of a volume, along one axis of the patient, in mm."""
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in sizes])).reshape(3, -1)
    return float(np.abs((one - other)[:3, :3] @ corners + (one - other)[:3, 3:]).max())


def _compare_forms(sform: Affine, qform: Affine, sizes: NDArray[np.float64], path: Path) -> None:
    apart = _apart(sform, qform, sizes)
    if apart > _FORM_TOLERANCE_MM:
        _warn(
            f"{path.name} says twice how it lies in the patient, {apart:.1f} mm apart; the sform is used. "
            "Programs that use the qform will show it elsewhere."
        )


def _compare_spacing(sform: NDArray[np.float64], stated: NDArray[np.float64], path: Path) -> None:
    if not np.allclose(sform, stated, rtol=0.01):
        sizes = [" × ".join(f"{size:.4g}" for size in spacing) for spacing in (sform, stated)]
        _warn(
            f"{path.name} says twice how large its voxels are: {sizes[0]} mm by its sform, which is used, "
            f"and {sizes[1]} mm by pixdim. Programs that use pixdim will measure other volumes."
        )


def _warn(text: str) -> None:
    warnings.warn(text, VolumeWarning, stacklevel=2)


def _damaged(path: Path, cause: str) -> VolumeError:
    return VolumeError(
        f"{path.name} is not a readable NIfTI file.",
        cause=cause,
        next_step="Copy or export the file again; save it as one .nii or .nii.gz file.",
    )
