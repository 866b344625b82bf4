"""Labels from the linear classifier."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from multiorganseg.errors import TrainingError
from multiorganseg_training.partial.known import expand_known
from multiorganseg_training.partial.probabilities import SIGMOID, check_activation


def linear_threshold(
    logits: Tensor, threshold: float | Sequence[float] = 0.5, allowed: Tensor | None = None
) -> Tensor:
    """Give the most probable organ where it reaches the threshold, else background.

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
    each = [threshold] * classes if isinstance(threshold, int | float) else list(threshold)
    if len(each) != classes or not all(0 < value < 1 for value in each):
        msg = f"The thresholds {each} do not suit {classes} organs."
        raise TrainingError(msg, next_step="Give one threshold between 0 and 1, or one for each organ.")
    least = torch.tensor([math.log(value / (1 - value)) for value in each], device=logits.device)
    logits = logits.detach().float()
    reached = logits >= least.reshape(-1, *[1] * dimensions)
    if allowed is not None:
        reached = reached & expand_known(allowed, dimensions)
    best, organ = logits.masked_fill(~reached, -math.inf).max(dim=1)
    return (organ + 1).where(best > -math.inf, 0)


def hard_labels(
    logits: Tensor,
    activation: str,
    threshold: float | Sequence[float] = 0.5,
    allowed: Tensor | None = None,
) -> Tensor:
    """Give labels from either kind of head: `linear_threshold` for sigmoids, the argmax for softmax.

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
    check_activation(activation)
    if activation == SIGMOID:
        return linear_threshold(logits, threshold, allowed)
    return best_allowed(logits.detach(), allowed)


def best_allowed(scores: Tensor, allowed: Tensor | None) -> Tensor:
    """Give the argmax over background and the allowed organs.

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
