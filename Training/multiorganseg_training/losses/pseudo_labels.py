"""Pseudo-labels: annotations where there are any, the teacher's labels where nothing contradicts them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from multiorganseg.errors import TrainingError
from multiorganseg_training.losses.known import (
    ACTIVATIONS,
    SIGMOID,
    expand_known,
    hide_unknown,
    open_classes,
    require_choice,
)


def linear_threshold(
    logits: Tensor, threshold: float | Sequence[float] = 0.5, allowed: Tensor | None = None
) -> Tensor:
    """Return the most probable organ where it reaches the threshold, else background.

    LTUDA (Jiang et al. 2024), Eq. 2. With a threshold for each organ, the most probable of the organs that
    reach their own wins.

    Args:
        logits: (batch, classes, *space) of sigmoid channels, any floating type.
        threshold: Probability between 0 and 1, one for all or one for each organ.
        allowed: (batch, classes), bool: the organs that may win; all by default.

    Returns:
        (batch, *space), int64 in 0…classes.

    Raises:
        TrainingError: A threshold is not between 0 and 1, or their number does not fit.
    """
    classes, dimensions = logits.shape[1], logits.ndim - 2
    least = torch.tensor(least_logits(threshold, classes), device=logits.device)
    logits = logits.detach().float()
    reached = logits >= least.reshape(-1, *[1] * dimensions)
    if allowed is not None:
        reached = reached & expand_known(allowed, dimensions)
    best, organ = logits.masked_fill(~reached, -math.inf).max(dim=1)
    return (organ + 1).where(best > -math.inf, 0)


def least_logits(threshold: float | Sequence[float], classes: int) -> list[float]:
    """Return the logit of a threshold for each organ.

    Args:
        threshold: As in `linear_threshold`.
        classes: How many organs there are.

    Raises:
        TrainingError: A threshold is not between 0 and 1, or their number does not fit.
    """
    each = [threshold] * classes if isinstance(threshold, int | float) else list(threshold)
    if len(each) != classes or not all(0 < value < 1 for value in each):
        msg = f"The thresholds {each} do not suit {classes} organs."
        raise TrainingError(msg, next_step="Give one threshold between 0 and 1, or one for each organ.")
    return [math.log(value / (1 - value)) for value in each]


def hard_labels(
    logits: Tensor,
    activation: str,
    threshold: float | Sequence[float] = 0.5,
    allowed: Tensor | None = None,
) -> Tensor:
    """Return labels from either kind of head: `linear_threshold` for sigmoids, the argmax for softmax.

    Args:
        logits: (batch, channels, *space), as in `probabilities.probs`.
        activation: "softmax" or "sigmoid".
        threshold: For sigmoids only.
        allowed: (batch, classes), bool: the organs that may win; background always may.

    Returns:
        (batch, *space), int64 in 0…classes.

    Raises:
        TrainingError: The activation or a threshold is not valid.
    """
    require_choice("activation", activation, ACTIVATIONS)
    if activation == SIGMOID:
        return linear_threshold(logits, threshold, allowed)
    return best_allowed(logits.detach(), allowed)


def best_allowed(scores: Tensor, allowed: Tensor | None) -> Tensor:
    """Return the argmax over background and the allowed organs.

    Args:
        scores: (batch, classes + 1, *space): logits or probabilities.
        allowed: (batch, classes) or (batch, classes, *space), bool; None allows all.

    Returns:
        (batch, *space), int64 in 0…classes.
    """
    if allowed is not None:
        background = torch.ones_like(allowed[:, :1])
        may_win = expand_known(torch.cat([background, allowed], dim=1), scores.ndim - 2)
        scores = scores.masked_fill(~may_win, -math.inf)
    return scores.max(dim=1).indices


BACKGROUND = "background"
RUNNER_UP = "runner_up"
NOT_IN_SPLIT = -1


@dataclass(frozen=True)
class Fused:
    """Labels of all organs for a batch.

    Attributes:
        labels: (batch, *space), int64 in 0…classes: annotation and teacher together.
        truth: (batch, *space), bool: the label is an annotation.
        labelled: (batch, *space), int64: the label on annotated voxels, 0 on background, −1 elsewhere.
        unlabelled: (batch, *space), int64: the teacher's organs and 0 on background, −1 on annotated voxels.
    """

    labels: Tensor
    truth: Tensor
    labelled: Tensor
    unlabelled: Tensor


def fuse(
    labels: Tensor,
    known: Tensor,
    teacher_labels: Tensor | None = None,
    teacher_probs: Tensor | None = None,
    deny: str = BACKGROUND,
    within: Tensor | None = None,
) -> Fused:
    """Fuse annotations with a teacher's prediction (pseudo-label fusion of LTUDA, for any known set).

    A voxel of a known organ keeps its label, unless the teacher gives the label of an organ inside it that is
    not known: `may_be` says where that can be. Elsewhere the teacher's organ counts unless it is known: the
    annotation denies such a pseudo-label, and the voxel becomes background, or with "runner_up" the best of
    background and the organs that are not known. For the runner-up of sigmoids under a threshold, give
    `teacher_labels` of `linear_threshold` with `allowed=~known`.

    Args:
        labels: (batch, *space), int64; labels of organs that are not known count as not annotated.
        known: (batch, classes), bool.
        teacher_labels: (batch, *space), int64 in 0…classes; or else
        teacher_probs: (batch, classes + 1, *space), channel 0 is background.
        deny: "background" or "runner_up", which needs `teacher_probs`.
        within: (classes, classes), bool: [t, o] says that organ t lies inside organ o, over all layers.

    Returns:
        Fused labels and the two split masks, which share the background.

    Raises:
        TrainingError: Not one teacher is given, `deny` does not fit, or the shapes do not fit.
    """
    annotation = hide_unknown(labels, known)
    is_open = open_classes(labels, known, within)
    answer = _pseudo_labels(is_open, teacher_labels, teacher_probs, deny)
    is_pseudo = (answer > 0) & (answer != annotation) & is_open.gather(1, answer[:, None])[:, 0]
    fused = answer.where(is_pseudo, annotation)
    truth = (annotation > 0) & ~is_pseudo
    return Fused(
        labels=fused,
        truth=truth,
        labelled=fused.masked_fill(~truth & (fused > 0), NOT_IN_SPLIT),
        unlabelled=fused.masked_fill(truth, NOT_IN_SPLIT),
    )


def _pseudo_labels(
    is_open: Tensor, teacher_labels: Tensor | None, teacher_probs: Tensor | None, deny: str
) -> Tensor:
    if teacher_labels is not None and teacher_probs is None and deny == BACKGROUND:
        return teacher_labels
    if teacher_probs is not None and teacher_labels is None and deny in (BACKGROUND, RUNNER_UP):
        return best_allowed(teacher_probs.detach(), is_open[:, 1:] if deny == RUNNER_UP else None)
    msg = f"The teacher's labels and probabilities do not suit '{deny}' for denied pseudo-labels."
    raise TrainingError(
        msg, next_step="Give labels or probabilities, not both; background, or runner_up with probabilities."
    )
