"""Cropping to a box of voxels, with its exact inverse."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multiorganseg.volumes.volume import Grid

Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Crop:
    """A box cut out of a grid.

    Attributes:
        source: The whole grid.
        box: Slices along (k, j, i), with explicit start and stop inside the grid.
    """

    source: Grid
    box: Box

    @classmethod
    def whole(cls, grid: Grid) -> Crop:
        """Return the crop that keeps everything."""
        k, j, i = grid.shape
        return cls(grid, (slice(0, k), slice(0, j), slice(0, i)))

    @property
    def target(self) -> Grid:
        """The grid of the box."""
        k, j, i = (part.stop - part.start for part in self.box)
        affine = self.source.affine.copy()
        affine[:3, 3] = self.source.to_patient((self.box[0].start, self.box[1].start, self.box[2].start))
        return Grid((k, j, i), affine)

    def apply(self, array: NDArray) -> NDArray:
        """Return a view of the box."""
        return array[self.box]

    def invert(self, array: NDArray) -> NDArray:
        """Put the box back into zeros of the whole grid's shape."""
        whole = np.zeros(self.source.shape, array.dtype)
        whole[self.box] = array
        return whole
