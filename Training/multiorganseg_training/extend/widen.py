"""Channels for further organs on a trained network."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from multiorganseg.errors import TrainingError
from multiorganseg_training.partial.probabilities import SOFTMAX

PRIOR = 0.01


def widen_state(
    trained: Mapping[str, Tensor], widened: Mapping[str, Tensor], activation: str, prior: float = PRIOR
) -> dict[str, Tensor]:
    """Give a trained network's state to one with more organs, the further ones after its own.

    The network says of its own organs what it said before. Under a softmax the new organs start as the
    background does and take the share `prior` of its probability (as MiB, Cermelli et al. 2020, whose share
    for one organ is a half: too much for one that fills a thousandth of the body); with sigmoids they start
    with the probability `prior` everywhere.

    Args:
        trained: State of the trained network; its last layers have fewer channels.
        widened: State of the network to be, with any weights.
        activation: "softmax" (channel 0 is background) or "sigmoid".
        prior: In (0, 1).

    Returns:
        State for the network to be.

    Raises:
        TrainingError: More than the channels of the last layers differs.
    """
    if trained.keys() != widened.keys():
        raise _unlike(sorted(trained.keys() ^ widened.keys())[0])
    return {name: _widen(name, trained[name], widened[name], activation, prior) for name in trained}


def _widen(name: str, trained: Tensor, widened: Tensor, activation: str, prior: float) -> Tensor:
    if trained.shape == widened.shape:
        return trained
    pairs = enumerate(zip(trained.shape, widened.shape, strict=False))
    axes = [axis for axis, (old, new) in pairs if old != new]
    if trained.ndim != widened.ndim or len(axes) != 1 or trained.numel() > widened.numel():
        raise _unlike(name)
    axis = axes[0]
    more = widened.shape[axis] - trained.shape[axis]
    fresh = further_channels(trained, axis, more, activation, prior)
    if activation == SOFTMAX and trained.ndim == 1:
        background = trained[:1] + math.log(1 - prior)
        return torch.cat([background, trained[1:], fresh])
    return torch.cat([trained, fresh], dim=axis)


def further_channels(trained: Tensor, axis: int, more: int, activation: str, prior: float = PRIOR) -> Tensor:
    """Give weights or bias with which further channels of a last layer start; see `widen_state`.

    Args:
        trained: Weights or bias of a trained last layer.
        axis: That of its channels.
        more: How many channels are wanted.
        activation: "softmax" (channel 0 is background) or "sigmoid".
        prior: In (0, 1).
    """
    background = trained.narrow(axis, 0, 1)
    shape = list(trained.shape)
    shape[axis] = more
    is_bias = trained.ndim == 1
    if activation != SOFTMAX:
        return torch.full(shape, math.log(prior / (1 - prior)) if is_bias else 0.0).to(trained)
    return background.expand(shape) + (math.log(prior / more) if is_bias else 0.0)


def _unlike(name: str) -> TrainingError:
    msg = "The network to be extended is not built like the recipe's."
    return TrainingError(
        msg,
        cause=f"They differ in '{name}'.",
        next_step="Copy architecture and arguments from its metadata; name its organs first, in its order.",
    )
