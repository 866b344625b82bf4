"""Losses for fully labelled patches."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def cross_entropy_and_dice(logits: Tensor, labels: Tensor, smooth: float = 1.0) -> tuple[Tensor, Tensor]:
    """Give the cross-entropy and the soft Dice loss from one softmax.

    The Dice loss is pooled over the batch and averaged over the foreground classes that occur in it, so
    that a small organ outside the patch does not push the network to predict nothing.

    Args:
        logits: (batch, classes, k, j, i), any floating type.
        labels: (batch, k, j, i), int64 in 0…classes − 1; 0 is background.
        smooth: Added to the numerator and the denominator of Dice, in voxels.

    Returns:
        Two scalars, float32. The Dice loss is 0 when no foreground occurs.
    """
    log_probabilities = torch.log_softmax(logits.float(), dim=1)
    cross_entropy = functional.nll_loss(log_probabilities, labels)
    probabilities = log_probabilities.exp()
    classes = logits.shape[1]
    truth = labels[:, None]
    hits = probabilities.gather(1, truth)
    voxels = torch.bincount(labels.flatten(), minlength=classes).float()
    intersection = torch.zeros_like(voxels).index_add(0, labels.flatten(), hits.flatten())
    predicted = probabilities.sum(dim=(0, 2, 3, 4))
    dice = (2 * intersection + smooth) / (predicted + voxels + smooth)
    occurs = voxels > 0
    occurs[0] = False
    return cross_entropy, (1 - dice)[occurs].mean() if occurs.any() else predicted.sum() * 0.0
