"""Batches of random patches, from cases that lie where the network trains."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from multiorganseg_training.augment import change_look, random_patch
from multiorganseg_training.cache import PreparedCase
from multiorganseg_training.methods import Batch
from multiorganseg_training.mixing.carvemix import around_organ
from multiorganseg_training.mixing.cutmix import box_mask, draw_boxes
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
            recipe.augmentation.absent_share,
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
        organs = len(recipe.data.table.keys)
        annotated = recipe.optimisation.labelled_per_batch
        for number in range(recipe.optimisation.batch_size):
            case, centre = self._sampler.draw(number < annotated if annotated else None)
            image, label = self._cut(case, centre)
            spec = recipe.augmentation
            if spec.mixed and len(case.known) == organs and self._generator.random() < spec.mixed:
                image, label = self._paste(image, label)
            image, label = change_look(
                image,
                label,
                recipe.data.table.organs,
                recipe.preprocessing.window,
                spec,
                self._generator,
                recipe.preprocessing.air,
            )
            images.append(image)
            labels.append(label)
            known.append(case.known)
        return Batch(torch.stack(images), torch.stack(labels), known_matrix(known, organs, self._device))

    def _cut(self, case: PreparedCase, centre: NDArray[np.float64] | None) -> tuple[Tensor, Tensor]:
        recipe = self._recipe
        return random_patch(
            *self._volumes[case.name],
            centre,
            recipe.network.patch_shape,
            recipe.preprocessing.spacing_mm,
            recipe.augmentation,
            self._generator,
            self._device,
            recipe.preprocessing.air,
        )

    def _paste(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Paste a box, or an organ with what is around it, of another fully annotated case."""
        other = self._sampler.draw()
        if len(other[0].known) < len(self._recipe.data.table.keys):
            return image, label
        other_image, other_label = self._cut(*other)
        if self._generator.random() < 0.5:
            mask = box_mask(draw_boxes(1, label.shape, self._generator), label.shape, label.device)[0]
        else:
            mask = around_organ(other_label, self._generator)
        return torch.where(mask, other_image, image), torch.where(mask, other_label, label)


def fits(cases: list[PreparedCase], device: torch.device) -> bool:
    """Tell whether cases may lie on a CUDA device for a whole training."""
    if device.type != "cuda":
        return False
    free, _total = torch.cuda.mem_get_info(device)
    return sum(case.image.nbytes + case.labels.nbytes for case in cases) <= MEMORY_SHARE * free
