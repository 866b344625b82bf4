"""Paste one sample into another, all their maps alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def mix(
    mask: Tensor, partner: Tensor, *tensors: Tensor, shift: NDArray[np.int64] | None = None
) -> tuple[Tensor, ...]:
    """Give M ⊙ x[partner] + (1 − M) ⊙ x for images, labels, targets, split masks and weights alike.

    Args:
        mask: (batch, *space), bool: true where the partner shows.
        partner: (batch,), int64: the sample pasted into each sample.
        tensors: Each (batch, *space) or (batch, channels, *space), any type.
        shift: (batch, axes) in voxels, where the pasted part comes from another place: the partner's voxel
            x + shift goes to x, such as `Boxes.shift`.

    Returns:
        The mixed tensors, in the same order; they share no memory with the given ones.
    """
    return tuple(_mix_one(mask, partner, tensor, shift) for tensor in tensors)


def _mix_one(mask: Tensor, partner: Tensor, tensor: Tensor, shift: NDArray[np.int64] | None) -> Tensor:
    pasted = tensor.index_select(0, partner.to(tensor.device))
    if shift is not None and shift.any():
        pasted = torch.stack(
            [_moved(sample, by) for sample, by in zip(pasted, shift.tolist(), strict=True)], dim=0
        )
    mask = mask.to(tensor.device)
    return pasted.where(mask if tensor.ndim == mask.ndim else mask[:, None], tensor)


def _moved(sample: Tensor, by: Sequence[int]) -> Tensor:
    return sample.roll([-step for step in by], dims=list(range(-len(by), 0)))
