"""Whether an image is in a project already, under another name."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multiorganseg.errors import VolumeError
from multiorganseg.geometry.orient import reorient
from multiorganseg.volumes.read import read_volume
from multiorganseg_training.project.case_files import file_grid
from multiorganseg_training.project.project import Project


def digest(voxels: NDArray) -> str:
    """Hash of the values of an array, whatever its type."""
    return hashlib.sha256(np.ascontiguousarray(voxels, dtype=np.float32).tobytes()).hexdigest()


def cases_with_image(project: Project, image: Path) -> list[str]:
    """Names of the cases whose image has the very voxels of another one, in whichever order of the axes.

    Only images of the same size are read. One that cannot be read is like no other: whether it may be in the
    project is not judged here.

    Args:
        project: Where to look.
        image: A file, or a folder with a DICOM series.
    """
    wanted = _digest_of(image)
    if wanted is None:
        return []
    paths = {case: project.image_path(case) for case in project.cases}
    return [
        case for case, path in paths.items() if _size_of(path) == wanted[0] and _digest_of(path) == wanted
    ]


def _size_of(path: Path) -> tuple[int, ...] | None:
    try:
        return reorient(file_grid(path)).target.shape
    except VolumeError:
        return None


def _digest_of(path: Path) -> tuple[tuple[int, ...], str] | None:
    try:
        volume = read_volume(path)
    except VolumeError:
        return None
    turn = reorient(volume.grid)
    return turn.target.shape, digest(turn.apply(volume.voxels))
