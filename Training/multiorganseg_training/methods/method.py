"""What the training loop knows of a method, and random numbers that depend on the run alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from multiorganseg.bundles.metadata import Preprocessing
from multiorganseg_training.data.batches import Batch


@dataclass(frozen=True)
class Step:
    """What a method gives back for a batch.

    Attributes:
        loss: Scalar to be minimised.
        logs: Scalars to be logged, detached.
    """

    loss: Tensor
    logs: Mapping[str, Tensor] = field(default_factory=dict)


Seen = dict[str, Tensor]
"""What a step takes of a batch and of the frozen part of a network, by name; the batch comes first."""


@dataclass(frozen=True, eq=False)
class Setting:
    """What a method is built for.

    Attributes:
        network: The network before its first step.
        activation: "softmax" or "sigmoid", of its logits.
        organs: How many organs it segments.
        feature_channels: Of its features.
        within: (organs, organs), bool: [t, o] says that organ t lies inside organ o.
        keys: Of the organs, in the order of the channels; None for a method that asks for none.
        preprocessing: How images come to the network; likewise.
    """

    network: nn.Module
    activation: str
    organs: int
    feature_channels: int
    within: Tensor
    keys: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None


class Method(nn.Module):
    """Takes a batch and the network, gives back a loss and what to log.

    Its parameters are trained with the network's, its whole state lies in the checkpoint.

    Attributes:
        frozen: Whether a step is `see` and then `learn`, the first of which no training changes.
        least_batch: Fewest cases of a batch from which it learns what it says: two where cases are mixed.
        taught: Whether another network says organs that no case has annotated.
        complete: Whether it needs every organ annotated in every case.
    """

    frozen: bool = False
    least_batch: int = 1
    taught: bool = False
    complete: bool = False

    def forward(self, network: nn.Module, batch: Batch, generator: np.random.Generator) -> Step:
        """Compute the loss of one batch; `generator` is the source of all randomness."""
        raise NotImplementedError

    def see(self, network: nn.Module, batch: Batch, generator: np.random.Generator) -> Seen:
        """Compute what training does not change of a step, so that it may be kept; see `frozen`."""
        raise NotImplementedError

    def learn(self, network: nn.Module, seen: Seen) -> Step:
        """Compute the loss of a batch of which that was seen."""
        raise NotImplementedError

    def judge(self) -> nn.Module | None:
        """Return what of the method labels images beside the network; it is averaged as the network is."""
        return None

    def after_step(self, network: nn.Module) -> None:
        """Follow the network after each step of the optimiser."""


def torch_generator(generator: np.random.Generator, device: torch.device) -> torch.Generator:
    """Return a torch generator on a device, seeded by the next number of the run's generator."""
    return torch.Generator(device).manual_seed(int(generator.integers(2**62)))
