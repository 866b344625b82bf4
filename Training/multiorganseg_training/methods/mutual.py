"""Mutual learning with reliable pseudo-labels (Su et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from multiorganseg.errors import TrainingError
from multiorganseg.schema import NotNegative
from multiorganseg_training.data.batches import Batch
from multiorganseg_training.losses.known import log_probs, on_grid, organ_probs, tri_state
from multiorganseg_training.losses.mutual import PseudoLabelSpec, Ramp, reliable_cross_entropy
from multiorganseg_training.losses.partial import masked_dice, partial_cross_entropy
from multiorganseg_training.methods.method import Method, Setting, Step

SMOOTH = 1e-8


@dataclass(frozen=True)
class DecoderView:
    """What one decoder says, in float32.

    Attributes:
        logs: (batch, classes + 1, *space), logarithms of the probabilities, with gradients.
        labels: (batch, *space), int64: the argmax of the probabilities.
        uncertainty: (batch, *space): how uncertain the probabilities are; see `uncertainty`.
        weights: (batch, *space): the reliability of the labels; None weighs all alike.
    """

    logs: Tensor
    labels: Tensor
    uncertainty: Tensor
    weights: Tensor | None


class Mutual(Method):
    """Decoders of one encoder learn from each other where the other one is more certain.

    Each decoder learns from the annotations by their soft Dice and, on request, by cross-entropy, and over
    the whole batch from the labels of every other decoder: on the voxels that `selection` takes, weighted by
    how reliable the label is. The loss is Σ (dice_weight · Dice + cross_entropy_weight · CE) over the
    decoders + β(t) · Σ L_{i←j} over their ordered pairs, β rising slowly.

    The defaults are the settings of the paper and its published code.

    Args:
        setting: Its network has at least two decoders, such as "vnet".
        dice_weight: γ, of each decoder's Dice loss.
        cross_entropy_weight: Of each decoder's cross-entropy with the annotations, which the paper does
            without.
        mutual_weight: Largest weight of the mutual losses.
        ramp_every: Iterations between two steps of β.
        ramp_steps: How many steps until β is 1; 0 for 1 from the start.
        pseudo_labels: The fields of `PseudoLabelSpec`.

    Raises:
        TrainingError: The network has one decoder only, or a choice is unknown.
    """

    within: Tensor
    iteration: Tensor

    def __init__(
        self,
        setting: Setting,
        dice_weight: NotNegative = 0.5,
        cross_entropy_weight: NotNegative = 0.0,
        mutual_weight: NotNegative = 1.0,
        ramp_every: int = 150,
        ramp_steps: int = 40,
        **pseudo_labels: Any,
    ) -> None:
        super().__init__()
        if getattr(setting.network, "decoder_count", 1) < 2:
            msg = "The method 'mutual' needs a network with at least two decoders."
            raise TrainingError(msg, next_step="Take the architecture 'vnet' and name two decoders.")
        self.activation = setting.activation
        self.dice_weight = dice_weight
        self.cross_entropy_weight = cross_entropy_weight
        self.mutual_weight = mutual_weight
        self.pseudo_labels = PseudoLabelSpec(**pseudo_labels)
        self.ramp = Ramp(ramp_every, ramp_steps)
        self.register_buffer("within", setting.within, persistent=False)
        self.register_buffer("iteration", torch.zeros((), dtype=torch.long))

    def forward(self, network: nn.Module, batch: Batch, generator: np.random.Generator) -> Step:
        """Compute the loss of one batch."""
        output = network(batch.image)
        outputs = [output, *output.others]
        with torch.autocast(batch.image.device.type, enabled=False):
            targets = tri_state(batch.labels, batch.known, within=self.within)
            dice = torch.stack(
                [
                    masked_dice(
                        organ_probs(each.logits, self.activation, self.within), targets, batch.known, SMOOTH
                    )
                    for each in outputs
                ]
            ).sum()
            annotated = self.dice_weight * dice
            if self.cross_entropy_weight:
                annotated = (
                    annotated
                    + self.cross_entropy_weight
                    * torch.stack(
                        [
                            partial_cross_entropy(
                                each.logits,
                                batch.labels,
                                targets,
                                batch.known,
                                self.activation,
                                self.within,
                            )
                            for each in outputs
                        ]
                    ).sum()
                )
            space = batch.labels.shape[1:]
            views = [self._view(each.logits, on_grid(each.features, space)) for each in outputs]
            pairs = list(permutations(views, 2))
            chosen = [
                self.pseudo_labels.chosen(student.uncertainty, teacher.uncertainty)
                for student, teacher in pairs
            ]
            mutual = torch.stack(
                [
                    reliable_cross_entropy(student.logs, teacher.labels, mask, teacher.weights)
                    for (student, teacher), mask in zip(pairs, chosen, strict=True)
                ]
            ).sum()
            beta = self.mutual_weight * self.ramp.weight(int(self.iteration))
            logs = {
                "dice_loss": dice.detach(),
                "mutual": mutual.detach(),
                "beta": torch.tensor(beta),
                "chosen": torch.stack([mask.float().mean() for mask in chosen]).mean(),
            }
            weights = [view.weights.mean() for view in views if view.weights is not None]
            if weights:
                logs["reliability"] = torch.stack(weights).mean()
            return Step(annotated + beta * mutual, logs)

    @torch.no_grad()
    def after_step(self, network: nn.Module) -> None:
        """Count the iteration, for the ramp."""
        self.iteration += 1

    def _view(self, logits: Tensor, features: Tensor) -> DecoderView:
        logs = log_probs(logits, self.activation)
        probabilities = logs.detach().exp()
        labels = probabilities.max(dim=1).indices
        weights = self.pseudo_labels.weights(features, probabilities, labels)
        return DecoderView(logs, labels, self.pseudo_labels.uncertainty(probabilities), weights)
