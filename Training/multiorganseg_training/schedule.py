"""Learning rate over the run."""

from __future__ import annotations

import math


def warmup_cosine(iteration: int, iterations: int, warmup: float) -> float:
    """Give the factor of the peak learning rate: linear rise, then a cosine down to zero.

    Args:
        iteration: 0…iterations − 1.
        iterations: Length of the run.
        warmup: Share of the run that rises, in [0, 1).
    """
    rising = warmup * iterations
    if iteration < rising:
        return (iteration + 1) / (rising + 1)
    return 0.5 * (1 + math.cos(math.pi * (iteration - rising) / max(1.0, iterations - rising)))
