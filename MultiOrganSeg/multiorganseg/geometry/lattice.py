"""Labels whose voxel centres are those of another grid, though in other axes, another extent or rounded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multiorganseg.geometry.resample import index_map
from multiorganseg.volumes.volume import Grid

TOLERANCE_VOXELS = 0.1


@dataclass(frozen=True, eq=False)
class SharedLattice:
    """How the voxels of one grid are those of another, without interpolation.

    Attributes:
        target: The other grid.
        axes: For each axis of the target, the axis of the source that runs along it.
        signs: 1 where both run the same way, −1 where they run against each other.
        start: Index in the target, along each of its axes, of the source's first voxel; may be negative.
        shape: Of the source, along the target's axes.
    """

    target: Grid
    axes: tuple[int, int, int]
    signs: tuple[int, int, int]
    start: tuple[int, int, int]
    shape: tuple[int, int, int]

    @property
    def covers_target(self) -> bool:
        """Whether the source reaches over the whole target."""
        ends = zip(self.start, self.shape, self.target.shape, strict=True)
        return all(start <= 0 and start + count >= size for start, count, size in ends)

    def place(self, labels: NDArray[np.unsignedinteger]) -> tuple[NDArray[np.unsignedinteger], int]:
        """Put labels onto the target.

        Args:
            labels: Array (k, j, i) on the source grid.

        Returns:
            Labels on the target grid, 0 where the source does not reach, and the number of labelled voxels
            that lie outside the target and are lost.
        """
        moved = labels.transpose(self.axes)[tuple(slice(None, None, sign) for sign in self.signs)]
        placed = np.zeros(self.target.shape, labels.dtype)
        inside, of_source = [], []
        for start, count, size in zip(self.start, self.shape, self.target.shape, strict=True):
            low, high = max(start, 0), min(start + count, size)
            inside.append(slice(low, max(high, low)))
            of_source.append(slice(low - start, max(high, low) - start))
        placed[tuple(inside)] = moved[tuple(of_source)]
        return placed, int(np.count_nonzero(labels)) - int(np.count_nonzero(placed))


def shared_lattice(source: Grid, target: Grid) -> SharedLattice | None:
    """Return whether the voxel centres of one grid are those of another, carried on where it ends.

    Rounded numbers in a header let centres drift; up to a tenth of a voxel at any corner counts as the same.

    Returns:
        How they map; None when they do not.
    """
    matrix, offset = index_map(source, target)
    turn = np.rint(matrix)
    if not (np.abs(turn).sum(axis=0) == 1).all() or not (np.abs(turn).sum(axis=1) == 1).all():
        return None
    last = np.array(source.shape) - 1
    middle = 0.5 * last
    shift = np.rint((matrix - turn) @ middle + offset)
    corners = np.array(np.meshgrid(*[(0, end) for end in last], indexing="ij")).reshape(3, -1)
    drift = (matrix - turn) @ corners + (offset - shift)[:, None]
    if np.abs(drift).max() > TOLERANCE_VOXELS:
        return None
    axes = np.abs(turn).argmax(axis=1)
    signs = turn[np.arange(3), axes].astype(int)
    start = np.where(signs > 0, shift, shift - last[axes]).astype(int)
    k, j, i = (
        (int(axis), int(sign), int(first), source.shape[axis])
        for axis, sign, first in zip(axes, signs, start, strict=True)
    )
    return SharedLattice(
        target, (k[0], j[0], i[0]), (k[1], j[1], i[1]), (k[2], j[2], i[2]), (k[3], j[3], i[3])
    )


def grid_with(
    grid: Grid, labels: NDArray[np.unsignedinteger], source: Grid
) -> tuple[Grid, tuple[int, int, int]]:
    """Extend a grid on its own lattice until it holds all labels that lie on another one.

    Args:
        grid: To extend.
        labels: Array (k, j, i) on the source grid.
        source: Where the labels lie.

    Returns:
        The grid, and how many voxels were put before its first one along (k, j, i).
    """
    filled = [np.flatnonzero(labels.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    if not filled[0].size:
        return grid, (0, 0, 0)
    matrix, offset = index_map(source, grid)
    edges = [(found[0] - 0.5, found[-1] + 0.5) for found in filled]
    corners = matrix @ np.array(np.meshgrid(*edges, indexing="ij")).reshape(3, -1) + offset[:, None]
    slack = TOLERANCE_VOXELS
    low = np.minimum(np.ceil(corners.min(axis=1) - slack), 0)
    high = np.maximum(np.floor(corners.max(axis=1) + slack), np.array(grid.shape) - 1)
    before = (int(-low[0]), int(-low[1]), int(-low[2]))
    shape = (high - low + 1).astype(int)
    affine = grid.affine.copy()
    affine[:3, 3] = grid.to_patient(low)
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine), before
