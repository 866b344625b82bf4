"""Batches of random patches, from cases that lie where the network trains."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from multiorganseg_training.augment import random_patch
from multiorganseg_training.cache import PreparedCase
from multiorganseg_training.methods import Batch
from multiorganseg_training.partial.known import known_matrix
from multiorganseg_training.recipe import Recipe
from multiorganseg_training.sampling import PatchSampler

MEMORY_SHARE = 0.25


class BatchSource:
    """Draws batches as a recipe asks for them.

    The cases are moved to the device once, if they take no more than `MEMORY_SHARE` of what a CUDA device has
    free; crops, turns and changes of intensity then need nothing of the main memory. Otherwise each crop is
    moved.

    Args:
        recipe: Says how large patches and batches are, and how they are changed.
        cases: The cases drawn from.
        generator: Source of all randomness.
        device: Where the batches are wanted.
    """

    def __init__(
        self, recipe: Recipe, cases: list[PreparedCase], generator: np.random.Generator, device: torch.device
    ) -> None:
        self._recipe = recipe
        self._generator = generator
        self._device = device
        self._sampler = PatchSampler(
            cases,
            recipe.augmentation.organ_centred,
            generator,
            [recipe.data.table.value(key) for key in recipe.augmentation.favoured],
            recipe.augmentation.favoured_share,
        )
        place = device if fits(cases, device) else torch.device("cpu")
        self._volumes: dict[str, tuple[Tensor, Tensor]] = {
            case.name: (torch.from_numpy(case.image).to(place), torch.from_numpy(case.labels).to(place))
            for case in cases
        }

    def draw(self) -> Batch:
        """Give the next batch; the first of it are annotated cases where the recipe says how many."""
        recipe = self._recipe
        images, labels, known = [], [], []
        annotated = recipe.optimisation.labelled_per_batch
        for number in range(recipe.optimisation.batch_size):
            case, centre = self._sampler.draw(number < annotated if annotated else None)
            image, label = random_patch(
                *self._volumes[case.name],
                centre,
                recipe.network.patch_shape,
                recipe.preprocessing.spacing_mm,
                recipe.augmentation,
                self._generator,
                self._device,
                recipe.preprocessing.air,
            )
            images.append(image)
            labels.append(label)
            known.append(case.known)
        organs = len(recipe.data.table.keys)
        return Batch(torch.stack(images), torch.stack(labels), known_matrix(known, organs, self._device))


def fits(cases: list[PreparedCase], device: torch.device) -> bool:
    """Tell whether cases may lie on a CUDA device for a whole training."""
    if device.type != "cuda":
        return False
    free, _total = torch.cuda.mem_get_info(device)
    return sum(case.image.nbytes + case.labels.nbytes for case in cases) <= MEMORY_SHARE * free
