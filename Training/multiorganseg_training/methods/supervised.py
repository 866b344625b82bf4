"""Learning from annotations alone, whether all organs of a case are annotated or only some."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from multiorganseg.errors import TrainingError
from multiorganseg.schema import NotNegative
from multiorganseg_training.data.batches import Batch
from multiorganseg_training.losses.known import SOFTMAX, tri_state
from multiorganseg_training.losses.partial import (
    MEAN,
    PartialLoss,
    cross_entropy_and_dice,
)
from multiorganseg_training.methods.method import Method, Setting, Step


class Supervised(Method):
    """Every organ of the label table is annotated in every case.

    Args:
        setting: Its network ends in a softmax.
        dice_weight: Weight of the Dice term beside the cross-entropy.

    Raises:
        TrainingError: The network ends in sigmoids.
    """

    complete = True

    def __init__(self, setting: Setting, dice_weight: NotNegative = 1.0) -> None:
        super().__init__()
        if setting.activation != "softmax":
            msg = "The method 'supervised' needs a softmax."
            raise TrainingError(msg, next_step="Set network.activation, or take the method 'partial'.")
        self.dice_weight = dice_weight

    def forward(self, network: nn.Module, batch: Batch, generator: np.random.Generator) -> Step:
        """Compute the loss of one batch."""
        cross_entropy, dice = cross_entropy_and_dice(network(batch.image).logits, batch.labels)
        loss = cross_entropy + self.dice_weight * dice
        return Step(loss, {"cross_entropy": cross_entropy.detach(), "dice_loss": dice.detach()})


class Partial(Method):
    """Losses over the annotated organs of each case.

    Sigmoids: binary cross-entropy over targets that are yes, no or not to be judged; without `exclusive`,
    with the reduction "sum_batch" and no Dice term this is the labelled-only baseline of LTUDA (Jiang et
    al. 2024). Softmax: marginal cross-entropy, in which background and organs that are not annotated are
    one class. With every organ annotated both are the plain losses.

    Args:
        setting: What it is built for.
        dice_weight: Weight of the Dice term over the annotated organs.
        log: Whether the Dice term is the negative logarithm, which still pulls while an organ has hardly any
            probability.
        exclusive: Whether a voxel of an annotated organ tells that it is no other organ.
        exclusion_weight: Weight of the overlap of other organs with annotated ones; softmax only.
        reduction: Of the binary cross-entropy: "mean", "paper" or "sum_batch"; sigmoids only.
        missing_is_background: Whether organs without annotation are learned as background: the mistake that
            partial labels invite, for comparison.

    Raises:
        TrainingError: The reduction is unknown.
    """

    within: Tensor

    def __init__(
        self,
        setting: Setting,
        dice_weight: NotNegative = 1.0,
        log: bool = False,
        exclusive: bool = True,
        exclusion_weight: NotNegative = 1.0,
        reduction: str = MEAN,
        missing_is_background: bool = False,
    ) -> None:
        super().__init__()
        self.loss = PartialLoss(
            setting.activation, dice_weight, log, exclusion_weight if exclusive else 0.0, reduction
        )
        self.exclusive = exclusive
        self.missing_is_background = missing_is_background
        self.register_buffer("within", setting.within, persistent=False)

    def forward(self, network: nn.Module, batch: Batch, generator: np.random.Generator) -> Step:
        """Compute the loss of one batch."""
        logits: Tensor = network(batch.image).logits
        known = torch.ones_like(batch.known) if self.missing_is_background else batch.known
        plain = self.loss.activation == SOFTMAX and not self.loss.log and not bool(self.within.any())
        if plain and bool(known.all()):
            return self._all_known(logits, batch.labels)
        targets = tri_state(batch.labels, known, self.exclusive, self.within)
        return Step(*self.loss(logits, batch.labels, targets, known, self.within))

    def _all_known(self, logits: Tensor, labels: Tensor) -> Step:
        """Return the same losses where nothing is unknown, in a fraction of the time."""
        cross_entropy, dice = cross_entropy_and_dice(logits, labels)
        logs = {"marginal_cross_entropy": cross_entropy.detach(), "dice_loss": dice.detach()}
        return Step(cross_entropy + self.loss.dice_weight * dice, logs)
