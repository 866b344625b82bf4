"""What a trained network claims for its own organs is not a new organ."""

from __future__ import annotations

import torch
from torch import Tensor

from multiorganseg_training.partial.known import expand_known
from multiorganseg_training.partial.probabilities import organ_probs

HIGHEST = 1 - 1e-6
"""Of a probability, so that the logarithm of its complement stays finite."""


def claimed_loss(
    logits: Tensor, old: int, known: Tensor, within: Tensor, weights: Tensor, activation: str
) -> Tensor:
    """Give the cross-entropy that keeps new organs off voxels that the trained network claims.

    Pseudo-labels where a new organ n is not annotated: the mean of −w · max_o p_o · log(1 − p_n) over these
    voxels and the new organs. p_o is the probability of an old organ before there were new ones;
    organs inside which n lies claim nothing from it.

    Args:
        logits: (batch, channels, *space), any floating type; the old organs' channels come first.
        old: How many organs the network knew.
        known: (batch, organs), or (batch, organs, *space) for mixed samples; bool.
        within: (organs, organs), bool: [t, o] says that organ t lies inside organ o.
        weights: (batch, *space), ≥ 0: how reliable the claims are.
        activation: "softmax" (channel 0 is background) or "sigmoid".

    Returns:
        Scalar, float32, ≥ 0; 0 with zero gradients where every new organ is annotated everywhere.

    Raises:
        TrainingError: The activation is unknown.
    """
    probabilities = organ_probs(logits, activation)
    new = probabilities.shape[1] - old
    claims = organ_probs(logits[:, :-new].detach(), activation)
    unknown = ~expand_known(known, logits.ndim - 2)[:, old:].expand(-1, -1, *logits.shape[2:])
    total, voxels = 0.0 * probabilities.sum(), unknown.sum().clamp(min=1)
    for organ in range(new):
        claimed = claims[:, ~within[old + organ, :old]]
        if not claimed.shape[1]:
            continue
        likely = probabilities[:, old + organ].clamp(max=HIGHEST)
        each = -weights.float() * claimed.amax(dim=1) * torch.log1p(-likely)
        total = total + each.where(unknown[:, organ], 0.0).sum() / voxels
    return total
