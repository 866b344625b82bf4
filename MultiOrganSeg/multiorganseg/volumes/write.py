"""Write a volume or a label map, atomically and with its affine as it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from multiorganseg.atomic import atomic_path
from multiorganseg.errors import ResourceError, VolumeError
from multiorganseg.volumes.check import check_affine
from multiorganseg.volumes.nifti import write_nifti
from multiorganseg.volumes.nrrd_file import write_nrrd
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
