"""The chain from the input's grid to the network's: orientation, body crop and spacing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multiorganseg.geometry.body import body_crop
from multiorganseg.geometry.crop import Box, Crop
from multiorganseg.geometry.orient import Reorient, reorient
from multiorganseg.geometry.resample import Resample, restore_labels, spacing_grid, upright_grid
from multiorganseg.volumes.volume import Grid

LARGEST_TILT_DEGREES = 10.0


@dataclass(frozen=True, eq=False)
class Canonical:
    """All geometric steps between the input and the network, in order.

    Attributes:
        orientation: Transposition and flips.
        crop: The body's box.
        resampling: From the crop to the network's grid.
    """

    orientation: Reorient
    crop: Crop
    resampling: Resample

    @property
    def grid(self) -> Grid:
        """The network's grid."""
        return self.resampling.target

    def apply(self, voxels: NDArray) -> NDArray[np.float32]:
        """Bring intensities (k, j, i) from the input's grid to the network's."""
        return self.resampling.apply(self.crop.apply(self.orientation.apply(voxels)))

    def apply_labels(self, labels: NDArray[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
        """Bring labels (k, j, i) from the input's grid to the network's."""
        return restore_labels(self.crop.apply(self.orientation.apply(labels)), self.crop.target, self.grid)

    def restore(self, labels: NDArray[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
        """Bring labels (k, j, i) from the network's grid back onto the input's."""
        cropped = restore_labels(labels, self.grid, self.crop.target)
        return np.ascontiguousarray(self.orientation.invert(self.crop.invert(cropped)))

    def restore_map(self, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Bring a map (k, j, i) back onto the input's grid by linear interpolation; 0 outside the crop."""
        cropped = Resample(self.grid, self.crop.target).apply(values)
        whole = self.crop.invert(np.rint(cropped, out=cropped).astype(np.uint8))
        return np.ascontiguousarray(self.orientation.invert(whole))


def plan_canonical(
    voxels: NDArray,
    grid: Grid,
    spacing: tuple[float, float, float],
    body_threshold: float | None,
    box: Box | None = None,
    widest_mm: float = np.inf,
) -> Canonical:
    """Plan the way to the network's grid.

    Axes that lean more than 10° away from the patient's are straightened by interpolation onto upright
    axes; others are only transposed and flipped.

    Args:
        voxels: Array (k, j, i), read for the body's box alone.
        grid: Its grid.
        spacing: Of the network, in mm along (k, j, i).
        body_threshold: See `body_crop`; None keeps the whole volume.
        box: What to keep of the canonical array instead.
        widest_mm: See `body_crop`.
    """
    orientation = reorient(grid)
    canonical = orientation.target
    tilt = np.degrees(np.arccos(np.clip(np.diag(canonical.directions), -1, 1))).max()
    leaning = bool(tilt > LARGEST_TILT_DEGREES)
    if box is not None:
        crop = Crop(canonical, box)
    elif body_threshold is None:
        crop = Crop.whole(canonical)
    else:
        crop = body_crop(orientation.apply(voxels), canonical, body_threshold, leaning, widest_mm)
    make_grid = upright_grid if leaning else spacing_grid
    return Canonical(orientation, crop, Resample(crop.target, make_grid(crop.target, spacing)))
