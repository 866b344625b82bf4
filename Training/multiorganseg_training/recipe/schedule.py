"""Learning rate over the run."""

from __future__ import annotations

import math

SCHEDULES = ("cosine", "poly", "constant")


def poly(iteration: int, iterations: int, power: float = 0.9) -> float:
    """Return the factor (1 − iteration / iterations)^power, as in LTUDA (Jiang et al. 2024)."""
    return (1 - iteration / iterations) ** power


def warmup_cosine(iteration: int, iterations: int, warmup: float) -> float:
    """Return the factor of the peak learning rate: linear rise, then a cosine down to zero.

    Args:
        iteration: 0…iterations − 1.
        iterations: Length of the run.
        warmup: Share of the run that rises, in [0, 1).
    """
    rising = warmup * iterations
    if iteration < rising:
        return (iteration + 1) / (rising + 1)
    return 0.5 * (1 + math.cos(math.pi * (iteration - rising) / max(1.0, iterations - rising)))


def rate_factor(schedule: str, iteration: int, iterations: int, warmup: float) -> float:
    """Return the factor of the peak learning rate by the schedule's name.

    Args:
        schedule: One of `SCHEDULES`.
        iteration: 0…iterations − 1.
        iterations: Length of the run.
        warmup: Share of the run that rises; only "cosine" has one.
    """
    if schedule == "cosine":
        return warmup_cosine(iteration, iterations, warmup)
    return poly(iteration, iterations) if schedule == "poly" else 1.0
