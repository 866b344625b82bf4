"""What is measured of each organ after segmentation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OrganStatistics:
    """Measurements of one organ.

    Attributes:
        key: Organ key of the catalogue.
        voxels: Number of voxels on the input's grid.
        volume_ml: Volume in millilitres.
        mean_intensity: Mean of the input's voxels inside the organ (HU for CT); NaN when the organ is empty.
        confidence: Mean of the network's probability over the organ's voxels, in [0, 1]; NaN when empty.
        flags: Quality flags, worst first; empty when nothing was noticed.
        uncertainty: Mean uncertainty over the organ's voxels and a shell around them, in [0, 1]; NaN when
            empty, None when it was not mapped. See `multiorganseg.quality.certainty.mean_uncertainty`.
    """

    key: str
    voxels: int
    volume_ml: float
    mean_intensity: float
    confidence: float
    flags: tuple[str, ...] = ()
    uncertainty: float | None = None
