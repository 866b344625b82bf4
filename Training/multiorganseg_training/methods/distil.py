"""Learning what another network says, so that a network with branches becomes one without."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from multiorganseg.bundles.registry import find_bundle
from multiorganseg.errors import TrainingError
from multiorganseg.inference.backends import load_network
from multiorganseg.networks.build import place_network
from multiorganseg.schema import NotNegative
from multiorganseg_training.data.batches import Batch
from multiorganseg_training.losses.known import SIGMOID, full_targets, log_probs, organ_probs, probs
from multiorganseg_training.losses.partial import log_dice
from multiorganseg_training.losses.pseudo_labels import hard_labels
from multiorganseg_training.methods.method import Method, Setting, Step


class Distil(Method):
    """A bundle's network teaches another of the same organs, on images whose annotations do not count.

    The loss is the cross-entropy with the teacher's probabilities (Hinton et al. 2015, temperature 1), and
    the logarithm of the soft Dice with its labels, without which small organs have little weight.

    Args:
        setting: Of the network that learns.
        teacher: Name or folder of the bundle that teaches.
        dice_weight: Weight of the logarithmic Dice.

    Raises:
        TrainingError: The bundle has other organs, in another order, or another activation, or sees images
            otherwise prepared.
        BundleError: The bundle is missing or damaged.
    """

    taught = True
    within: Tensor

    def __init__(self, setting: Setting, teacher: str, dice_weight: NotNegative = 0.25) -> None:
        super().__init__()
        bundle = find_bundle(teacher)
        said = bundle.metadata
        compared = {
            "data.labels": said.labels.keys == setting.keys,
            "network.activation": said.activation == setting.activation,
            "preprocessing": said.preprocessing == setting.preprocessing,
        }
        if not all(compared.values()):
            differs = " and ".join(part for part, equal in compared.items() if not equal)
            msg = f"{said.name} cannot teach this network: they differ in {differs}."
            raise TrainingError(msg, next_step=f"Copy {differs} from its metadata.")
        self.activation = setting.activation
        self.organs = setting.organs
        self.dice_weight = dice_weight
        self._teacher = [load_network(bundle)]  # in a list, so that its weights are no part of the state
        self.register_buffer("within", setting.within, persistent=False)

    def forward(self, network: nn.Module, batch: Batch, generator: np.random.Generator) -> Step:
        """Compute the loss of one batch."""
        with torch.no_grad():
            teacher = place_network(self._teacher[0], batch.image.device)(batch.image).logits
        logits = network(batch.image).logits
        with torch.autocast(batch.image.device.type, enabled=False):
            if self.activation == SIGMOID:
                entropy = nn.functional.binary_cross_entropy_with_logits(
                    logits.float(), teacher.float().sigmoid()
                )
            else:
                each = probs(teacher, self.activation) * log_probs(logits, self.activation)
                entropy = -each.sum(dim=1).mean()
            labels = hard_labels(teacher, self.activation)
            known = torch.ones((len(labels), self.organs), dtype=torch.bool, device=labels.device)
            dice = self.dice_weight * log_dice(
                organ_probs(logits, self.activation, self.within),
                full_targets(labels, self.organs, self.within),
                known,
            )
        logs = {"cross_entropy": entropy.detach(), "dice_loss": dice.detach()}
        return Step(entropy + dice, logs)
