"""Reorientation to the canonical axes by transposing and flipping, without interpolation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from multiorganseg.volumes.volume import Grid


@dataclass(frozen=True, eq=False)
class Reorient:
    """Transposition and flips between a grid and its canonical version.

    Canonical means that the array axes (k, j, i) run as nearly as possible towards superior, posterior and
    left: an LPS direction matrix nearest to the identity.

    Attributes:
        source: The grid as it came.
        target: The canonical grid, with the same voxel centres.
        axes: Source array axis of each target array axis.
        flipped: Target array axes that run against their source axis.
    """

    source: Grid
    target: Grid
    axes: tuple[int, ...]
    flipped: tuple[int, ...]

    def apply(self, array: NDArray) -> NDArray:
        """Return a view of a (k, j, i) array in canonical orientation."""
        return np.flip(array.transpose(self.axes), self.flipped)

    def invert(self, array: NDArray) -> NDArray:
        """Return a view of a canonical array in the source's orientation."""
        return np.flip(array, self.flipped).transpose(np.argsort(self.axes))


def reorient(grid: Grid) -> Reorient:
    """Find the transposition and flips that bring `grid` nearest to the LPS axes."""
    directions = grid.directions
    _, source_axis = linear_sum_assignment(-np.abs(directions))
    columns = [grid.affine[:3, s] for s in source_axis]
    origin = grid.affine[:3, 3].copy()
    flipped_xyz = [axis for axis, s in enumerate(source_axis) if directions[axis, s] < 0]
    sizes_ijk = grid.shape[::-1]
    for axis in flipped_xyz:
        origin += columns[axis] * (sizes_ijk[source_axis[axis]] - 1)
        columns[axis] = -columns[axis]
    affine = np.eye(4)
    affine[:3, :3] = np.stack(columns, axis=1)
    affine[:3, 3] = origin
    axes = tuple(2 - int(s) for s in source_axis[::-1])
    k, j, i = (grid.shape[axis] for axis in axes)
    return Reorient(grid, Grid((k, j, i), affine), axes, tuple(2 - axis for axis in flipped_xyz))
