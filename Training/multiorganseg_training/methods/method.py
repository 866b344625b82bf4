"""What the training loop knows of a method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor, nn


@dataclass(frozen=True)
class Batch:
    """Training patches on the device.

    Attributes:
        image: (batch, 1, k, j, i), normalised to [−1, 1].
        labels: (batch, k, j, i), int64 network channels.
    """

    image: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Step:
    """What a method gives back for a batch.

    Attributes:
        loss: Scalar to be minimised.
        logs: Scalars to be logged, detached.
    """

    loss: Tensor
    logs: Mapping[str, Tensor] = field(default_factory=dict)


class Method(Protocol):
    """Takes a batch and the network, gives back a loss and what to log."""

    def __call__(self, network: nn.Module, batch: Batch) -> Step:
        """Compute the loss of one batch."""
        ...
