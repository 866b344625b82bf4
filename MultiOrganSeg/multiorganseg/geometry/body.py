"""The box around the patient: what lies outside carries no information for the network."""

from __future__ import annotations

import cc3d
import numpy as np
from numpy.typing import NDArray

from multiorganseg.geometry.crop import Crop
from multiorganseg.volumes.volume import Grid

SUBSAMPLING_MM = 6.0
MARGIN_MM = 12.0
SMALLEST_END_MM2 = 100.0
SMALLEST_PART = 0.1
AIR_SHARE_OF_WINDOW = 0.05


def air_threshold(window: tuple[float, float]) -> float:
    """Return the intensity below which voxels look like air to a network with this window.

    It lies a twentieth of the window above its lower end, so that noise and lossy compression of clipped
    air do not count as patient.
    """
    low, high = window
    return low + AIR_SHARE_OF_WINDOW * (high - low)


def body_crop(
    voxels: NDArray, grid: Grid, threshold: float, leaning: bool = False, widest_mm: float = np.inf
) -> Crop:
    """Find the box around the patient, whatever lies around it.

    Parts smaller than a tenth of the largest one (table, blankets, tubes) are left out on a coarse subsample;
    the ends are then sought on the volume itself, so that air around the patient does not move the box. In
    the plane a margin stays. Along k there is none, since planes of air tell nothing and shorten the scan,
    but around a leaning volume: its border is repeated in the corners of an upright box, where air belongs.

    Args:
        voxels: Array (k, j, i).
        grid: Its grid.
        threshold: Voxels above it belong to the patient; see `air_threshold`.
        leaning: Whether the crop is to be interpolated onto upright axes.
        widest_mm: Where all parts together are wider along i, the largest alone is kept: an arm that lies
            beside the trunk would move the network's windows off it.

    Returns:
        The crop; the whole grid when nothing lies above the threshold.
    """
    steps = [max(1, round(SUBSAMPLING_MM / spacing)) for spacing in grid.spacing]
    coarse = voxels[:: steps[0], :: steps[1], :: steps[2]] > threshold
    parts = cc3d.connected_components(coarse, connectivity=6)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    kept = np.isin(parts, np.flatnonzero(sizes > SMALLEST_PART * sizes.max()))
    columns = np.flatnonzero(kept.any(axis=(0, 1)))
    if columns.size and (columns[-1] - columns[0]) * steps[2] * grid.spacing[2] > widest_mm:
        kept = parts == sizes.argmax()
    rough = []
    for axis, (step, size) in enumerate(zip(steps, grid.shape, strict=True)):
        occupied = np.flatnonzero(kept.any(axis=tuple(other for other in range(3) if other != axis)))
        if not occupied.size:
            return Crop.whole(grid)
        rough.append(slice(max(0, (int(occupied[0]) - 1) * step), min(size, (int(occupied[-1]) + 2) * step)))
    box = []
    for axis, (step, spacing, size) in enumerate(zip(steps, grid.spacing, grid.shape, strict=True)):
        margin = int(np.ceil(MARGIN_MM / spacing)) if axis or leaning else 0
        first, last = _ends(voxels, rough, axis, step, grid, threshold)
        box.append(slice(max(0, first - margin), min(size, last + 1 + margin)))
    return Crop(grid, (box[0], box[1], box[2]))


def _ends(
    voxels: NDArray, rough: list[slice], axis: int, step: int, grid: Grid, threshold: float
) -> tuple[int, int]:
    """Find the first and last plane across an axis in which the patient has an area, near the rough ends."""
    start, stop = rough[axis].start, rough[axis].stop
    area = float(np.prod(np.delete(np.asarray(grid.spacing), axis)))
    others = tuple(other for other in range(3) if other != axis)

    def occupied(first: int, end: int) -> NDArray[np.intp]:
        where = [*rough]
        where[axis] = slice(first, end)
        counts = np.count_nonzero(voxels[tuple(where)] > threshold, axis=others)
        return first + np.flatnonzero(counts * area >= SMALLEST_END_MM2)

    near = min(3 * step, stop - start)
    low, high = occupied(start, start + near), occupied(stop - near, stop)
    return int(low[0]) if low.size else start, int(high[-1]) if high.size else stop - 1
