"""Fully supervised learning: cross-entropy and soft Dice."""

from __future__ import annotations

import numpy as np
from torch import nn

from multiorganseg.errors import TrainingError
from multiorganseg_training.losses import cross_entropy_and_dice
from multiorganseg_training.methods.method import Batch, Method, Setting, Step


class Supervised(Method):
    """Every organ of the label table is annotated in every case.

    Args:
        setting: Its network ends in a softmax.
        dice_weight: Weight of the Dice term beside the cross-entropy.

    Raises:
        TrainingError: The network ends in sigmoids.
    """

    def __init__(self, setting: Setting, dice_weight: float = 1.0) -> None:
        super().__init__()
        if setting.activation != "softmax":
            msg = "The method 'supervised' needs a softmax."
            raise TrainingError(msg, next_step="Set network.activation, or take the method 'partial'.")
        self.dice_weight = dice_weight

    def forward(self, network: nn.Module, batch: Batch, generator: np.random.Generator) -> Step:
        """Compute the loss of one batch.

        Raises:
            TrainingError: An organ is not annotated in a case.
        """
        if not batch.known.all():
            msg = "The method 'supervised' needs every organ annotated in every case."
            raise TrainingError(msg, next_step="Take the method 'partial' or 'ltuda', or remove data.known.")
        cross_entropy, dice = cross_entropy_and_dice(network(batch.image).logits, batch.labels)
        loss = cross_entropy + self.dice_weight * dice
        return Step(loss, {"cross_entropy": cross_entropy.detach(), "dice_loss": dice.detach()})
