"""Fully supervised learning: cross-entropy and soft Dice."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from multiorganseg_training.losses import cross_entropy_and_dice
from multiorganseg_training.methods.method import Batch, Step


@dataclass(frozen=True)
class Supervised:
    """Every organ of the label table is annotated in every case.

    Attributes:
        dice_weight: Weight of the Dice term beside the cross-entropy.
    """

    dice_weight: float = 1.0

    def __call__(self, network: nn.Module, batch: Batch) -> Step:
        """Compute the loss of one batch."""
        logits: Tensor = network(batch.image).logits
        cross_entropy, dice = cross_entropy_and_dice(logits, batch.labels)
        loss = cross_entropy + self.dice_weight * dice
        return Step(loss, {"cross_entropy": cross_entropy.detach(), "dice_loss": dice.detach()})
