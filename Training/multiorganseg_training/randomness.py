"""Random numbers of torch that depend on the run's one generator alone."""

from __future__ import annotations

import numpy as np
import torch


def torch_generator(generator: np.random.Generator, device: torch.device) -> torch.Generator:
    """Give a torch generator on a device, seeded by the next number of the run's generator."""
    return torch.Generator(device).manual_seed(int(generator.integers(2**62)))
