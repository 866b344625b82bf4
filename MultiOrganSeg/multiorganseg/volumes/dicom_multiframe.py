"""Read an enhanced (multi-frame) CT or MR through highdicom."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from multiorganseg.errors import DependencyError, MultiOrganSegError, VolumeError
from multiorganseg.volumes.check import DEFLATE_RATIO, Header, check_header, compact
from multiorganseg.volumes.volume import Volume


def read_multiframe(files: Sequence[Path]) -> Volume:
    """Read a series that is one multi-frame file; every frame's own rescale is applied.

    Raises:
        VolumeError: Several files, or frames that form no regular volume.
        DependencyError: highdicom is not installed.
    """
    path = files[0]
    if len(files) > 1:
        msg = f"The series in {path.parent} consists of {len(files)} multi-frame files."
        raise VolumeError(
            msg,
            cause="They hold several time points, phases or stacks.",
            next_step="Put the wanted file into a folder of its own and pass that.",
        )
    try:
        import highdicom
    except ImportError as error:
        msg = f"{path.name} is a multi-frame DICOM file, which needs highdicom."
        raise DependencyError(
            msg,
            cause=str(error),
            next_step='Install it with: pip install "multiorganseg[dicom]"',
        ) from error
    try:
        image = highdicom.imread(path, lazy_frame_retrieval=True)
        geometry = image.get_volume_geometry()
        if geometry is None:
            raise _irregular(path, "Its frames are not parallel, evenly spaced and complete.")
        frames, rows, columns = geometry.spatial_shape
        affine = np.eye(4)
        affine[:3, :3] = geometry.affine[:3, 2::-1]
        affine[:3, 3] = geometry.affine[:3, 3]
        header = Header(
            path=path,
            sizes=(columns, rows, frames),
            dtype=np.dtype(np.float32),
            components=int(image.SamplesPerPixel),
            affine=affine,
            capacity=2 * DEFLATE_RATIO * path.stat().st_size,
        )
        check_header(header)
        voxels = image.get_volume(dtype=np.float32, apply_real_world_transform=False).array
    except MultiOrganSegError:
        raise
    except Exception as error:  # highdicom lets errors of any type escape from damaged bytes
        raise _irregular(path, str(error) or type(error).__name__) from error
    whole = voxels.astype(np.int32)
    return Volume(compact(whole, narrow=True) if np.array_equal(whole, voxels) else voxels, affine, str(path))


def _irregular(path: Path, cause: str) -> VolumeError:
    return VolumeError(
        f"The frames of {path.name} form no regular volume.",
        cause=cause,
        next_step="Export the series as single-frame DICOM or NIfTI.",
    )
