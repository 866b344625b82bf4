"""Resampling between lattices by shape, as other programs do it.

nnU-Net enlarges from outer border to outer border with cubic splines, and slice by slice where slices are far
apart (Isensee et al. 2021, "Resampling"); MONAI keeps the first voxel where it is and interpolates linearly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import zoom

SEPARATE_FROM = 3.0
CUBIC = 3

Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class AxisMap:
    """Where the positions along one axis lie along the same axis of another lattice.

    Attributes:
        below: Index of the neighbour below.
        above: Index of the neighbour above.
        share: Weight of the one above, in [0, 1].
    """

    below: NDArray[np.intp]
    above: NDArray[np.intp]
    share: NDArray[np.float32]

    def nearest(self) -> NDArray[np.intp]:
        """Return the nearer neighbour; the one below where both are as near."""
        return np.where(self.share > 0.5, self.above, self.below)


def axis_map(positions: NDArray[np.float64], size: int, *, nearest: bool = False) -> AxisMap:
    """Describe positions among `size` voxels; beyond the border, its value goes on."""
    inside = np.clip(np.floor(positions + 0.5) if nearest else positions, 0, size - 1)
    below = np.floor(inside).astype(np.intp)
    return AxisMap(below, np.minimum(below + 1, size - 1), (inside - below).astype(np.float32))


def border_positions(count: int, size: int) -> NDArray[np.float64]:
    """Return positions of `count` voxels among `size` that fill the same extent."""
    return (np.arange(count, dtype=np.float64) + 0.5) * size / count - 0.5


def spaced_positions(count: int, step: float) -> NDArray[np.float64]:
    """Return positions of `count` voxels whose first lies on the first."""
    return np.arange(count, dtype=np.float64) * step


def separate_axis(first: Spacing, second: Spacing) -> int | None:
    """Return the axis along which slices are far apart, by the first spacing and else by the second."""
    for spacing in (first, second):
        if max(spacing) / min(spacing) > SEPARATE_FROM:
            far = [axis for axis in range(3) if spacing[axis] == max(spacing)]
            return far[0] if len(far) == 1 else None
    return None


def resized_shape(shape: Shape, old: Spacing, new: Spacing) -> Shape:
    """Return the shape of a volume of another spacing from border to border."""
    k, j, i = (max(1, round(a / b * n)) for a, b, n in zip(old, new, shape, strict=True))
    return k, j, i


def spaced_shape(shape: Shape, old: Spacing, new: Spacing) -> Shape:
    """Return the shape of a volume of another spacing from first to last voxel."""
    k, j, i = (int(np.round((n - 1) * a / b + 1)) for a, b, n in zip(old, new, shape, strict=True))
    return k, j, i


def resize_spline(voxels: NDArray[np.float32], shape: Shape, separate: int | None) -> NDArray[np.float32]:
    """Resize by cubic splines from border to border; no value leaves the range of those that were there.

    Args:
        voxels: Array (k, j, i).
        shape: Wanted.
        separate: Axis whose slices are resized one by one, and then repeated or left out; None for none.
    """
    if voxels.shape == shape:
        return voxels
    if separate is None:
        return _spline(voxels, shape)
    planes = np.moveaxis(voxels, separate, 0)
    in_plane = tuple(size for axis, size in enumerate(shape) if axis != separate)
    resized = np.stack([_spline(plane, in_plane) for plane in planes])
    count, size = shape[separate], voxels.shape[separate]
    if count != size:
        resized = resized[axis_map(border_positions(count, size), size, nearest=True).below]
    return np.moveaxis(resized, 0, separate)


def _spline(voxels: NDArray[np.float32], shape: Sequence[int]) -> NDArray[np.float32]:
    if voxels.shape == tuple(shape):
        return voxels
    factors = [wanted / size for wanted, size in zip(shape, voxels.shape, strict=True)]
    wide = voxels.astype(np.float64)
    resized = zoom(wide, factors, order=CUBIC, mode="nearest", grid_mode=True)
    return np.clip(resized, wide.min(), wide.max()).astype(np.float32)


def interpolate_linear(voxels: NDArray, maps: Sequence[AxisMap]) -> NDArray[np.float32]:
    """Interpolate linearly along each axis in turn."""
    result = voxels.astype(np.float32)
    for axis, place in enumerate(maps):
        below, above = np.take(result, place.below, axis), np.take(result, place.above, axis)
        share = place.share.reshape([-1 if a == axis else 1 for a in range(result.ndim)])
        result = below + share * (above - below)
    return result
