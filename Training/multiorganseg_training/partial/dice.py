"""Soft Dice over what is known, and its logarithm, whose gradient does not fade with a small organ."""

from __future__ import annotations

import torch
from torch import Tensor

from multiorganseg_training.partial.known import expand_known

LOG_SMOOTH = 0.01
"""In voxels: so little that an organ with hardly any probability still has a gradient."""

LOWEST = 1e-6
"""Of a Dice, so that its logarithm stays finite."""


def masked_dice(probabilities: Tensor, targets: Tensor, known: Tensor, smooth: float = 1.0) -> Tensor:
    """Give the soft Dice loss over the known organs of each sample.

    Pooled over the batch and averaged over the organs that occur, as `losses.cross_entropy_and_dice`, to
    which it is equal where every organ is known.

    Args:
        probabilities: (batch, classes, *space), float32, without background.
        targets: (batch, classes, *space) in {0, 1, −1}, as `tri_state` gives them.
        known: (batch, classes), or (batch, classes, *space) for mixed samples; bool.
        smooth: Added to the numerator and the denominator, in voxels.

    Returns:
        Scalar, float32; 0 with zero gradients where no known organ occurs.
    """
    over = [0, *range(2, targets.ndim)]
    counts = expand_known(known, targets.ndim - 2) & (targets >= 0)
    truth = counts & (targets > 0)
    predicted = probabilities.where(counts, 0.0)
    voxels = truth.sum(dim=over)
    intersection = predicted.where(truth, 0.0).sum(dim=over)
    dice = (2 * intersection + smooth) / (predicted.sum(dim=over) + voxels + smooth)
    occurs = voxels > 0
    return (1 - dice).where(occurs, 0.0).sum() / occurs.sum().clamp(min=1)


def log_dice(probabilities: Tensor, targets: Tensor, known: Tensor) -> Tensor:
    """Give the negative logarithm of the soft Dice of each known organ, averaged over those that occur.

    The gradient of the Dice itself is proportional to the probability inside the organ and fades while that
    is small; that of the logarithm does not (Wong et al. 2018, with an exponent of 1).

    Args:
        probabilities: (batch, classes, *space), float32, without background.
        targets: (batch, classes, *space) in {0, 1, −1}, as `tri_state` gives them.
        known: (batch, classes), or (batch, classes, *space) for mixed samples; bool.

    Returns:
        Scalar, float32, ≥ 0; 0 with zero gradients where no known organ occurs.
    """
    truth = expand_known(known, targets.ndim - 2) & (targets > 0)
    occurring = truth.movedim(1, 0).flatten(1).any(dim=1).nonzero()[:, 0].tolist()
    if not occurring:
        return 0.0 * probabilities.sum()
    each = []
    for organ in occurring:
        own = slice(organ, organ + 1)
        each.append(masked_dice(probabilities[:, own], targets[:, own], known[:, own], LOG_SMOOTH))
    return -torch.log1p(-torch.stack(each).clamp(max=1 - LOWEST)).mean()
