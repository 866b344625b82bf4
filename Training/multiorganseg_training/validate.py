"""Quick validation on the network's grid while training."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from multiorganseg.inference.backends import torch_backend
from multiorganseg.inference.stream import stream_labels
from multiorganseg.inference.windows import plan_windows
from multiorganseg.metrics import dice
from multiorganseg.progress import Progress
from multiorganseg_training.cache import PreparedCase
from multiorganseg_training.recipe import Recipe

OVERLAP = 0.25


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
    backend = torch_backend(network, device)
    organs = recipe.data.table.keys
    scores = np.full((len(cases), len(organs)), np.nan)
    for row, case in enumerate(cases):
        if not case.known:
            continue
        image = case.image.astype(np.float32)
        streamed = stream_labels(
            backend.predict,
            image,
            plan_windows(
                (image.shape[0], image.shape[1], image.shape[2]), recipe.network.patch_shape, OVERLAP
            ),
            len(organs),
            activation=recipe.network.activation,
            air=recipe.preprocessing.air,
            batch_size=1,
            network_device=device,
            device=device,
            progress=Progress(token=progress.token),
        )
        for channel in sorted(case.known):
            scores[row, channel - 1] = dice(streamed.labels == channel, case.labels == channel)
    present = ~np.isnan(scores).all(axis=0)
    means = np.full(len(organs), np.nan)
    means[present] = np.nanmean(scores[:, present], axis=0)
    return dict(zip(organs, means.tolist(), strict=True))
