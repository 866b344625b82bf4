"""Quick validation on the network's grid while training."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from multiorganseg.inference.backends import torch_backend
from multiorganseg.metrics import dice
from multiorganseg.progress import Progress
from multiorganseg_training.cache import PreparedCase
from multiorganseg_training.evaluation.predictor import Predictor
from multiorganseg_training.evaluation.segment_case import segment_case
from multiorganseg_training.recipe import Recipe


def validation_dice(
    network: nn.Module, recipe: Recipe, cases: list[PreparedCase], device: torch.device, progress: Progress
) -> dict[str, float]:
    """Give the mean Dice of each organ over the cases, on the network's grid, without post-processing.

    Args:
        network: In evaluation mode.
        recipe: Names the organs and the window.
        cases: Prepared cases of the fold.
        device: Where to run.
        progress: Checked for cancellation.

    Returns:
        Mean Dice by organ key over the cases that know the organ; NaN where none does, or where it occurs in
        none and is predicted in none.
    """
    predictor = Predictor(torch_backend(network, device).predict, recipe.network.activation)
    organs = recipe.data.table.keys
    scores = np.full((len(cases), len(organs)), np.nan)
    for row, case in enumerate(cases):
        if not case.known:
            continue
        labels = segment_case(predictor, case, recipe, device, Progress(token=progress.token))
        for channel in sorted(case.known):
            scores[row, channel - 1] = dice(labels == channel, case.labels == channel)
    present = ~np.isnan(scores).all(axis=0)
    means = np.full(len(organs), np.nan)
    means[present] = np.nanmean(scores[:, present], axis=0)
    return dict(zip(organs, means.tolist(), strict=True))
