"""Binary cross-entropy of sigmoid channels over what is known."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from multiorganseg.errors import TrainingError

MEAN = "mean"
PAPER = "paper"
SUM_BATCH = "sum_batch"
REDUCTIONS = (MEAN, PAPER, SUM_BATCH)


def masked_bce(
    logits: Tensor, targets: Tensor, reduction: str = MEAN, weights: Tensor | None = None
) -> Tensor:
    """Give the binary cross-entropy over the targets that are not ignored.

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
    if reduction == PAPER:
        per_class = per_sample.mean(dim=0)
    elif reduction == SUM_BATCH:
        per_class = per_sample.sum(dim=0)
    else:
        msg = f"No reduction '{reduction}'."
        raise TrainingError(msg, next_step=f"Known are {', '.join(REDUCTIONS)}.")
    return per_class.where(has_target, 0.0).sum() / has_target.sum().clamp(min=1)
