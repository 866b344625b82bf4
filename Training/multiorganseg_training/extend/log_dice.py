"""The logarithm of the soft Dice, whose gradient does not fade with a small organ."""

from __future__ import annotations

import torch
from torch import Tensor

from multiorganseg_training.partial.dice import masked_dice
from multiorganseg_training.partial.known import expand_known

SMOOTH = 0.01
"""In voxels: so little that an organ with hardly any probability still has a gradient."""

LOWEST = 1e-6
"""Of a Dice, so that its logarithm stays finite."""


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
        each.append(masked_dice(probabilities[:, own], targets[:, own], known[:, own], SMOOTH))
    return -torch.log1p(-torch.stack(each).clamp(max=1 - LOWEST)).mean()
