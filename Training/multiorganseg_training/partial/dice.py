"""Soft Dice over what is known."""

from __future__ import annotations

from torch import Tensor

from multiorganseg_training.partial.known import expand_known


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
