"""Mean teacher: the network agrees with the average of its past (Tarvainen and Valpola 2017)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from multiorganseg.schema import NotNegative, Share
from multiorganseg_training.data.batches import Batch
from multiorganseg_training.losses.known import log_probs, organ_probs, tri_state
from multiorganseg_training.losses.mutual import Ramp
from multiorganseg_training.losses.partial import masked_dice, partial_cross_entropy
from multiorganseg_training.methods.method import Method, Setting, Step, torch_generator


def follower(network: nn.Module, decay: float) -> AveragedModel:
    """Return a teacher: the exponential moving average of a network, its running statistics included.

    The decay rises as 1 − 1 / (t + 1) until it reaches `decay`, so that the teacher forgets the random start.

    Args:
        network: Copied as it is now; `update_parameters(network)` lets the teacher follow.
        decay: In [0, 1).
    """

    def average(teacher: Tensor, now: Tensor, updates: Tensor | int) -> Tensor:
        if not teacher.is_floating_point():
            return now
        return teacher.lerp(now, max(1 / (float(updates) + 1), 1 - decay))

    followed = AveragedModel(network, avg_fn=average, use_buffers=True)
    followed.requires_grad_(False)
    return followed


class MeanTeacher(Method):
    """Cross-entropy and Dice of what is annotated, and consistency with a teacher over the whole batch.

    The teacher is the exponential moving average of the network; it sees the batch with other noise, in
    training mode. Consistency is the mean squared difference of the probabilities of background and organs.

    Args:
        setting: What it is built for.
        dice_weight: Of the Dice term beside the cross-entropy.
        consistency: Largest weight of the consistency.
        teacher_decay: Of the average, reached by way of 1 − 1 / (t + 1).
        noise: Standard deviation of the teacher's noise, which is clipped at twice of it.
        ramp_every: Iterations between two steps of the consistency's weight.
        ramp_steps: How many steps until it is at its largest; 0 for from the start.
    """

    within: Tensor
    iteration: Tensor

    def __init__(
        self,
        setting: Setting,
        dice_weight: NotNegative = 1.0,
        consistency: NotNegative = 0.1,
        teacher_decay: Share = 0.99,
        noise: NotNegative = 0.1,
        ramp_every: int = 150,
        ramp_steps: int = 40,
    ) -> None:
        super().__init__()
        self.activation = setting.activation
        self.dice_weight = dice_weight
        self.consistency = consistency
        self.noise = noise
        self.ramp = Ramp(ramp_every, ramp_steps)
        self.teacher = follower(setting.network, teacher_decay)
        self.register_buffer("within", setting.within, persistent=False)
        self.register_buffer("iteration", torch.zeros((), dtype=torch.long))

    def forward(self, network: nn.Module, batch: Batch, generator: np.random.Generator) -> Step:
        """Compute the loss of one batch."""
        logits = network(batch.image).logits
        pseudo_labels = self._pseudo_labels(batch.image, generator)
        with torch.autocast(batch.image.device.type, enabled=False):
            targets = tri_state(batch.labels, batch.known, within=self.within)
            cross_entropy = partial_cross_entropy(
                logits, batch.labels, targets, batch.known, self.activation, self.within
            )
            dice = masked_dice(organ_probs(logits, self.activation, self.within), targets, batch.known)
            difference = (log_probs(logits, self.activation).exp() - pseudo_labels).square().mean()
            beta = self.consistency * self.ramp.weight(int(self.iteration))
        logs = {
            "cross_entropy": cross_entropy.detach(),
            "dice_loss": dice.detach(),
            "difference": difference.detach(),
        }
        return Step(cross_entropy + self.dice_weight * dice + beta * difference, logs)

    @torch.no_grad()
    def after_step(self, network: nn.Module) -> None:
        """Let the teacher follow the network and count the iteration."""
        self.teacher.update_parameters(network)
        self.iteration += 1

    @torch.no_grad()
    def _pseudo_labels(self, image: Tensor, generator: np.random.Generator) -> Tensor:
        draws = torch_generator(generator, image.device)
        noise = torch.randn(image.shape, generator=draws, device=image.device) * self.noise
        self.teacher.train()
        return log_probs(
            self.teacher(image + noise.clamp(-2 * self.noise, 2 * self.noise)).logits, self.activation
        ).exp()
