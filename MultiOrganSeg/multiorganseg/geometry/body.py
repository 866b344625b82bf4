"""The box around the patient: what lies outside carries no information for the network."""

from __future__ import annotations

import cc3d
import numpy as np
from numpy.typing import NDArray

from multiorganseg.geometry.crop import Crop
from multiorganseg.volumes.volume import Grid

SUBSAMPLING_MM = 6.0
MARGIN_MM = 12.0
SMALLEST_PART = 0.1
AIR_SHARE_OF_WINDOW = 0.05


def air_threshold(window: tuple[float, float]) -> float:
    """Return the intensity below which voxels look like air to a network with this window.

    It lies a twentieth of the window above its lower end, so that noise and lossy compression of clipped
    air do not count as patient.
    """
    low, high = window
    return low + AIR_SHARE_OF_WINDOW * (high - low)


def body_crop(voxels: NDArray, grid: Grid, threshold: float) -> Crop:
    """Find the box around the patient on a coarse subsample of the volume.

    Parts smaller than a tenth of the largest one (table, blankets, tubes) are left out.

    Args:
        voxels: Array (k, j, i).
        grid: Its grid.
        threshold: Voxels above it belong to the patient; see `air_threshold`.

    Returns:
        The crop; the whole grid when nothing lies above the threshold.
    """
    steps = [max(1, round(SUBSAMPLING_MM / spacing)) for spacing in grid.spacing]
    coarse = voxels[:: steps[0], :: steps[1], :: steps[2]] > threshold
    parts = cc3d.connected_components(coarse, connectivity=6)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    kept = np.isin(parts, np.flatnonzero(sizes > SMALLEST_PART * sizes.max()))
    box = []
    for axis, (step, spacing, size) in enumerate(zip(steps, grid.spacing, grid.shape, strict=True)):
        occupied = np.flatnonzero(kept.any(axis=tuple(other for other in range(3) if other != axis)))
        if not occupied.size:
            return Crop.whole(grid)
        margin = int(np.ceil(MARGIN_MM / spacing))
        box.append(
            slice(
                max(0, int(occupied[0]) * step - margin), min(size, (int(occupied[-1]) + 1) * step + margin)
            )
        )
    return Crop(grid, (box[0], box[1], box[2]))
