"""What a NRRD or MetaImage header says, in one form for both."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multiorganseg.volumes.check import Header, VolumeWarning
from multiorganseg.volumes.stored import Stored, damaged
from multiorganseg.volumes.volume import Affine

MAX_HEADER_BYTES = 16 << 20


@dataclass(frozen=True, eq=False)
class FileHeader(Header):
    """A NRRD or MetaImage header.

    Attributes:
        stored: Where the voxels lie.
        component_axis: Position of the axis of components in the stored array (slowest first); None without.
        slope: Factor from stored to true values.
        intercept: Added after the factor.
        pairs: The file's own key-value pairs.
    """

    stored: Stored
    component_axis: int | None = None
    slope: float = 1.0
    intercept: float = 0.0
    pairs: Mapping[str, str] = field(default_factory=dict)


def spatial_affine(columns: NDArray, origin: NDArray, path: Path) -> Affine:
    """Put the first three axes of a frame into an affine; a fourth, of one frame, must stand apart.

    Args:
        columns: One column an axis, at least three by three.
        origin: Place of the first voxel.
        path: Named in the error.

    Raises:
        VolumeError: Space and time are mixed.
    """
    if np.any(columns[3:, :3]) or np.any(columns[:3, 3:]):
        raise damaged(path, "Its axes of space are mixed with a fourth one.")
    affine = np.eye(4)
    affine[:3, :3] = columns[:3, :3]
    affine[:3, 3] = origin[:3]
    return affine


def warn_of_unknown_place(path: Path) -> None:
    """Warn that a header does not say where right and left are."""
    warnings.warn(
        f"{path.name} does not say how it lies in the patient; its axes are taken as left, posterior, "
        "superior. Left and right may be swapped.",
        VolumeWarning,
        stacklevel=2,
    )
