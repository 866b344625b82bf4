"""NRRD and MetaImage files: the header is understood here in full before any voxel is read.

Nothing of such a file is handed to SimpleITK, whose readers crash on headers that are not as they expect and
pass over statements (spaces, units, slopes) that decide what the voxels mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multiorganseg.errors import VolumeError
from multiorganseg.volumes.file_header import FileHeader
from multiorganseg.volumes.metaimage_header import read_metaimage_header
from multiorganseg.volumes.nrrd_header import read_nrrd_header
from multiorganseg.volumes.stored import damaged, not_opened, read_stored, rescaled

NRRD_SUFFIXES = (".nrrd", ".nhdr")
_DETACHED = (".mhd", ".nhdr")


def read_image_header(path: Path) -> tuple[FileHeader, Mapping[str, str]]:
    """Read the header of a .nrrd, .nhdr, .mha or .mhd file, not its voxels.

    Returns:
        The header and the file's own key-value pairs.

    Raises:
        VolumeError: The header is damaged, says what cannot be honoured, its spacing is impossible, or a data
            file that it names is missing.
    """
    reader = read_nrrd_header if path.suffix.lower() in NRRD_SUFFIXES else read_metaimage_header
    try:
        header = reader(path)
    except (ValueError, OverflowError) as error:
        raise damaged(path, f"Its header is damaged: {error}") from error
    except OSError as error:
        raise not_opened(path, error) from error
    return header, header.pairs


def detached_files(path: Path) -> tuple[Path, ...]:
    """Name the files beside a header that hold its voxels; none for a file that holds them itself.

    Raises:
        VolumeError: As `read_image_header`.
    """
    return read_image_header(path)[0].stored.files if path.suffix.lower() in _DETACHED else ()


def read_image_voxels(header: FileHeader) -> NDArray:
    """Read the voxels of a header that `check_header` has passed.

    Returns:
        True values (k, j, i), or (k, j, i, component) where there are several.

    Raises:
        VolumeError: The data are damaged.
    """
    shape, axis = list(header.shape), header.component_axis
    if axis is not None:
        shape.insert(axis, header.components)
    voxels = read_stored(header.stored, tuple(shape), header.dtype, header.path)
    voxels = rescaled(voxels, header.slope, header.intercept)
    return voxels if axis is None else np.moveaxis(voxels, axis, -1)


def unreadable(path: Path, error: RuntimeError) -> VolumeError:
    """Turn SimpleITK's message on a DICOM slice into ours."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return damaged(path, lines[-1] if lines else "SimpleITK gives no reason.")
