"""Batches of random patches, and where the patches lie."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from multiorganseg.errors import TrainingError
from multiorganseg_training.data.augmentation import change_look, random_patch
from multiorganseg_training.data.mixing import around_organ, box_mask, draw_boxes
from multiorganseg_training.recipe.recipe import Recipe

if TYPE_CHECKING:
    from multiorganseg_training.data.cache import PreparedCase

POSITIONS_KEPT = 2000


class PatchSampler:
    """Draws a case and the centre of a patch in it.

    Args:
        cases: The cases drawn from, all equally often.
        organ_centred: Share of patches centred on an organ, where the case has one annotated.
        generator: Source of all randomness.
        favoured: Channels that are looked for first.
        favoured_share: Share of patches centred on one of them, where some case has one annotated.
        absent_share: Share of patches from cases of which organs are known and none occurs, where there are
            such cases; negative treats them as all others.

    Attributes:
        cases: The cases drawn from.
    """

    def __init__(
        self,
        cases: list[PreparedCase],
        organ_centred: float,
        generator: np.random.Generator,
        favoured: Collection[int] = (),
        favoured_share: float = 0.0,
        absent_share: float = -1.0,
    ) -> None:
        self.cases = cases
        self._organ_centred = organ_centred
        self._favoured_share = favoured_share
        self._generator = generator
        by_channel = [_organ_positions(case.labels, generator) for case in cases]
        self._positions = [list(positions.values()) for positions in by_channel]
        self._favoured = [
            [
                (number, positions[channel])
                for number, positions in enumerate(by_channel)
                if channel in positions
            ]
            for channel in favoured
        ]
        empty = [number for number, case in enumerate(cases) if case.known and not by_channel[number]]
        self._empty = empty if absent_share >= 0 else []
        self._absent_share = absent_share
        self._numbers: dict[bool | None, list[int]] = {
            None: [number for number in range(len(cases)) if number not in self._empty],
            True: [number for number, case in enumerate(cases) if case.known and number not in self._empty],
            False: [number for number, case in enumerate(cases) if not case.known],
        }

    def draw(
        self, labelled: bool | None = None, generator: np.random.Generator | None = None
    ) -> tuple[PreparedCase, NDArray[np.float64] | None]:
        """Return a case and a centre (k, j, i) in voxels: on an organ's voxel, or None for anywhere.

        A case without annotations is never exchanged for one with a favoured organ.

        Args:
            labelled: Whether some organ is annotated in the case (True) or none (False); None takes any.
            generator: Source of the randomness of this draw; the sampler's own when None.

        Raises:
            TrainingError: There is no such case.
        """
        generator = generator or self._generator
        if self._empty and labelled is not False and generator.random() < self._absent_share:
            return self.cases[self._empty[int(generator.integers(len(self._empty)))]], None
        occurring = [places for places in self._favoured if places]
        if occurring and labelled is not False and generator.random() < self._favoured_share:
            places = occurring[int(generator.integers(len(occurring)))]
            number, organ = places[int(generator.integers(len(places)))]
            return self.cases[number], organ[int(generator.integers(len(organ)))].astype(np.float64)
        numbers = self._numbers[labelled]
        if not numbers:
            msg = f"No case {'has' if labelled else 'is without'} annotations."
            raise TrainingError(
                msg, next_step="Correct data.known in the recipe, or optimisation.labelled_per_batch."
            )
        number = numbers[int(generator.integers(len(numbers)))]
        case, positions = self.cases[number], self._positions[number]
        if positions and generator.random() < self._organ_centred:
            organ = positions[int(generator.integers(len(positions)))]
            return case, organ[int(generator.integers(len(organ)))].astype(np.float64)
        return case, None


def _organ_positions(
    labels: NDArray[np.uint8], generator: np.random.Generator
) -> dict[int, NDArray[np.int32]]:
    positions = {}
    for channel in np.setdiff1d(labels, 0):
        found = np.argwhere(labels == channel).astype(np.int32)
        positions[int(channel)] = found[generator.permutation(len(found))[:POSITIONS_KEPT]]
    return positions


MEMORY_SHARE = 0.25


@dataclass(frozen=True)
class Batch:
    """Training patches on the device.

    Attributes:
        image: (batch, 1, k, j, i), normalised.
        labels: (batch, k, j, i), int64 network channels: 0 is background or not annotated, organs count
            from 1 whatever the activation.
        known: (batch, organs), bool: whether the organ is annotated over the whole case.
    """

    image: Tensor
    labels: Tensor
    known: Tensor


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
        part: Which of several sources of one training this is, from 0; each has the same generator.
        parts: How many there are. Together they draw what one would with as many times the batch.
    """

    def __init__(
        self,
        recipe: Recipe,
        cases: list[PreparedCase],
        generator: np.random.Generator,
        device: torch.device,
        part: int = 0,
        parts: int = 1,
    ) -> None:
        self._part, self._parts = part, parts
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

    def draw(self, seed: int | None = None) -> Batch:
        """Return the next batch; the first of it are annotated cases where the recipe says how many.

        Args:
            seed: Of its randomness; None takes it from the source's generator.
        """
        recipe = self._recipe
        images, labels, known = [], [], []
        organs = len(recipe.data.table.keys)
        annotated = recipe.optimisation.labelled_per_batch
        seed = int(self._generator.integers(2**63)) if seed is None else seed
        for number in range(recipe.optimisation.batch_size):
            generator = np.random.default_rng((seed, self._part + number * self._parts))
            case, centre = self._sampler.draw(number < annotated if annotated else None, generator)
            image, label = self._cut(case, centre, generator)
            spec = recipe.augmentation
            if spec.mixed and len(case.known) == organs and generator.random() < spec.mixed:
                image, label = self._paste(image, label, generator)
            image, label = change_look(
                image,
                label,
                recipe.data.table.organs,
                recipe.preprocessing.window,
                spec,
                generator,
                recipe.preprocessing.air,
            )
            images.append(image)
            labels.append(label)
            known.append(case.known)
        return Batch(torch.stack(images), torch.stack(labels), known_matrix(known, organs, self._device))

    def _cut(
        self, case: PreparedCase, centre: NDArray[np.float64] | None, generator: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        recipe = self._recipe
        return random_patch(
            *self._volumes[case.name],
            centre,
            recipe.network.patch_shape,
            recipe.preprocessing.spacing_mm,
            recipe.augmentation,
            generator,
            self._device,
            recipe.preprocessing.air,
        )

    def _paste(self, image: Tensor, label: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Paste a box, or an organ with what is around it, of another fully annotated case."""
        other = self._sampler.draw(generator=generator)
        if len(other[0].known) < len(self._recipe.data.table.keys):
            return image, label
        other_image, other_label = self._cut(*other, generator)
        if generator.random() < 0.5:
            mask = box_mask(draw_boxes(1, label.shape, generator), label.shape, label.device)[0]
        else:
            mask = around_organ(other_label, generator)
        return torch.where(mask, other_image, image), torch.where(mask, other_label, label)


def fits(cases: list[PreparedCase], device: torch.device) -> bool:
    """Return whether cases may lie on a CUDA device for a whole training."""
    if device.type != "cuda":
        return False
    free, _total = torch.cuda.mem_get_info(device)
    return sum(case.image.nbytes + case.labels.nbytes for case in cases) <= MEMORY_SHARE * free


def known_matrix(sets: Sequence[Collection[int]], classes: int, device: torch.device | None = None) -> Tensor:
    """Return the known sets of a batch as a matrix.

    Args:
        sets: For each sample the channels 1…classes that are annotated (or absent) over its whole volume.
        classes: How many organs there are.
        device: Where the matrix lies.

    Returns:
        (batch, classes), bool; column c − 1 belongs to channel c.

    Raises:
        TrainingError: A channel is not among 1…classes.
    """
    wrong = sorted({channel for known in sets for channel in known if not 1 <= channel <= classes})
    if wrong:
        msg = f"The known sets name channels {wrong} of a network with {classes} organs."
        raise TrainingError(msg, next_step=f"Name channels from 1 to {classes}; 0 is background.")
    rows = [[channel in known for channel in range(1, classes + 1)] for known in sets]
    return torch.tensor(rows, dtype=torch.bool, device=device).reshape(len(rows), classes)
