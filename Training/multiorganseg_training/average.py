"""Exponential moving average of a network's weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from multiorganseg_training.prototypes.banks import PrototypeBank


class WeightAverage:
    """Keeps a copy of a network whose weights follow it slowly.

    The decay after n updates is (1 + n) / (10 + n) until it reaches `decay`, so that the average forgets the
    random start. Buffers are copied, but for prototypes, which follow as weights do and keep unit length.

    Attributes:
        network: The averaged copy, in evaluation mode.
        updates: How often `update` was called.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.updates = 0
        self._decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the average towards `network`."""
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        averaged: list[Tensor] = list(self.network.parameters())
        current: list[Tensor] = list(network.parameters())
        torch._foreach_lerp_(averaged, current, 1 - decay)
        for mine, theirs in zip(self.network.modules(), network.modules(), strict=True):
            if isinstance(mine, PrototypeBank) and isinstance(theirs, PrototypeBank):
                mine.follow(theirs, decay)
                continue
            for buffer, source in zip(
                mine.buffers(recurse=False), theirs.buffers(recurse=False), strict=True
            ):
                buffer.copy_(source)
