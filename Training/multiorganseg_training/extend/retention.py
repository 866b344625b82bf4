"""Holding a trained network to what it said of the organs that it knew."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from multiorganseg_training.partial.known import expand_known
from multiorganseg_training.partial.probabilities import SOFTMAX, check_activation


def retained_organs(known: Tensor, old: int) -> Tensor:
    """Give the organs that the trained network speaks for: the old ones that are not annotated.

    Args:
        known: (batch, classes), or (batch, classes, *space) for mixed samples; bool.
        old: How many organs it knew; they are the first ones.

    Returns:
        Of the shape of `known`, bool.
    """
    is_old = torch.arange(known.shape[1], device=known.device) < old
    return ~known & is_old.reshape(1, -1, *[1] * (known.ndim - 2))


def retention(
    logits: Tensor, former: Tensor, retained: Tensor, counts: Tensor, weights: Tensor, activation: str
) -> Tensor:
    """Give the cross-entropy with what the trained network said, over the retained organs and the rest.

    Softmax: the rest is background, new organs and annotated ones; its probabilities, not its logits, are
    added on both sides, so that a new organ may take what was background. Sigmoids: each retained organ by
    itself.

    Args:
        logits: (batch, channels, *space) of the network in training, any floating type.
        former: (batch, channels, *space) of the trained network, detached.
        retained: (batch, classes) or (batch, classes, *space), bool; see `retained_organs`.
        counts: (batch, *space), bool: voxels on which no annotation overrules the trained network.
        weights: (batch, *space), ≥ 0: how reliable it is.
        activation: "softmax" (channel 0 is background) or "sigmoid".

    Returns:
        Scalar, float32: the mean over the voxels that count, less the entropy of what the trained network
        said, so that it is 0 where both agree; 0 with zero gradients where no voxel counts.

    Raises:
        TrainingError: The activation is unknown.
    """
    check_activation(activation)
    logits, former = logits.float(), former.float()
    wide = expand_known(retained, logits.ndim - 2).expand(-1, -1, *logits.shape[2:])
    if activation == SOFTMAX:
        said, claimed = _with_rest(logits, wide), _with_rest(former, wide)
        probabilities = claimed.exp()
        each = (probabilities * (claimed - said)).sum(dim=1)
    else:
        probabilities = former.sigmoid()
        difference = functional.binary_cross_entropy_with_logits(
            logits, probabilities, reduction="none"
        ) - functional.binary_cross_entropy_with_logits(former, probabilities, reduction="none")
        each = difference.where(wide, 0.0).sum(dim=1)
    total = (each * weights.float()).where(counts, 0.0).sum()
    return total / counts.sum().clamp(min=1)


def _with_rest(logits: Tensor, retained: Tensor) -> Tensor:
    """Give log-probabilities (batch, classes + 1, *space) with all that is not retained in channel 0.

    Channels that are not retained are 0, on both sides of a comparison.
    """
    logs = torch.log_softmax(logits, dim=1)
    lowest = torch.finfo(logs.dtype).min
    in_rest = torch.cat([torch.ones_like(retained[:, :1]), ~retained], dim=1)
    rest = logs.masked_fill(~in_rest, lowest).logsumexp(dim=1, keepdim=True)
    return torch.cat([rest, logs[:, 1:].masked_fill(~retained, 0.0)], dim=1)
