"""From an input to what a network of another program sees, by that program's own steps, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, find_objects

from multiorganseg.bundles.metadata import Preprocessing
from multiorganseg.bundles.original import Original
from multiorganseg.errors import VolumeError
from multiorganseg.geometry.crop import Box
from multiorganseg.geometry.orient import AxisOrder, axis_order
from multiorganseg.geometry.zoom import (
    AxisMap,
    Shape,
    Spacing,
    axis_map,
    border_positions,
    interpolate_linear,
    resize_spline,
    resized_shape,
    separate_axis,
    spaced_positions,
    spaced_shape,
)
from multiorganseg.intensities import normalise
from multiorganseg.volumes.volume import Grid, Volume


@dataclass(frozen=True, eq=False)
class OriginalSpace:
    """The geometric steps that another program takes, with the way back.

    Attributes:
        source: The input's grid.
        order: Turn to the network's axes.
        box: What was cropped, in the network's axes.
        shape: Of the network's grid, in its axes.
        voxel_volume: Of the network's grid, in mm³.
        back: For each axis, where the voxels of the box lie on the network's grid.
    """

    source: Grid
    order: AxisOrder
    box: Box
    shape: Shape
    voxel_volume: float
    back: tuple[AxisMap, AxisMap, AxisMap]

    def place(self, cropped: NDArray) -> NDArray:
        """Put an array on the box back onto the input's grid, with 0 around."""
        k, j, i = (self.source.shape[axis] for axis in self.order.axes)
        whole = np.zeros((k, j, i), cropped.dtype)
        whole[self.box] = cropped
        return np.ascontiguousarray(self.order.invert(whole))

    def restore_map(self, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Bring a map on the network's grid back onto the input's by linear interpolation."""
        return self.place(np.rint(interpolate_linear(values, self.back)).astype(np.uint8))


def prepare_original(
    channels: Sequence[Volume], preprocessing: Preprocessing
) -> tuple[OriginalSpace, NDArray[np.float32]]:
    """Bring a case to what the network sees.

    Args:
        channels: Of the input, on one grid.
        preprocessing: With its `original`.

    Returns:
        The geometric steps, and the image (channel, k, j, i) in the network's axes.

    Raises:
        VolumeError: The channels lie on different grids.
    """
    original = preprocessing.original
    assert original is not None
    grid = channels[0].grid
    require_one_grid(channels)
    order = axis_order(grid, original.orientation, original.axes)
    image = np.stack([order.apply(volume.voxels).astype(np.float32) for volume in channels])
    inside, box = _crop(image, original)
    image = image[(slice(None), *box)]
    old = order.sizes(grid.spacing)
    new = network_spacing(old, preprocessing)
    cut = (image.shape[1], image.shape[2], image.shape[3])
    if original.normalise_first:
        image = _normalised(image, original, inside)
    image = _resampled(image, original, old, new)
    if not original.normalise_first:
        image = _normalised(image, original, None)
    shape = (image.shape[1], image.shape[2], image.shape[3])
    volume = grid.voxel_volume * float(np.prod(new)) / float(np.prod(old))
    return OriginalSpace(grid, order, box, shape, volume, _back(original, cut, shape, old, new)), image


def require_one_grid(channels: Sequence[Volume]) -> None:
    """Refuse channels that lie on different grids.

    Raises:
        VolumeError: They do.
    """
    for other in channels[1:]:
        if not other.grid.same_as(channels[0].grid, tolerance=1e-2):
            msg = f"{other.source} and {channels[0].source} lie on different grids."
            raise VolumeError(
                msg,
                cause="The model takes several images of one patient voxel by voxel.",
                next_step="Register and resample one of them onto the other first.",
            )


def network_spacing(old: Spacing, preprocessing: Preprocessing) -> Spacing:
    """Return the spacing along the network's axes for an input of spacing `old` along them."""
    original = preprocessing.original
    assert original is not None
    kept = [original.in_slices, False, False]
    tolerance = original.spacing_tolerance
    k, j, i = (
        have if keep or (tolerance and (1 - tolerance) * want <= have <= (1 + tolerance) * want) else want
        for have, want, keep in zip(old, preprocessing.spacing_mm, kept, strict=True)
    )
    return k, j, i


def _crop(image: NDArray[np.float32], original: Original) -> tuple[NDArray[np.bool_] | None, Box]:
    whole = (slice(0, image.shape[1]), slice(0, image.shape[2]), slice(0, image.shape[3]))
    if original.crop == "none":
        return None, whole
    if original.crop == "nonzero":
        inside = binary_fill_holes((image != 0).any(axis=0))
    else:
        inside = (image > 0).any(axis=0)
    found = find_objects(inside.astype(np.uint8))
    if not found:
        return inside, whole
    k, j, i = (
        slice(max(0, part.start - original.margin), min(size, part.stop + original.margin))
        for part, size in zip(found[0], inside.shape, strict=True)
    )
    return inside[k, j, i], (k, j, i)


def _normalised(
    image: NDArray[np.float32], original: Original, inside: NDArray[np.bool_] | None
) -> NDArray[np.float32]:
    pairs = zip(image, original.intensities, strict=True)
    return np.stack([normalise(channel, intensity, inside) for channel, intensity in pairs])


def _resampled(
    image: NDArray[np.float32], original: Original, old: Spacing, new: Spacing
) -> NDArray[np.float32]:
    cut = (image.shape[1], image.shape[2], image.shape[3])
    if original.resampling == "spline":
        shape, separate = resized_shape(cut, old, new), separate_axis(old, new)
        return np.stack([resize_spline(channel, shape, separate) for channel in image])
    shape = spaced_shape(cut, old, new)
    maps = [
        axis_map(spaced_positions(count, b / a), size)
        for count, size, a, b in zip(shape, cut, old, new, strict=True)
    ]
    return np.stack([interpolate_linear(channel, maps) for channel in image])


def _back(
    original: Original, cut: Shape, shape: Shape, old: Spacing, new: Spacing
) -> tuple[AxisMap, AxisMap, AxisMap]:
    labels = original.restore == "labels"
    if original.resampling == "spline":
        separate = separate_axis(new, old) if cut != shape else None
        k, j, i = (
            axis_map(border_positions(count, size), size, nearest=labels or axis == separate)
            for axis, (count, size) in enumerate(zip(cut, shape, strict=True))
        )
    else:
        k, j, i = (
            axis_map(spaced_positions(count, a / b), size, nearest=labels)
            for count, size, a, b in zip(cut, shape, old, new, strict=True)
        )
    return k, j, i
