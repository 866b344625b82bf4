"""The cross-entropy over what is annotated, for either kind of head."""

from __future__ import annotations

from torch import Tensor

from multiorganseg_training.partial.marginal_loss import marginal_cross_entropy
from multiorganseg_training.partial.probabilities import SOFTMAX
from multiorganseg_training.partial.sigmoid_loss import masked_bce


def partial_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    targets: Tensor,
    known: Tensor,
    activation: str,
    within: Tensor | None = None,
) -> Tensor:
    """Give the marginal cross-entropy of a softmax, or the masked one of sigmoids.

    Args:
        logits: (batch, channels, *space), any floating type.
        labels: (batch, *space), int64: what is annotated; a softmax learns from them.
        targets: (batch, organs, *space), int8 in {0, 1, −1}: the same for sigmoids.
        known: (batch, organs), or (batch, organs, *space) for mixed samples; bool.
        activation: "softmax" or "sigmoid".
        within: As in `marginal_cross_entropy`; the targets hold it already.

    Returns:
        Scalar, float32; 0 with zero gradients where nothing is annotated.
    """
    if activation == SOFTMAX:
        return marginal_cross_entropy(logits, labels, known, within=within)
    return masked_bce(logits, targets)
