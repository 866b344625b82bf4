"""Softmax losses in which background and unknown organs are one class."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from multiorganseg_training.partial.known import annotated, expand_known, may_be


def marginal_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    known: Tensor,
    weights: Tensor | None = None,
    within: Tensor | None = None,
) -> Tensor:
    """Give the cross-entropy over the known organs and the rest.

    The rest is background and the organs that are not known. Their probabilities, not their logits, are
    added: log p = LSE(z_0, z_U) − LSE(z). For organs that exclude each other or lie inside each other: an
    annotated organ and those inside it that are not annotated are one class, too.

    Args:
        logits: (batch, classes + 1, *space), any floating type; channel 0 is background.
        labels: (batch, *space), int64; labels of organs that are not known count as not annotated.
        known: (batch, classes), or (batch, classes, *space) for mixed samples; bool.
        weights: (batch, *space), ≥ 0, multiply the loss of a voxel but not the denominator.
        within: (classes, classes), bool: [t, o] says that organ t lies inside organ o, as `within_matrix`
            gives it.

    Returns:
        Scalar, float32: the mean over the voxels of samples of which some organ is known; 0 with zero
        gradients where there is none.

    Raises:
        TrainingError: The shapes do not fit.
    """
    truth = annotated(labels, known)
    logits = logits.float()
    wide = expand_known(known, labels.ndim - 1)
    annotation = labels.where(truth, 0)[:, None]
    possible = torch.cat([annotation == 0, may_be(labels, known, within)], dim=1).scatter(1, annotation, True)
    one_of = logits.masked_fill(~possible, -math.inf).logsumexp(dim=1)
    each = logits.logsumexp(dim=1) - one_of
    counts = wide.any(dim=1).expand_as(each)
    each = each.where(counts, 0.0)
    if weights is not None:
        each = each * weights.float()
    return each.sum() / counts.sum().clamp(min=1)


def exclusion(probabilities: Tensor, targets: Tensor, known: Tensor, smooth: float = 1.0) -> Tensor:
    """Give the overlap of organs that are not known with voxels on which they cannot be.

    The soft Dice coefficient of p_u with the voxels of known organs that exclude u, pooled over the batch and
    averaged over the organs u for which there are such voxels.

    Args:
        probabilities: (batch, classes, *space), float32, without background.
        targets: (batch, classes, *space) in {0, 1, −1}, as `tri_state` gives them with `exclusive`.
        known: (batch, classes), or (batch, classes, *space) for mixed samples; bool.
        smooth: Added to the denominator, in voxels.

    Returns:
        Scalar, float32, to be minimised; 0 with zero gradients where there are no such voxels.
    """
    over = [0, *range(2, targets.ndim)]
    unknown = ~expand_known(known, targets.ndim - 2)
    excluded = unknown & (targets == 0)
    voxels = excluded.sum(dim=over)
    predicted = probabilities.where(unknown, 0.0).sum(dim=over)
    overlap = 2 * probabilities.where(excluded, 0.0).sum(dim=over) / (predicted + voxels + smooth)
    occurs = voxels > 0
    return overlap.where(occurs, 0.0).sum() / occurs.sum().clamp(min=1)
