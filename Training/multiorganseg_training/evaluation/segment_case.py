"""Labels of a prepared case."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from multiorganseg.inference.stream import stream_labels
from multiorganseg.inference.windows import plan_windows
from multiorganseg.organs.catalogue import Catalogue
from multiorganseg.progress import Progress
from multiorganseg.quality.components import keep_components
from multiorganseg_training.cache import PreparedCase
from multiorganseg_training.evaluation.predictor import Predictor
from multiorganseg_training.recipe import Recipe

OVERLAP = 0.25


def segment_case(
    predictor: Predictor, case: PreparedCase, recipe: Recipe, device: torch.device, progress: Progress
) -> NDArray[np.unsignedinteger]:
    """Give the channels (k, j, i) that a network finds on its own grid, without post-processing."""
    image = case.image.astype(np.float32)
    shape = (image.shape[0], image.shape[1], image.shape[2])
    return stream_labels(
        predictor.predict,
        image,
        plan_windows(shape, recipe.network.patch_shape, OVERLAP),
        len(recipe.data.table.keys),
        activation=predictor.activation,
        air=recipe.preprocessing.air,
        batch_size=1,
        network_device=device,
        device=device,
        progress=progress,
    ).labels


def largest_components(
    labels: NDArray[np.unsignedinteger], recipe: Recipe, catalogue: Catalogue
) -> NDArray[np.unsignedinteger]:
    """Keep of each organ its largest components alone, however small: one, or as the catalogue says."""
    volume = float(np.prod(recipe.preprocessing.spacing_mm))
    return keep_components(labels, recipe.data.table, catalogue, voxel_volume=volume, speck_ml=0.0).labels
