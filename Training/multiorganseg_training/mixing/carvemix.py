"""Carve a part around one organ, after the signed distance to it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

WIDEST_RIM = 6


def signed_distance(region: NDArray[np.bool_], spacing: Sequence[float] | None = None) -> NDArray[np.float64]:
    """Give the distance to a region: negative inside, positive outside.

    Args:
        region: (*space), neither empty nor the whole space.
        spacing: Of the axes of `region`; 1 by default, so that distances are in voxels.
    """
    outside = ndimage.distance_transform_edt(~region, sampling=spacing)
    inside = ndimage.distance_transform_edt(region, sampling=spacing)
    return outside - inside


def carve_region(
    region: NDArray[np.bool_], generator: np.random.Generator, spacing: Sequence[float] | None = None
) -> NDArray[np.bool_]:
    """Shrink or grow a region at random as CarveMix does: D < λ with λ ~ U(min D / 2, −min D).

    Args:
        region: (*space), bool.
        generator: Source of all randomness.
        spacing: As in `signed_distance`.

    Returns:
        (*space), bool; an empty region stays empty, the whole space stays whole.
    """
    if region.all() or not region.any():
        return region.copy()
    distance = signed_distance(region, spacing)
    deepest = distance.min()
    carved: NDArray[np.bool_] = distance < generator.uniform(deepest / 2, -deepest)
    return carved


def carve_mask(
    labels: Tensor,
    partner: Tensor,
    generator: np.random.Generator,
    spacing: Sequence[float] | None = None,
) -> Tensor:
    """Give for each sample where a carved organ of its partner is pasted, at its own place.

    One organ of the partner is chosen among those that occur, all equally often.

    Args:
        labels: (batch, *space), int64: annotations or fused labels.
        partner: (batch,), int64.
        generator: Source of all randomness.
        spacing: As in `signed_distance`.

    Returns:
        (batch, *space), bool, on the device of `labels`; nothing is pasted from a partner without an organ.
    """
    arrays = labels.cpu().numpy()
    masks = np.zeros(arrays.shape, np.bool_)
    for mask, other in zip(masks, partner.tolist(), strict=True):
        organs = np.unique(arrays[other])
        organs = organs[organs > 0]
        if len(organs):
            organ = organs[int(generator.integers(len(organs)))]
            mask[...] = carve_region(arrays[other] == organ, generator, spacing)
    return torch.from_numpy(masks).to(labels.device)


def around_organ(labels: Tensor, generator: np.random.Generator) -> Tensor:
    """Give an organ of a patch with a rim of some voxels: `carve_mask` without distances, much faster.

    Args:
        labels: (k, j, i), int64.
        generator: Source of all randomness.

    Returns:
        (k, j, i), bool; nothing where there is no organ.
    """
    organs = torch.unique(labels)
    organs = organs[organs > 0]
    if not len(organs):
        return torch.zeros_like(labels, dtype=torch.bool)
    organ = int(organs[int(generator.integers(len(organs)))])
    rim = int(generator.integers(1, WIDEST_RIM + 1))
    mask = (labels == organ).float()[None, None]
    for axis in range(3):
        size = [1, 1, 1]
        size[axis] = 2 * (rim // 2 if axis == 0 else rim) + 1
        mask = functional.max_pool3d(mask, size, 1, [(length - 1) // 2 for length in size])
    return mask[0, 0] > 0
