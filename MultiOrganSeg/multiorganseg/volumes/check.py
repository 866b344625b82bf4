"""What a volume must fulfil before anything is computed with it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multiorganseg.errors import ResourceError, VolumeError
from multiorganseg.memory import available_memory
from multiorganseg.volumes.volume import Affine, Volume

DEFLATE_RATIO = 1032
"""No deflate stream expands further than this: 258 bytes from 2 bits (RFC 1951)."""

_SPACING_RANGE = (0.01, 100.0)
_MAX_NON_FINITE = 0.01
_MIN_DETERMINANT = 0.01


class VolumeWarning(UserWarning):
    """A volume was usable only after something in it was mended, guessed or left out."""


@dataclass(frozen=True, eq=False)
class Header:
    """What a file says about its voxels before they are read.

    Attributes:
        path: The file or folder.
        sizes: Number of voxels along (i, j, k, …): fastest axis first, as in the file.
        dtype: Type of one stored component.
        components: Components a voxel; 1 for a scalar image.
        affine: See `Grid.affine`.
        capacity: The most bytes of voxels that the data on disk can hold, decompressed.
    """

    path: Path
    sizes: tuple[int, ...]
    dtype: np.dtype
    components: int
    affine: Affine
    capacity: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Array shape (…, k, j, i)."""
        return self.sizes[::-1]

    @property
    def nbytes(self) -> int:
        """Bytes that the voxels take in memory, as an unbounded integer."""
        total = self.dtype.itemsize * self.components
        for size in self.sizes:
            total *= size
        return total


def check_header(header: Header, *, layered: bool = False) -> None:
    """Refuse what cannot be segmented or what the file cannot hold, before memory is taken.

    Args:
        header: What the file says.
        layered: Whether several components are allowed (layers of a segmentation file).

    Raises:
        VolumeError: Not a scalar 3-D volume, an impossible geometry, or more voxels than the file can hold.
        ResourceError: The voxels do not fit into the memory that is free.
    """
    name, sizes = header.path.name, " × ".join(map(str, header.sizes))
    if header.dtype.kind not in "iuf" or (header.components > 1 and not layered):
        msg = f"{name} is a colour, vector or complex image."
        raise VolumeError(
            msg,
            cause=f"Each voxel has {header.components} component(s) of type {header.dtype}.",
            next_step="Choose the CT itself, with one number a voxel.",
        )
    if not header.sizes or min(header.sizes) < 1:
        msg = f"{name} is empty."
        raise VolumeError(msg, cause=f"Its header says {sizes} voxels.", next_step="Export the image again.")
    if len(header.sizes) > 3:
        msg = f"{name} has {len(header.sizes)} dimensions."
        raise VolumeError(
            msg,
            cause=f"Its header says {sizes} voxels; a time series or several images lie in one file.",
            next_step="Save one time point or one image as a 3-D file and pass that.",
        )
    if len(header.sizes) < 3 or min(header.sizes) == 1:
        msg = f"{name} is a single slice."
        raise VolumeError(
            msg,
            cause=f"Its header says {sizes} voxels.",
            next_step="Pass the whole volume, for DICOM the folder with all slices.",
        )
    check_affine(header.affine, header.path)
    if header.nbytes > header.capacity:
        msg = f"{name} is truncated or its header is wrong."
        raise VolumeError(
            msg,
            cause=f"{sizes} voxels take {header.nbytes:,} bytes; at most {header.capacity:,} can be there.",
            next_step="Copy or export the file again.",
        )
    free = available_memory()
    if header.nbytes > free:
        msg = f"{name} does not fit into memory."
        raise ResourceError(
            msg,
            cause=f"Its voxels take {header.nbytes / 2**30:.1f} GiB; {free / 2**30:.1f} GiB are free.",
            next_step="Close other programs, or crop the image first.",
        )


def check_spacing(spacing: Sequence[float], path: Path) -> None:
    """Refuse voxel distances (mm) that are zero, negative, not finite or implausible.

    Raises:
        VolumeError: A distance lies outside 0.01…100 mm.
    """
    low, high = _SPACING_RANGE
    if not all(low <= value <= high for value in spacing):
        msg = f"{path.name} has an impossible voxel spacing."
        raise VolumeError(
            msg,
            cause=f"Its header says {' × '.join(f'{value:g}' for value in spacing)} mm.",
            next_step=f"Correct the spacing in the file's header to {low}…{high} mm, or export it again.",
        )


def check_affine(affine: Affine, path: Path) -> None:
    """Refuse an affine that does not place voxels uniquely in the patient.

    Raises:
        VolumeError: Entries are not finite, a spacing is impossible, or the axes are linearly dependent.
    """
    columns = affine[:3, :3]
    spacing = np.linalg.norm(columns, axis=0)
    if np.isfinite(affine).all():
        check_spacing(spacing.tolist(), path)
        if abs(np.linalg.det(columns / spacing)) >= _MIN_DETERMINANT:
            return
    msg = f"{path.name} has an impossible orientation."
    raise VolumeError(
        msg,
        cause="Its three axes do not span space, or its position is not a number.",
        next_step="Correct the direction in the file's header, or export the image again.",
    )


def compact(voxels: NDArray, *, narrow: bool = False) -> NDArray:
    """Return voxels the types that the engine works with.

    Args:
        voxels: Any real array.
        narrow: Also turn wide integers into int16 where the range allows.

    Returns:
        Floats as float32; 64-bit integers as int16 or int32 where they fit, else float32; others as they are.
    """
    kind, width = voxels.dtype.kind, voxels.dtype.itemsize
    if kind == "f":
        return voxels.astype(np.float32, copy=False)
    if kind == "b":
        return voxels.astype(np.uint8)
    if width < 8 and not (narrow and width == 4):
        return voxels
    low, high = int(voxels.min()), int(voxels.max())
    for dtype in (np.int16, np.int32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return voxels.astype(dtype, copy=False)
    return voxels if width < 8 else voxels.astype(np.float32)


def check_voxels(volume: Volume) -> Volume:
    """Refuse voxels with nothing to segment; mend a few that are not finite.

    Returns:
        The volume; NaN and −inf replaced by the smallest, +inf by the largest finite voxel, with a
        `VolumeWarning`.

    Raises:
        VolumeError: More than 1 % of the voxels are not finite, or all voxels are equal.
    """
    voxels = volume.voxels
    if voxels.dtype.kind == "f":
        finite = np.isfinite(voxels)
        bad = voxels.size - int(np.count_nonzero(finite))
        if bad > _MAX_NON_FINITE * voxels.size:
            msg = f"{volume.source} has voxels that are not numbers."
            raise VolumeError(
                msg,
                cause=f"{100 * bad / voxels.size:.1f} % of the voxels are NaN or infinite.",
                next_step="Replace them by the value of air (−1024 HU for CT), or export the image again.",
            )
        if bad:
            low, high = voxels.min(where=finite, initial=np.inf), voxels.max(where=finite, initial=-np.inf)
            voxels = np.nan_to_num(voxels, nan=low, posinf=high, neginf=low)
            volume = replace(volume, voxels=voxels)
            warnings.warn(
                f"{volume.source}: {bad} voxels that were NaN or infinite were set to {low:g} or {high:g}.",
                VolumeWarning,
                stacklevel=2,
            )
    low, high = voxels.min(), voxels.max()
    if low == high:
        msg = f"{volume.source} shows nothing."
        raise VolumeError(
            msg,
            cause=f"All voxels have the value {low}.",
            next_step="Check that the right image was exported.",
        )
    return volume
