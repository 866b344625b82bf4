"""What every image goes through before a network sees it, in training and in use alike."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from multiorganseg.bundles.metadata import Preprocessing
from multiorganseg.bundles.original import VOLUME_INTENSITIES, Original
from multiorganseg.errors import VolumeError
from multiorganseg.geometry.body import air_threshold
from multiorganseg.geometry.canonical import Canonical, plan_canonical
from multiorganseg.geometry.crop import Box
from multiorganseg.geometry.orient import AxisOrder, from_canonical, reorient
from multiorganseg.inference.original_space import network_spacing, require_one_grid
from multiorganseg.intensities import map_window, normalise, zscore
from multiorganseg.volumes.check import VolumeWarning
from multiorganseg.volumes.hounsfield import to_hounsfield
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


def prepare(
    volume: Volume, preprocessing: Preprocessing, widest_mm: float = np.inf
) -> tuple[Canonical | TurnedCanonical, NDArray[np.float32]]:
    """Bring a volume onto the network's grid and into its intensities.

    For a network that sees a window of HU, a CT that is evidently not in HU is brought there first; what is
    done or wrong is reported with a `VolumeWarning`, unless it stands in the volume's `warnings` already.

    Args:
        volume: The input.
        preprocessing: Of the network.
        widest_mm: Beyond it, what lies beside the body is left out; see `body_crop`. For our own networks.

    Returns:
        The geometric steps with their inverse, and the image (k, j, i).

    Raises:
        VolumeError: The network takes several images of a patient.
    """
    if preprocessing.original is not None:
        if len(preprocessing.original.channels) > 1:
            msg = f"{volume.source} alone is not what this model takes."
            names = ", ".join(preprocessing.original.channels)
            raise VolumeError(msg, cause=f"It takes {names}.", next_step="Take a model of one image.")
        turned, channels = prepare_converted([volume], preprocessing)
        return turned, channels[0]
    window = preprocessing.window
    if window:
        given, volume = volume.warnings, to_hounsfield(volume, window)
        for message in volume.warnings[: len(volume.warnings) - len(given)]:
            warnings.warn(f"{volume.source}: {message}", VolumeWarning, stacklevel=2)
    threshold = air_threshold(window) if window else None
    canonical = plan_canonical(
        volume.voxels, volume.grid, preprocessing.spacing_mm, threshold, widest_mm=widest_mm
    )
    image = canonical.apply(volume.voxels)
    return canonical, map_window(image, window) if window else zscore(image)
