"""One step of mutual learning as its publication reads: item by item, pair by pair, volume by volume.

Patches are cut, turned and flipped in numpy by a data set, every pair of decoders computes entropies and
reliabilities of its own, and prototypes and cosines come from loops over volumes and classes. The loss is
that of `multiorganseg_training.methods.Mutual` with `min_voxels = 1` where a patch holds the organ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Sampler

EPSILON = 1e-6
SMOOTH = 1e-8
GAMMA = 0.5
LABELLED_PER_BATCH = UNLABELLED_PER_BATCH = 2

Array = NDArray[Any]


class Patches(Dataset[tuple[Tensor, Tensor]]):
    """A random patch of each volume, turned by quarters and flipped in the plane.

    Args:
        volumes: Image (k, j, i) float32 and labels of the same shape, in memory.
        patch_shape: Voxels (k, j, i), as many along j as along i; no larger than a volume.
    """

    def __init__(self, volumes: Sequence[tuple[Array, Array]], patch_shape: Sequence[int]) -> None:
        self.volumes = volumes
        self.patch_shape = patch_shape

    def __len__(self) -> int:
        """Count the volumes."""
        return len(self.volumes)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """Return image (1, k, j, i) float32 and labels (k, j, i) int64."""
        image, labels = self.volumes[number]
        box = []
        for size, patch in zip(image.shape, self.patch_shape, strict=True):
            low = _draw(size - patch + 1)
            box.append(slice(low, low + patch))
        turns, axis = _draw(4), 1 + _draw(2)
        image, labels = (
            np.flip(np.rot90(array[tuple(box)], turns, axes=(1, 2)), axis).copy() for array in (image, labels)
        )
        return torch.from_numpy(image.astype(np.float32))[None], torch.from_numpy(labels.astype(np.int64))


class TwoStreams(Sampler[list[int]]):
    """Batches without end: two annotated volumes, then two others.

    Args:
        labelled: Numbers of the annotated volumes.
        unlabelled: Of the others.
    """

    def __init__(self, labelled: Sequence[int], unlabelled: Sequence[int]) -> None:
        self.labelled = labelled
        self.unlabelled = unlabelled

    def __iter__(self) -> Iterator[list[int]]:
        """Return the numbers of a batch."""
        streams = [
            (_shuffled(self.labelled), LABELLED_PER_BATCH),
            (_shuffled(self.unlabelled), UNLABELLED_PER_BATCH),
        ]
        while True:
            yield [next(stream) for stream, count in streams for _ in range(count)]


def patch_loader(
    volumes: Sequence[tuple[Array, Array]], labelled: int, patch_shape: Sequence[int], workers: int = 0
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Return batches of four patches without end; the first `labelled` volumes are the annotated ones."""
    numbers = range(len(volumes))
    batches = TwoStreams(numbers[:labelled], numbers[labelled:])
    return DataLoader(Patches(volumes, patch_shape), batch_sampler=batches, num_workers=workers)


def plain_mutual_loss(network: nn.Module, image: Tensor, labels: Tensor, beta: float = 1.0) -> Tensor:
    """Return γ Σ Dice + β Σ L of all ordered pairs of decoders.

    Args:
        network: With several decoders, in training.
        image: (4, 1, k, j, i), the annotated volumes first.
        labels: (4, k, j, i), int64 in {0, 1}.
        beta: Weight of the mutual losses.
    """
    output = network(image)
    decoders = [output, *output.others]
    dice = torch.zeros((), device=image.device)
    for decoder in decoders:
        probabilities = torch.softmax(decoder.logits, dim=1)[:LABELLED_PER_BATCH, 1]
        dice = dice + _dice(probabilities, labels[:LABELLED_PER_BATCH] == 1)
    mutual = torch.zeros((), device=image.device)
    for i, student in enumerate(decoders):
        for j, teacher in enumerate(decoders):
            if i != j:
                mutual = mutual + _mutual(student.logits, teacher.logits, teacher.features)
    return GAMMA * dice + beta * mutual


def _draw(below: int) -> int:
    return int(torch.randint(below, (1,)))


def _shuffled(numbers: Sequence[int]) -> Iterator[int]:
    while True:
        for place in torch.randperm(len(numbers)).tolist():
            yield numbers[place]


def _dice(probabilities: Tensor, truth: Tensor) -> Tensor:
    target = truth.float()
    intersection = (probabilities * target).sum()
    return 1 - (2 * intersection + SMOOTH) / (probabilities.sum() + target.sum() + SMOOTH)


def _entropy(logits: Tensor) -> Tensor:
    probabilities = torch.softmax(logits, dim=1)
    return -torch.sum(probabilities * torch.log(probabilities + EPSILON), dim=1)


def _mutual(student: Tensor, teacher: Tensor, features: Tensor) -> Tensor:
    with torch.no_grad():
        mask = (_entropy(student) > _entropy(teacher)).float()
        probabilities = torch.softmax(teacher, dim=1)
        labels = torch.argmax(probabilities, dim=1)
        weights = _reliability(features, probabilities, labels)
    each = functional.cross_entropy(student, labels, reduction="none")
    return (mask * weights * each).sum() / (mask.sum() + EPSILON)


def _reliability(features: Tensor, probabilities: Tensor, labels: Tensor) -> Tensor:
    weights = torch.ones_like(probabilities[:, 0])
    classes = probabilities.shape[1]
    for volume in range(len(features)):
        squares = torch.zeros_like(weights[volume])
        for number in range(classes):
            members = labels[volume] == number
            if not members.any():
                continue
            prototype = functional.normalize(features[volume][:, members].mean(dim=1), dim=0)
            cosine = functional.cosine_similarity(features[volume], prototype[:, None, None, None], dim=0)
            squares = squares + (cosine - probabilities[volume, number]) ** 2
        weights[volume] = 1 - squares / classes
    return weights
