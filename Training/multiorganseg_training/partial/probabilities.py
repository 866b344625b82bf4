"""Probabilities of background and organs from either kind of head."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from multiorganseg.errors import TrainingError

SOFTMAX = "softmax"
SIGMOID = "sigmoid"


def log_probs(logits: Tensor, activation: str) -> Tensor:
    """Give the logarithm of `probs`, computed without leaving log space; arguments as there."""
    logits = logits.float()
    check_activation(activation)
    if activation == SIGMOID:
        background = functional.logsigmoid(-logits).sum(dim=1, keepdim=True)
        logits = torch.cat([background, functional.logsigmoid(logits)], dim=1)
    return torch.log_softmax(logits, dim=1)


def probs(logits: Tensor, activation: str) -> Tensor:
    """Give a distribution over background and organs.

    With sigmoids, p_0 = ∏(1 − p_c), and everything is divided by the sum.

    Args:
        logits: (batch, channels, *space), any floating type: classes + 1 channels for "softmax", classes for
            "sigmoid".
        activation: "softmax" (channel 0 is background) or "sigmoid" (no background channel).

    Returns:
        (batch, classes + 1, *space), float32, summing to 1 over the channels; channel 0 is background.

    Raises:
        TrainingError: The activation is unknown.
    """
    return log_probs(logits, activation).exp()


def organ_probs(logits: Tensor, activation: str, within: Tensor | None = None) -> Tensor:
    """Give the probability of each organ by itself (batch, classes, *space), float32.

    Softmax without its background channel, or the sigmoids as they are. With `within`, the probabilities of a
    softmax count for the organs around, too, as the targets of `tri_state` do: a voxel of a tumour in the
    liver is in the liver.

    Args:
        logits: As in `probs`.
        activation: Likewise.
        within: (classes, classes), bool: [t, o] says that organ t lies inside organ o, over all layers.
    """
    check_activation(activation)
    if activation == SIGMOID:
        return logits.float().sigmoid()
    organs = torch.softmax(logits.float(), dim=1)[:, 1:]
    if within is None or not bool(within.any()):
        return organs
    return organs + torch.einsum("bt...,to->bo...", organs, within.float())


def check_activation(activation: str) -> None:
    """Refuse what is neither "softmax" nor "sigmoid".

    Raises:
        TrainingError: The activation is unknown.
    """
    if activation not in (SOFTMAX, SIGMOID):
        msg = f"No activation '{activation}'."
        raise TrainingError(msg, next_step=f"Known are {SOFTMAX} and {SIGMOID}.")
