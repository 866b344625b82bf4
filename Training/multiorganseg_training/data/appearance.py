"""Contrast phases, drawn from the label map: each organ takes the intensity that it would have in one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

CORTEX_VOXELS = (3, 9, 9)
NEAR_BONE_VOXELS = (3, 7, 7)
EDGE_VOXELS = 3
PATCHES = 12
BONE_HU = 262.0
KIDNEYS = ("kidney_right", "kidney_left")


@dataclass(frozen=True)
class Phase:
    """How organs look some time after the contrast agent, or without it.

    Attributes:
        to: Mean HU of an organ and how much it varies among patients (standard deviation).
        by: Change of an organ's mean HU against the portal-venous scan, and how much it varies.
        gain: Range of the factor about an organ's mean: less contrast agent, less contrast inside.
        cortex: Mean and variation of the kidneys' outer layer; None where it is as the rest.
        patchy: Organs that take up the agent unevenly, and by how many HU.
        vessels_to: HU to which enhanced voxels outside all organs are brought; None leaves them.
    """

    to: Mapping[str, tuple[float, float]]
    by: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    gain: tuple[float, float] = (0.85, 1.1)
    cortex: tuple[float, float] | None = None
    patchy: Mapping[str, float] = field(default_factory=dict)
    vessels_to: float | None = None


PHASES = {
    "unenhanced": Phase(
        to={
            "liver": (55, 12),
            "spleen": (48, 6),
            "kidney_right": (33, 5),
            "kidney_left": (33, 5),
            "pancreas": (38, 10),
            "aorta": (42, 7),
            "inferior_vena_cava": (40, 7),
            "portal_vein_and_splenic_vein": (40, 7),
            "adrenal_gland_right": (20, 14),
            "adrenal_gland_left": (20, 14),
            "esophagus": (38, 8),
        },
        by={"stomach": (-15, 15), "gallbladder": (0, 8)},
        gain=(0.4, 0.8),
        vessels_to=45.0,
    ),
    "arterial": Phase(
        to={
            "aorta": (300, 70),
            "inferior_vena_cava": (85, 40),
            "portal_vein_and_splenic_vein": (85, 40),
            "liver": (68, 13),
            "spleen": (125, 30),
            "kidney_right": (75, 25),
            "kidney_left": (75, 25),
            "pancreas": (102, 22),
            "adrenal_gland_right": (70, 20),
            "adrenal_gland_left": (70, 20),
        },
        by={"stomach": (5, 12), "gallbladder": (0, 8), "esophagus": (0, 10)},
        cortex=(180, 40),
        patchy={"spleen": 30.0, "inferior_vena_cava": 25.0},
    ),
    "late": Phase(
        to={
            "aorta": (112, 15),
            "inferior_vena_cava": (112, 15),
            "portal_vein_and_splenic_vein": (112, 15),
            "liver": (92, 14),
            "spleen": (95, 12),
            "kidney_right": (150, 40),
            "kidney_left": (150, 40),
            "pancreas": (80, 12),
            "adrenal_gland_right": (50, 15),
            "adrenal_gland_left": (50, 15),
        },
        by={"stomach": (0, 10), "gallbladder": (0, 10), "esophagus": (0, 8)},
        gain=(0.6, 1.0),
        patchy={"kidney_right": 20.0, "kidney_left": 20.0},
    ),
}


def change_phase(
    patch: Tensor,
    labels: Tensor,
    organs: Mapping[int, str],
    window: tuple[float, float],
    generator: np.random.Generator,
    phase: Phase | None = None,
) -> Tensor:
    """Return a portal-venous patch the look of another contrast phase.

    Each organ is shifted and its inner contrast scaled, with an edge of a voxel over which both fade. What
    no label shows (hepatic veins apart from the liver, bowel, smaller vessels) keeps its intensity, unless
    the phase says what enhanced voxels away from bone become.

    Args:
        patch: (1, k, j, i), the window mapped to [−1, 1].
        labels: (k, j, i), int64 channels.
        organs: Organ key by channel.
        window: HU of −1 and 1.
        generator: Source of all randomness.
        phase: Which; one of `PHASES` at random when None.

    Returns:
        (1, k, j, i), clipped to [−1, 1].
    """
    if phase is None:
        phase = list(PHASES.values())[int(generator.integers(len(PHASES)))]
    low, high = window
    image = (patch[0] + 1) * ((high - low) / 2) + low
    regions, keys = _with_cortex(labels, organs, phase)
    count = len(keys)
    voxels = torch.bincount(regions.flatten(), minlength=count).float()
    sums = image.new_zeros(count).index_add_(0, regions.flatten(), image.flatten())
    means = (sums / voxels.clamp(min=1)).tolist()
    gains, shifts = np.zeros(count), np.zeros(count)
    for region, key in enumerate(keys):
        wanted = _wanted_mean(key, means[region], phase, generator)
        if region and wanted is not None and voxels[region]:
            gains[region] = generator.uniform(*phase.gain) - 1
            shifts[region] = wanted - means[region] - gains[region] * means[region]
    gain, shift = (_faded(image.new_tensor(values)[regions]) for values in (gains, shifts))
    if phase.vessels_to is not None:
        image = _without_agent(image, labels, phase.vessels_to)
    image = image * (1 + gain) + shift
    for key, amplitude in phase.patchy.items():
        inside = regions == keys.index(key) if key in keys else None
        if inside is not None and inside.any():
            unevenness = smooth_field(tuple(image.shape), PATCHES, generator).to(image.device)
            image = image + amplitude * _faded(inside.float()) * unevenness
    return ((image - low) * (2 / (high - low)) - 1).clamp(-1, 1)[None]


def smooth_field(shape: tuple[int, ...], cells: int, generator: np.random.Generator) -> Tensor:
    """Return normal numbers (k, j, i) that vary smoothly over about shape / `cells` voxels."""
    coarse = torch.from_numpy(generator.standard_normal((1, 1, cells, cells, cells), dtype=np.float32))
    fine: Tensor = functional.interpolate(coarse, shape, mode="trilinear", align_corners=True)[0, 0]
    return fine


def _with_cortex(labels: Tensor, organs: Mapping[int, str], phase: Phase) -> tuple[Tensor, list[str]]:
    keys = ["", *(organs[channel] for channel in sorted(organs))]
    if phase.cortex is None:
        return labels, keys
    kidneys = torch.zeros_like(labels, dtype=torch.bool)
    for key in KIDNEYS:
        if key in keys:
            kidneys |= labels == keys.index(key)
    regions = labels
    if kidneys.any():
        outside = (~kidneys).float()[None, None]
        padding = [(size - 1) // 2 for size in CORTEX_VOXELS]
        near_edge = functional.max_pool3d(outside, CORTEX_VOXELS, 1, padding)[0, 0] > 0
        regions = torch.where(kidneys & near_edge, len(keys), labels)
    return regions, [*keys, "cortex"]


def _wanted_mean(key: str, mean: float, phase: Phase, generator: np.random.Generator) -> float | None:
    if key == "cortex" and phase.cortex is not None:
        return float(generator.normal(*phase.cortex))
    if key in phase.to:
        return float(generator.normal(*phase.to[key]))
    return mean + float(generator.normal(*phase.by[key])) if key in phase.by else None


def _faded(values: Tensor) -> Tensor:
    faded: Tensor = functional.avg_pool3d(values[None, None], EDGE_VOXELS, 1, EDGE_VOXELS // 2)[0, 0]
    return faded


def _without_agent(image: Tensor, labels: Tensor, hu: float) -> Tensor:
    padding = [(size - 1) // 2 for size in NEAR_BONE_VOXELS]
    bone = (image > BONE_HU).float()[None, None]
    near_bone = functional.max_pool3d(bone, NEAR_BONE_VOXELS, 1, padding)[0, 0] > 0
    enhanced = (labels == 0) & (image > hu) & ~near_bone
    return torch.where(enhanced, hu + 0.25 * (image - hu), image)
