"""What a scan shows: a shorter one, a smaller field of view, thicker slices, a coarser matrix."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

SHORTEST_SHARE = (0.25, 0.4, 0.4)
MIRRORED_SHARE = (0.6, 0.3, 0.3)
COARSEST = (2.0, 3.0, 3.0)
LEAST_PLANES = 4


def cut_field(
    patch: Tensor, labels: Tensor, outside: float, generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Keep a part of a patch along k or in-plane; the rest is air, or the part mirrored.

    Both are what a network is shown of a scan that is smaller than its window.

    Args:
        patch: (1, k, j, i).
        labels: (k, j, i).
        outside: Intensity of air.
        generator: Source of all randomness.

    Returns:
        Image and labels of the same shapes; nothing is annotated in air.
    """
    axes = [0] if generator.random() < 0.6 else [1, 2]
    for axis in axes:
        size = labels.shape[axis]
        kept = max(min(LEAST_PLANES, size), round(size * generator.uniform(SHORTEST_SHARE[axis], 0.95)))
        first = int(generator.integers(size - kept + 1))
        if kept > 1 and generator.random() < MIRRORED_SHARE[axis]:
            index = torch.from_numpy(np.pad(np.arange(kept), (first, size - kept - first), mode="reflect"))
            index = index + first
            patch, labels = patch.index_select(axis + 1, index), labels.index_select(axis, index)
            continue
        inside = torch.zeros(size, dtype=torch.bool)
        inside[first : first + kept] = True
        inside = inside.reshape([-1 if other == axis else 1 for other in range(3)])
        patch, labels = torch.where(inside, patch, outside), torch.where(inside, labels, 0)
    return patch, labels


def coarsen(patch: Tensor, generator: np.random.Generator, in_plane: bool) -> Tensor:
    """Show a patch (1, k, j, i) as a scan of thicker slices, or of larger pixels, brought to this grid."""
    size = patch.shape[1:]
    factors = [generator.uniform(1.2, most) for most in COARSEST]
    axes = (1, 2) if in_plane else (0,)
    shape = [
        max(1, round(number / factors[axis])) if axis in axes else number for axis, number in enumerate(size)
    ]
    coarse = functional.interpolate(patch[None], shape, mode="area")
    fine: Tensor = functional.interpolate(coarse, size, mode="trilinear", align_corners=False)[0]
    return fine
