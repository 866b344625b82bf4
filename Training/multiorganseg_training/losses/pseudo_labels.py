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
    hide_unknown,
    open_classes,
    require_choice,
)


def linear_threshold(logits: Tensor, threshold: float | Sequence[float] = 0.5) -> Tensor:
    """Return the most probable organ where it reaches the threshold, else background.

    LTUDA (Jiang et al. 2024), Eq. 2. With a threshold for each organ, the most probable of the organs that
    reach their own wins.

    Args:
        logits: (batch, classes, *space) of sigmoid channels, any floating type.
        threshold: Probability between 0 and 1, one for all or one for each organ.

    Returns:
        (batch, *space), int64 in 0…classes.

    Raises:
        TrainingError: A threshold is not between 0 and 1, or their number does not fit.
    """
    classes, dimensions = logits.shape[1], logits.ndim - 2
    least = torch.tensor(least_logits(threshold, classes), device=logits.device)
    logits = logits.detach().float()
    reached = logits >= least.reshape(-1, *[1] * dimensions)
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


def hard_labels(logits: Tensor, activation: str, threshold: float | Sequence[float] = 0.5) -> Tensor:
    """Return labels from either kind of head: `linear_threshold` for sigmoids, the argmax for softmax.

    Args:
        logits: (batch, channels, *space), as in `probabilities.probs`.
        activation: "softmax" or "sigmoid".
        threshold: For sigmoids only.

    Returns:
        (batch, *space), int64 in 0…classes.

    Raises:
        TrainingError: The activation or a threshold is not valid.
    """
    require_choice("activation", activation, ACTIVATIONS)
    if activation == SIGMOID:
        return linear_threshold(logits, threshold)
    return logits.detach().max(dim=1).indices  # on processors quicker than argmax


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


def fuse(labels: Tensor, known: Tensor, teacher_labels: Tensor, within: Tensor | None = None) -> Fused:
    """Fuse annotations with a teacher's prediction (pseudo-label fusion of LTUDA, for any known set).

    A voxel of a known organ keeps its label, unless the teacher gives the label of an organ inside it that is
    not known: `may_be` says where that can be. Elsewhere the teacher's organ counts unless it is known: the
    annotation denies such a pseudo-label, and the voxel becomes background. For the best of what is not
    denied, give a teacher's labels among `open_classes`.

    Args:
        labels: (batch, *space), int64; labels of organs that are not known count as not annotated.
        known: (batch, classes), bool.
        teacher_labels: (batch, *space), int64 in 0…classes.
        within: (classes, classes), bool: [t, o] says that organ t lies inside organ o, over all layers.

    Returns:
        Fused labels and the two split masks, which share the background.

    Raises:
        TrainingError: The shapes of labels and known sets do not fit.
    """
    annotation = hide_unknown(labels, known)
    is_open = open_classes(labels, known, within)
    is_possible = is_open.gather(1, teacher_labels[:, None])[:, 0]
    is_pseudo = (teacher_labels > 0) & (teacher_labels != annotation) & is_possible
    fused = teacher_labels.where(is_pseudo, annotation)
    truth = (annotation > 0) & ~is_pseudo
    return Fused(
        labels=fused,
        truth=truth,
        labelled=fused.masked_fill(~truth & (fused > 0), NOT_IN_SPLIT),
        unlabelled=fused.masked_fill(truth, NOT_IN_SPLIT),
    )
