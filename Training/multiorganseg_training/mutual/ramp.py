"""The weight of a consistency loss, which rises while the network learns from annotations."""

from __future__ import annotations

import math
from dataclasses import dataclass

from multiorganseg.errors import TrainingError


@dataclass(frozen=True)
class Ramp:
    """A Gaussian ramp in steps (Su et al. 2024): exp(−5 (1 − min(⌊t / every⌋, steps) / steps)²).

    Attributes:
        every: Iterations a step.
        steps: After which the weight is 1; 0 gives 1 from the start.

    Raises:
        TrainingError: The ramp cannot be climbed.
    """

    every: int = 150
    steps: int = 40

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            TrainingError: The ramp cannot be climbed.
        """
        if self.every < 1 or self.steps < 0:
            msg = f"No ramp has {self.steps} steps of {self.every} iterations."
            raise TrainingError(msg, next_step="Set ramp_every to at least 1 and ramp_steps to at least 0.")

    def weight(self, iteration: int) -> float:
        """Give the weight in (0, 1] at an iteration from 0."""
        if not self.steps:
            return 1.0
        return math.exp(-5 * (1 - min(iteration // self.every, self.steps) / self.steps) ** 2)
