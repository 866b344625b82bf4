"""Pseudo-labels: what is annotated, and the teacher's claims where nothing contradicts them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from multiorganseg.errors import TrainingError
from multiorganseg_training.partial.known import annotated
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
) -> Fused:
    """Fuse annotations with a teacher's prediction (pseudo-label fusion of LTUDA, for any known set).

    A voxel of a known organ keeps its label. Elsewhere the teacher's organ counts unless it is known: the
    annotation denies such a claim, and the voxel becomes background, or with "runner_up" the best of
    background and the organs that are not known. For the runner-up of sigmoids under a threshold, give
    `teacher_labels` of `linear_threshold` with `allowed=~known`.

    Args:
        labels: (batch, *space), int64; labels of organs that are not known count as not annotated.
        known: (batch, classes), bool.
        teacher_labels: (batch, *space), int64 in 0…classes; or else
        teacher_probs: (batch, classes + 1, *space), channel 0 is background.
        deny: "background" or "runner_up", which needs `teacher_probs`.

    Returns:
        Fused labels and the two split masks, which share the background.

    Raises:
        TrainingError: Not one teacher is given, `deny` does not fit, or the shapes do not fit.
    """
    truth = annotated(labels, known)
    claim = _claim(known, teacher_labels, teacher_probs, deny)
    claim = claim.masked_fill(annotated(claim, known), 0)
    fused = labels.where(truth, claim)
    return Fused(
        labels=fused,
        truth=truth,
        labelled=fused.masked_fill(~truth & (fused > 0), NOT_IN_SPLIT),
        unlabelled=fused.masked_fill(truth, NOT_IN_SPLIT),
    )


def _claim(known: Tensor, teacher_labels: Tensor | None, teacher_probs: Tensor | None, deny: str) -> Tensor:
    if teacher_labels is not None and teacher_probs is None and deny == BACKGROUND:
        return teacher_labels
    if teacher_probs is not None and teacher_labels is None and deny in (BACKGROUND, RUNNER_UP):
        return best_allowed(teacher_probs.detach(), ~known if deny == RUNNER_UP else None)
    msg = f"The teacher's labels and probabilities do not suit '{deny}' for denied claims."
    raise TrainingError(
        msg, next_step="Give labels or probabilities, not both; background, or runner_up with probabilities."
    )
