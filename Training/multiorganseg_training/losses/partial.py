"""Losses for cases in which all or only some organs are annotated."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from multiorganseg_training.losses.known import (
    SOFTMAX,
    expand_known,
    open_classes,
    organ_probs,
    require_choice,
)


def cross_entropy_and_dice(logits: Tensor, labels: Tensor, smooth: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy and the soft Dice loss from one softmax.

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


LOG_SMOOTH = 0.01
"""In voxels: so little that an organ with hardly any probability still has a gradient."""

LOWEST = 1e-6
"""Of a Dice, so that its logarithm stays finite."""


def masked_dice(probabilities: Tensor, targets: Tensor, known: Tensor, smooth: float = 1.0) -> Tensor:
    """Return the soft Dice loss over the known organs of each sample.

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
    """Return the negative logarithm of the soft Dice of each known organ, averaged over those that occur.

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


MEAN = "mean"
PAPER = "paper"
SUM_BATCH = "sum_batch"
REDUCTIONS = (MEAN, PAPER, SUM_BATCH)


def masked_bce(
    logits: Tensor, targets: Tensor, reduction: str = MEAN, weights: Tensor | None = None
) -> Tensor:
    """Return the binary cross-entropy over the targets that are not ignored.

    Reductions: "mean" over all valid entries of the batch; "paper" as the partial-label loss of LTUDA
    (Jiang et al. 2024): for each class the mean over all voxels, ignored ones counted in the denominator,
    then the mean over the batch and over the classes that have a target; "sum_batch" as its published code:
    the same with the sum over the batch. With every target valid, "mean" and "paper" are plain
    cross-entropy.

    Args:
        logits: (batch, classes, *space), any floating type.
        targets: (batch, classes, *space) in {0, 1, −1}; −1 is ignored.
        reduction: "mean", "paper" or "sum_batch".
        weights: (batch, *space), ≥ 0, multiply the loss of a voxel but not the denominator.

    Returns:
        Scalar, float32; 0 with zero gradients where no target is valid.

    Raises:
        TrainingError: The reduction is unknown.
    """
    require_choice("reduction", reduction, REDUCTIONS)
    valid = targets >= 0
    each = functional.binary_cross_entropy_with_logits(
        logits.float(), targets.clamp(min=0).float(), reduction="none"
    ).masked_fill(~valid, 0.0)
    if weights is not None:
        each = each * weights[:, None].float()
    if reduction == MEAN:
        return each.sum() / valid.sum().clamp(min=1)
    per_sample = each.flatten(2).mean(dim=2)
    has_target = valid.transpose(0, 1).flatten(1).any(dim=1)
    per_class = per_sample.mean(dim=0) if reduction == PAPER else per_sample.sum(dim=0)
    return per_class.where(has_target, 0.0).sum() / has_target.sum().clamp(min=1)


def marginal_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    known: Tensor,
    weights: Tensor | None = None,
    within: Tensor | None = None,
) -> Tensor:
    """Return the cross-entropy over the known organs and the rest.

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
    logits = logits.float()
    wide = expand_known(known, labels.ndim - 1)
    one_of = logits.masked_fill(~open_classes(labels, known, within), -math.inf).logsumexp(dim=1)
    each = logits.logsumexp(dim=1) - one_of
    counts = wide.any(dim=1).expand_as(each)
    each = each.where(counts, 0.0)
    if weights is not None:
        each = each * weights.float()
    return each.sum() / counts.sum().clamp(min=1)


def exclusion(probabilities: Tensor, targets: Tensor, known: Tensor, smooth: float = 1.0) -> Tensor:
    """Return the overlap of organs that are not known with voxels on which they cannot be.

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


def partial_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    targets: Tensor,
    known: Tensor,
    activation: str,
    within: Tensor | None = None,
    reduction: str = MEAN,
) -> Tensor:
    """Return the marginal cross-entropy of a softmax, or the masked one of sigmoids.

    Args:
        logits: (batch, channels, *space), any floating type.
        labels: (batch, *space), int64: what is annotated; a softmax learns from them.
        targets: (batch, organs, *space), int8 in {0, 1, −1}: the same for sigmoids.
        known: (batch, organs), or (batch, organs, *space) for mixed samples; bool.
        activation: "softmax" or "sigmoid".
        within: As in `marginal_cross_entropy`; the targets hold it already.
        reduction: Of the masked one; see `masked_bce`.

    Returns:
        Scalar, float32; 0 with zero gradients where nothing is annotated.
    """
    if activation == SOFTMAX:
        return marginal_cross_entropy(logits, labels, known, within=within)
    return masked_bce(logits, targets, reduction)


@dataclass(frozen=True)
class PartialLoss:
    """What the annotations of a batch say of its logits.

    Sigmoids: `masked_bce`. Softmax: `marginal_cross_entropy`, in which background and organs that are not
    annotated are one class, and the `exclusion`. Both with a Dice over the annotated organs.

    Attributes:
        activation: "softmax" or "sigmoid".
        dice_weight: Of the Dice.
        log: Whether it is the negative logarithm; see `log_dice`.
        exclusion_weight: Of the exclusion; softmax only.
        reduction: Of the binary cross-entropy; sigmoids only.

    Raises:
        TrainingError: The reduction is unknown.
    """

    activation: str
    dice_weight: float = 0.0
    log: bool = False
    exclusion_weight: float = 0.0
    reduction: str = MEAN

    def __post_init__(self) -> None:
        """Check the reduction.

        Raises:
            TrainingError: It is unknown.
        """
        require_choice("reduction", self.reduction, REDUCTIONS)

    def __call__(
        self, logits: Tensor, labels: Tensor, targets: Tensor, known: Tensor, within: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and, detached and without weights, its parts.

        Args:
            logits: (batch, channels, *space), any floating type.
            labels: (batch, *space), int64: what is annotated; a softmax learns from them.
            targets: (batch, organs, *space), int8 in {0, 1, −1}: the same by organ.
            known: (batch, organs), or (batch, organs, *space) for mixed samples; bool.
            within: As in `marginal_cross_entropy`; the targets hold it already.

        Returns:
            Scalar, float32, and its parts; 0 with zero gradients where nothing is annotated.
        """
        softmax = self.activation == SOFTMAX
        loss = partial_cross_entropy(logits, labels, targets, known, self.activation, within, self.reduction)
        parts = {"marginal_cross_entropy" if softmax else "cross_entropy": loss.detach()}
        with torch.autocast(logits.device.type, enabled=False):
            exclusion_weight = self.exclusion_weight if softmax else 0.0
            if not self.dice_weight and not exclusion_weight:
                return loss, parts
            organs = organ_probs(logits, self.activation, within)
            if self.dice_weight:
                dice = (log_dice if self.log else masked_dice)(organs, targets, known)
                loss = loss + self.dice_weight * dice
                parts["dice_loss"] = dice.detach()
            if exclusion_weight:
                overlap = exclusion(organs, targets, known)
                loss = loss + exclusion_weight * overlap
                parts["exclusion"] = overlap.detach()
        return loss, parts
