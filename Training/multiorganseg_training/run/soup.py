"""Weights between a network and what it was tuned to: robust as the one, exact as the other.

Wortsman et al. 2022, "Robust fine-tuning of zero-shot models" (WiSE-FT).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from multiorganseg.bundles import Bundle, read_weights
from multiorganseg.errors import TrainingError
from multiorganseg_training.recipe.recipe import Recipe
from multiorganseg_training.run.build import new_network

STATISTICS = "statistics"


def mixed_arguments(recipe: Recipe) -> dict[str, Any]:
    """Return the network's arguments without learned statistics, which would fit neither network."""
    return {name: value for name, value in recipe.network.arguments.items() if name != STATISTICS}


def mix_weights(base: Bundle, tuned: Mapping[str, Tensor], recipe: Recipe, share: float) -> dict[str, Tensor]:
    """Return the weighted mean of a bundle's weights and those of a run that started from it.

    What the run's network has more than the bundle's is taken as it is, but for weights with which it added
    nothing at its start: they count as zero in the bundle.

    Args:
        base: Where the run started, directly or over other runs.
        tuned: State of the run's network.
        recipe: Of the run.
        share: Of the tuned weights, in [0, 1].

    Raises:
        TrainingError: The networks differ by more than that.
    """
    weights = {name: torch.from_numpy(array).float() for name, array in read_weights(base).items()}
    network = _network(recipe)
    mixed = {}
    for name, start in network.items():
        if name not in tuned or (name in weights and weights[name].shape != start.shape):
            raise _unlike(base, name)
        if name in weights:
            mixed[name] = torch.lerp(weights[name], tuned[name].float(), share)
        else:
            mixed[name] = tuned[name].float() * (share if not start.any() else 1.0)
    if not weights.keys() <= network.keys():
        raise _unlike(base, sorted(weights.keys() - network.keys())[0])
    return mixed


def _network(recipe: Recipe) -> dict[str, Tensor]:
    plain = replace(recipe, network=replace(recipe.network, arguments=mixed_arguments(recipe)))
    return new_network(plain).state_dict()


def _unlike(base: Bundle, name: str) -> TrainingError:
    msg = f"The run cannot be mixed with '{base.metadata.name}'."
    return TrainingError(
        msg,
        cause=f"Their networks differ in '{name}'.",
        next_step="Name the bundle that the run started from.",
    )
