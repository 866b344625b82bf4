"""Whether a volume is of the kind that a network was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from multiorganseg.volumes.volume import Volume

NAMES: Final = {"CT": "a CT", "MR": "an MR", "PT": "a PET image", "NM": "a scintigram", "US": "an ultrasound"}

AIR_HU = (-1100.0, -900.0)
TISSUE_HU = (-200.0, 200.0)
SMALLEST_AIR_SHARE = 0.01
SMALLEST_TISSUE_SHARE = 0.05
LARGEST_DARK_SHARE_OF_BRIGHT = 0.15
LARGEST_SATURATED_SHARE = 0.005
FEWEST_GREYS = 32
STORED_TISSUE = (900.0, 1250.0)
LARGEST_STORED_TISSUE_SHARE = 0.25
VOXELS_SEEN = 500_000


@dataclass(frozen=True)
class Appearance:
    """What a volume evidently is.

    Attributes:
        modality: A key of `NAMES`.
        reason: What tells it, as part of a sentence.
    """

    modality: str
    reason: str


def apparent_modality(volume: Volume) -> Appearance | None:
    """Distinguish a CT from an MR; None when that is not evident.

    The DICOM tag Modality wins over the voxels. Without it a volume is a CT when air near −1000 HU and soft
    tissue are both there. It is an MR when no voxel is negative, the darkest percent is far below the
    brightest, and three likenesses are excluded: an image cut to a window, whose brightest voxels are all
    alike; a label map, which has few values; and a CT without its rescale intercept, whose tissue lies near
    1000. A CT that was clipped to a window, or an MR with negative values, is neither.
    """
    if volume.modality in NAMES:
        return Appearance(volume.modality, f"its DICOM tag Modality says {volume.modality}")
    seen = sample_voxels(volume.voxels)
    air, tissue = share(seen, AIR_HU), share(seen, TISSUE_HU)
    if air >= SMALLEST_AIR_SHARE and tissue >= SMALLEST_TISSUE_SHARE:
        return Appearance("CT", "it has air near −1000 HU and soft tissue near 0 HU")
    if volume.voxels.min() >= 0 and _is_spread_like_mr(seen):
        return Appearance("MR", "no voxel is negative, while air in a CT lies near −1000 HU")
    return None


def modality_warning(volume: Volume, trained_on: str, model: str) -> str | None:
    """Return the warning for a volume that is evidently not of the kind that a network was trained on.

    Args:
        volume: The input.
        trained_on: "CT" or "MR".
        model: Name of the bundle.
    """
    appearance = apparent_modality(volume)
    if appearance is None or appearance.modality == trained_on:
        return None
    return (
        f"This looks like {NAMES[appearance.modality]}: {appearance.reason}. The model {model} was trained "
        f"on {trained_on}: do not trust its result here."
    )


def sample_voxels(voxels: NDArray) -> NDArray:
    """Return every n-th voxel along each axis, about `VOXELS_SEEN` of them."""
    step = max(1, round((voxels.size / VOXELS_SEEN) ** (1 / 3)))
    return voxels[::step, ::step, ::step]


def share(voxels: NDArray, between: tuple[float, float]) -> float:
    """Return the share of the voxels between two values, both included."""
    low, high = between
    return np.count_nonzero((voxels >= low) & (voxels <= high)) / voxels.size


def _is_spread_like_mr(voxels: NDArray) -> bool:
    dark, bright = np.percentile(voxels, (1, 99))
    return bool(
        dark <= LARGEST_DARK_SHARE_OF_BRIGHT * bright
        and np.count_nonzero(voxels == voxels.max()) <= LARGEST_SATURATED_SHARE * voxels.size
        and np.unique(voxels).size >= FEWEST_GREYS
        and share(voxels, STORED_TISSUE) <= LARGEST_STORED_TISSUE_SHARE
    )
