"""Weights between a network and what it was tuned to: robust as the one, exact as the other.

Wortsman et al. 2022, "Robust fine-tuning of zero-shot models" (WiSE-FT).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from multiorganseg.bundles import Bundle, read_weights
from multiorganseg.errors import TrainingError


def mix_weights(base: Bundle, tuned: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Return the weighted mean of a bundle's weights and those of a run that started from it.

    Args:
        base: Where the run started, directly or over other runs.
        tuned: State of the run's network.
        share: Of the tuned weights, in [0, 1].

    Raises:
        TrainingError: The networks differ.
    """
    weights = {name: torch.from_numpy(array).float() for name, array in read_weights(base).items()}
    unlike = weights.keys() ^ {name for name, tensor in tuned.items() if tensor.is_floating_point()}
    unlike |= {name for name in weights.keys() - unlike if weights[name].shape != tuned[name].shape}
    if unlike:
        raise _unlike(base, min(unlike))
    return {name: torch.lerp(weight, tuned[name].float(), share) for name, weight in weights.items()}


def _unlike(base: Bundle, name: str) -> TrainingError:
    msg = f"The run cannot be mixed with '{base.metadata.name}'."
    return TrainingError(
        msg,
        cause=f"Their networks differ in '{name}'.",
        next_step="Name the bundle that the run started from.",
    )
