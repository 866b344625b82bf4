"""Mean teacher: the network agrees with the average of its past (Tarvainen and Valpola 2017)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from multiorganseg_training.methods.method import Batch, Method, Setting, Step
from multiorganseg_training.methods.teacher import follower
from multiorganseg_training.mutual.ramp import Ramp
from multiorganseg_training.partial.cross_entropy import partial_cross_entropy
from multiorganseg_training.partial.dice import masked_dice
from multiorganseg_training.partial.probabilities import log_probs, organ_probs
from multiorganseg_training.partial.targets import tri_state
from multiorganseg_training.randomness import torch_generator


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
        dice_weight: float = 1.0,
        consistency: float = 0.1,
        teacher_decay: float = 0.99,
        noise: float = 0.1,
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
        claims = self._claims(batch.image, generator)
        with torch.autocast(batch.image.device.type, enabled=False):
            targets = tri_state(batch.labels, batch.known, within=self.within)
            cross_entropy = partial_cross_entropy(
                logits, batch.labels, targets, batch.known, self.activation, self.within
            )
            dice = masked_dice(organ_probs(logits, self.activation, self.within), targets, batch.known)
            difference = (log_probs(logits, self.activation).exp() - claims).square().mean()
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
    def _claims(self, image: Tensor, generator: np.random.Generator) -> Tensor:
        draws = torch_generator(generator, image.device)
        noise = torch.randn(image.shape, generator=draws, device=image.device) * self.noise
        self.teacher.train()
        return log_probs(
            self.teacher(image + noise.clamp(-2 * self.noise, 2 * self.noise)).logits, self.activation
        ).exp()
