"""Pseudo-labels: what is annotated, and the teacher's claims where nothing contradicts them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from multiorganseg.errors import TrainingError
from multiorganseg_training.partial.known import hide_unknown, may_be
from multiorganseg_training.partial.threshold import best_allowed

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

    A voxel of a known organ keeps its label, unless the teacher claims an organ inside it that is not known:
    `may_be` says where that can be. Elsewhere the teacher's organ counts unless it is known: the
    annotation denies such a claim, and the voxel becomes background, or with "runner_up" the best of
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
    possible = may_be(labels, known, within)
    own = annotation[:, None] == torch.arange(1, known.shape[1] + 1, device=labels.device).reshape(
        1, -1, *[1] * (labels.ndim - 1)
    )
    claim = _claim(possible | own, teacher_labels, teacher_probs, deny)
    claimed = (claim > 0) & possible.gather(1, (claim - 1).clamp(min=0)[:, None])[:, 0]
    fused = claim.where(claimed, annotation)
    truth = (annotation > 0) & ~claimed
    return Fused(
        labels=fused,
        truth=truth,
        labelled=fused.masked_fill(~truth & (fused > 0), NOT_IN_SPLIT),
        unlabelled=fused.masked_fill(truth, NOT_IN_SPLIT),
    )


def _claim(allowed: Tensor, teacher_labels: Tensor | None, teacher_probs: Tensor | None, deny: str) -> Tensor:
    if teacher_labels is not None and teacher_probs is None and deny == BACKGROUND:
        return teacher_labels
    if teacher_probs is not None and teacher_labels is None and deny in (BACKGROUND, RUNNER_UP):
        return best_allowed(teacher_probs.detach(), allowed if deny == RUNNER_UP else None)
    msg = f"The teacher's labels and probabilities do not suit '{deny}' for denied claims."
    raise TrainingError(
        msg, next_step="Give labels or probabilities, not both; background, or runner_up with probabilities."
    )
