"""Order and direction of axes: turning voxels to canonical axes, and to those of another program.

Metadata of bundles need it where SciPy and the readers of volumes must not be loaded, as when Slicer starts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # bundles' metadata need the feet, also where no image can be read
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
    from scipy.optimize import linear_sum_assignment

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
    target = replace(grid, shape=(k, j, i), affine=affine)
    return Reorient(grid, target, axes, tuple(2 - axis for axis in flipped_xyz))


_CANONICAL = ("SI", "PA", "LR")
"""Where the canonical axes (k, j, i) run to, and the opposite."""


@dataclass(frozen=True)
class AxisOrder:
    """Transposition and flips.

    Attributes:
        axes: Stored axis of each axis of the network.
        flipped: Axes of the network that run against their stored axis.
    """

    axes: tuple[int, int, int]
    flipped: tuple[int, ...] = ()

    def apply(self, array: NDArray) -> NDArray:
        """Return a view of a stored array in the network's axes."""
        return np.flip(array.transpose(self.axes), self.flipped)

    def invert(self, array: NDArray) -> NDArray:
        """Return a view of an array in the network's axes as it is stored."""
        return np.flip(array, self.flipped).transpose(np.argsort(self.axes))

    def turn(self, grid: Grid) -> Grid:
        """Return the grid of a stored array in the network's axes."""
        turned = np.zeros((4, 4))
        turned[3, 3] = 1
        for number, axis in enumerate(self.axes):
            against = number in self.flipped
            turned[2 - axis, 2 - number] = -1 if against else 1
            turned[2 - axis, 3] = grid.shape[axis] - 1 if against else 0
        k, j, i = (grid.shape[axis] for axis in self.axes)
        return replace(grid, shape=(k, j, i), affine=grid.affine @ turned)

    def sizes(self, values: tuple[float, float, float]) -> tuple[float, float, float]:
        """Put numbers along the stored axes into the network's order."""
        first, second, third = (values[axis] for axis in self.axes)
        return first, second, third

    def stored_sizes(self, values: tuple[float, float, float]) -> tuple[float, float, float]:
        """Put numbers along the network's axes into the stored order."""
        first, second, third = (values[self.axes.index(axis)] for axis in range(3))
        return first, second, third


def canonical_order(orientation: str, axes: tuple[int, int, int]) -> AxisOrder:
    """Return the way from a canonical array (superior, posterior, left) to the network's.

    Args:
        orientation: Where axes (i, j, k) of the network's images run to, such as "RAS".
        axes: Their transposition; see `multiorganseg.bundles.original.Original.axes`.
    """
    stored = [next(a for a, ends in enumerate(_CANONICAL) if letter in ends) for letter in orientation[::-1]]
    against = [letter in "IAR" for letter in orientation[::-1]]
    return AxisOrder(
        (stored[axes[0]], stored[axes[1]], stored[axes[2]]),
        tuple(number for number, axis in enumerate(axes) if against[axis]),
    )


Feet = tuple[int, bool]
"""Axis (0, 1 or 2) along which the patient lies, and whether the feet are at its first voxel."""

CANONICAL_FEET: Feet = (0, True)


def network_feet(orientation: str, axes: tuple[int, int, int]) -> Feet | None:
    """Return along which axis of a network's array patients lie; None for images as they are stored.

    Args:
        orientation: As for `canonical_order`, or "".
        axes: As for `canonical_order`.
    """
    if not orientation:
        return None
    order = canonical_order(orientation, axes)
    axis = order.axes.index(0)
    return axis, axis not in order.flipped


def axis_order(grid: Grid, orientation: str, axes: tuple[int, int, int]) -> AxisOrder:
    """Return the way from an array on a grid to the network's; "" as orientation takes it as it is stored."""
    if not orientation:
        return AxisOrder(axes)
    turned, order = reorient(grid), canonical_order(orientation, axes)
    first, second, third = (turned.axes[axis] for axis in order.axes)
    flipped = tuple(n for n in range(3) if (n in order.flipped) != (order.axes[n] in turned.flipped))
    return AxisOrder((first, second, third), flipped)


def from_canonical(grid: Grid, orientation: str, axes: tuple[int, int, int]) -> AxisOrder:
    """Return the way from the canonical version of an array on a grid to the network's."""
    if orientation:
        return canonical_order(orientation, axes)
    turned = reorient(grid)
    first, second, third = (turned.axes.index(axis) for axis in axes)
    order = AxisOrder((first, second, third))
    return AxisOrder(order.axes, tuple(n for n in range(3) if order.axes[n] in turned.flipped))


def orientations() -> tuple[str, ...]:
    """Return the eight directions that images whose axes are not exchanged can have, the commonest first."""
    return tuple("".join(letters) for letters in product("RL", "AP", "SI"))
