"""An input for a network of another program, by this engine's steps: the fast mode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from multiorganseg.bundles.metadata import Preprocessing
from multiorganseg.bundles.original import VOLUME_INTENSITIES, Original
from multiorganseg.geometry.axis_order import AxisOrder, from_canonical
from multiorganseg.geometry.canonical import Canonical, plan_canonical
from multiorganseg.geometry.crop import Box
from multiorganseg.geometry.orient import reorient
from multiorganseg.inference.original_space import network_spacing, require_one_grid
from multiorganseg.intensities import normalise
from multiorganseg.volumes.volume import Grid, Volume

BODY_HU = -140.0
"""What separates a patient from air in a CT; it lies below all values of most other images."""


@dataclass(frozen=True, eq=False)
class TurnedCanonical:
    """The canonical chain, and a turn to the axes of the network.

    Attributes:
        canonical: Orientation, crop and resampling.
        order: From the canonical axes to the network's.
    """

    canonical: Canonical
    order: AxisOrder

    @property
    def grid(self) -> Grid:
        """The network's grid, in canonical axes."""
        return self.canonical.grid

    @property
    def turned_grid(self) -> Grid:
        """The network's grid, in its own axes."""
        return self.order.turn(self.canonical.grid)

    def apply_labels(self, labels: NDArray[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
        """Bring labels on the input's grid to the network's, in its axes."""
        return np.ascontiguousarray(self.order.apply(self.canonical.apply_labels(labels)))

    def restore(self, labels: NDArray[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
        """Bring labels in the network's axes back onto the input's grid."""
        return self.canonical.restore(np.ascontiguousarray(self.order.invert(labels)))

    def restore_map(self, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Bring a map in the network's axes back onto the input's grid."""
        return self.canonical.restore_map(np.ascontiguousarray(self.order.invert(values)))


def prepare_converted(
    channels: Sequence[Volume], preprocessing: Preprocessing
) -> tuple[TurnedCanonical, NDArray[np.float32]]:
    """Bring a case onto the network's spacing and into its axes and intensities.

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
    require_one_grid(channels)
    grid = channels[0].grid
    order = from_canonical(grid, original.orientation, original.axes)
    turned = reorient(grid)
    spacing = order.stored_sizes(network_spacing(order.sizes(turned.target.spacing), preprocessing))
    fixed = all(
        intensity.kind not in (*VOLUME_INTENSITIES, "none", "scale") for intensity in original.intensities
    )
    box = None if fixed else _content([turned.apply(volume.voxels) for volume in channels], original)
    canonical = plan_canonical(channels[0].voxels, grid, spacing, BODY_HU if fixed else None, box)
    images = [order.apply(canonical.apply(volume.voxels)) for volume in channels]
    pairs = zip(images, original.intensities, strict=True)
    return TurnedCanonical(canonical, order), np.stack([normalise(*pair) for pair in pairs])


def _content(channels: Sequence[NDArray], original: Original) -> Box | None:
    """Return the box of what is there, in canonical axes; None where nothing is cropped."""
    if original.crop == "none":
        return None
    inside: NDArray[np.uint8] = np.zeros(channels[0].shape, np.uint8)
    for voxels in channels:
        inside |= (voxels != 0) if original.crop == "nonzero" else (voxels > 0)
    found = find_objects(inside)
    if not found:
        return None
    k, j, i = (
        slice(max(0, part.start - original.margin), min(size, part.stop + original.margin))
        for part, size in zip(found[0], inside.shape, strict=True)
    )
    return k, j, i
