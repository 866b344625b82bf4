"""How alike a voxel's features are to those of each class in the same volume."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

MIN_VOXELS = 32


@dataclass(frozen=True)
class ClassPrototypes:
    """One direction in feature space for each volume and class.

    Attributes:
        directions: (batch, classes + 1, width), float32, of length 1; 0 where there is none.
        present: (batch, classes + 1), bool: whether the class has enough voxels.
    """

    directions: Tensor
    present: Tensor


def class_prototypes(
    features: Tensor, labels: Tensor, channels: int, min_voxels: int = MIN_VOXELS
) -> ClassPrototypes:
    """Give the direction of the mean feature of each class in each volume.

    Args:
        features: (batch, width, *space), float32.
        labels: (batch, *space), int64 in 0…channels − 1: the predicted class.
        channels: Classes with background.
        min_voxels: A class with fewer has no prototype.
    """
    classes = torch.arange(channels, device=labels.device)[:, None]
    member = (labels.flatten(1)[:, None] == classes).to(features.dtype)
    sums = torch.einsum("bkv,bdv->bkd", member, features.flatten(2))
    present = member.sum(dim=2) >= max(min_voxels, 1)
    directions = functional.normalize(sums, dim=2)
    return ClassPrototypes(directions.where(present[..., None], 0.0), present)


def similarities(features: Tensor, prototypes: ClassPrototypes) -> Tensor:
    """Give the cosine of each voxel's features with each class's prototype.

    Args:
        features: (batch, width, *space), float32.
        prototypes: Of the same volumes.

    Returns:
        (batch, classes + 1, *space), float32 in [−1, 1]; 0 for a class without prototype.
    """
    voxels = features.movedim(1, -1).flatten(1, -2).contiguous()
    lengths = torch.linalg.vector_norm(voxels, dim=2).clamp(min=1e-12)
    cosines = torch.einsum("bkd,bvd->bkv", prototypes.directions, voxels).div_(lengths[:, None])
    return cosines.reshape(*cosines.shape[:2], *features.shape[2:])
