"""Which voxels of the organs are looked at, and their features."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from multiorganseg.errors import TrainingError
from multiorganseg.inference.windows import Shape, plan_windows
from multiorganseg.networks.build import place_network
from multiorganseg.progress import Progress
from multiorganseg_training.data.cache import PreparedCase
from multiorganseg_training.losses.known import on_grid
from multiorganseg_training.losses.prototypes import PrototypeClassifier
from multiorganseg_training.run.validate import OVERLAP, TrainedRun

LABELLED, UNLABELLED, FOLD = "labelled", "unlabelled", "fold"
GROUPS = (LABELLED, UNLABELLED, FOLD)


@dataclass(frozen=True, eq=False)
class Pixels:
    """Voxels of organs in several cases, on the network's grid.

    Attributes:
        case: (pixels,), int64: number of the case.
        position: (pixels, 3), int64: (k, j, i) in it.
        channel: (pixels,), int64: the organ that the voxel truly belongs to, from 1.
        group: (pixels,), int64: place in GROUPS.
    """

    case: NDArray[np.int64]
    position: NDArray[np.int64]
    channel: NDArray[np.int64]
    group: NDArray[np.int64]

    def of(self, *groups: str, channel: int | None = None) -> NDArray[np.bool_]:
        """Return which pixels belong to any of the groups, and to one organ where it is given."""
        chosen = np.isin(self.group, [GROUPS.index(group) for group in groups])
        return chosen if channel is None else chosen & (self.channel == channel)

    def take(self, places: NDArray[np.intp]) -> Pixels:
        """Return some of the pixels, in the order of `places`."""
        return Pixels(self.case[places], self.position[places], self.channel[places], self.group[places])


def choose_pixels(
    cases: Sequence[PreparedCase],
    known: Sequence[frozenset[int] | None],
    organs: int,
    most: int,
    generator: np.random.Generator,
) -> Pixels:
    """Choose voxels of every organ at random, equally many of each case as far as they suffice.

    A voxel of an organ is labelled where the organ was annotated to the training, unlabelled where it was
    hidden from it: there the true organ is read from label files that the training did not see.

    Args:
        cases: With the labels of all organs.
        known: Channels that were annotated to the training, by case; None for a case of the fold.
        organs: How many there are.
        most: Pixels of an organ in each group at most.
        generator: Source of all randomness.

    Raises:
        TrainingError: There is no labelled or no unlabelled pixel.
    """
    counts = np.stack([np.bincount(case.labels.ravel(), minlength=organs + 1) for case in cases])
    parts: list[tuple[int, int, int, NDArray[np.int64]]] = []
    for group in range(len(GROUPS)):
        for channel in range(1, organs + 1):
            mine = np.array([_group(channels, channel) == group for channels in known])
            shares = _shares(np.where(mine, counts[:, channel], 0), most)
            for number in np.flatnonzero(shares).tolist():
                voxels = np.flatnonzero(cases[number].labels == channel)
                chosen = generator.choice(voxels, shares[number], replace=False)
                parts.append((number, channel, group, chosen))
    _require_both(parts)
    lengths = [len(part[3]) for part in parts]
    return Pixels(
        *(
            np.repeat(np.array([part[0] for part in parts]), lengths),
            np.concatenate(
                [np.stack(np.unravel_index(part[3], cases[part[0]].labels.shape), axis=1) for part in parts]
            ),
            np.repeat(np.array([part[1] for part in parts]), lengths),
            np.repeat(np.array([part[2] for part in parts]), lengths),
        )
    )


def _group(known: frozenset[int] | None, channel: int) -> int:
    name = FOLD if known is None else LABELLED if channel in known else UNLABELLED
    return GROUPS.index(name)


def _shares(counts: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Divide `most` among the cases as evenly as their counts allow."""
    shares = np.zeros_like(counts)
    order = np.argsort(counts, kind="stable")
    for rank, number in enumerate(order):
        shares[number] = min(counts[number], (most - shares.sum()) // (len(order) - rank))
    return shares


def _require_both(parts: list[tuple[int, int, int, NDArray[np.int64]]]) -> None:
    present = {GROUPS[part[2]] for part in parts}
    if LABELLED not in present:
        msg = "No voxel of an organ is labelled in a case that trains."
        raise TrainingError(msg, next_step="Check the data folder against data.labels in the recipe.")
    if UNLABELLED not in present:
        msg = "No voxel of an organ is unlabelled in a case that trains."
        raise TrainingError(
            msg,
            cause="The recipe's data.known hides no organ that the label files contain.",
            next_step="Name a run first whose recipe hides organs; runs after it are shown the same voxels.",
        )


VOXELS_AT_ONCE = 2**18


@torch.inference_mode()
def collect_features(
    run: TrainedRun,
    cases: Sequence[PreparedCase],
    pixels: Pixels,
    projected: bool,
    device: torch.device,
    progress: Progress,
) -> NDArray[np.float32]:
    """Return the features of pixels, of unit length.

    The network sees the windows of the validation; a pixel takes its features from the window in which it
    lies most central. Features coarser than the image are interpolated to its grid. Computed in float32.

    Args:
        run: Network, its window and its prototypes.
        cases: Prepared as the run's recipe says.
        pixels: Voxels of these cases.
        projected: Whether the features are embedded as the prototypes are; else they are the network's last.
        device: Where the network runs.
        progress: Reports after each batch of windows.

    Returns:
        (pixels, width), float32.
    """
    network = place_network(run.network, device)
    classifier = run.classifier.to(device) if projected and run.classifier else None
    stage = f"features of {run.folder.name}"
    gathered: list[NDArray[np.float32]] = []
    order: list[NDArray[np.int64]] = []
    for number, case in enumerate(cases):
        mine = np.flatnonzero(pixels.case == number)
        if not len(mine):
            continue
        window = run.recipe.network.patch_shape
        for images, places in _batches(case, pixels.position[mine], window, run.recipe.preprocessing.air):
            features = on_grid(network(images.to(device)).features.float(), window)
            for feature, (members, where) in zip(features, places, strict=True):
                chosen = feature[(slice(None), *torch.from_numpy(where).to(device).unbind(1))]
                gathered.append(_embed(chosen, classifier).cpu().numpy())
                order.append(mine[members])
            progress(f"{stage}, {case.name}", number / len(cases))
    progress(stage, 1.0)
    back = np.argsort(np.concatenate(order))
    collected: NDArray[np.float32] = np.concatenate(gathered)[back]
    return collected


def _embed(chosen: Tensor, classifier: PrototypeClassifier | None) -> Tensor:
    """Return (pixels, width) of unit length from (channels, pixels)."""
    return functional.normalize(chosen.T, dim=-1) if classifier is None else classifier.embed(chosen[None])


_Place = tuple[NDArray[np.intp], NDArray[np.int64]]


def _batches(
    case: PreparedCase, positions: NDArray[np.int64], window: Shape, air: float | None
) -> Iterator[tuple[Tensor, list[_Place]]]:
    """Return windows (batch, 1, k, j, i) and the pixels of each: their numbers and their (k, j, i) in it."""
    image = case.image.astype(np.float32)
    plan = plan_windows((image.shape[0], image.shape[1], image.shape[2]), window, OVERLAP)
    padding = [(0, padded - size) for padded, size in zip(plan.shape, image.shape, strict=True)]
    padded = np.pad(image, padding, constant_values=float(image.min()) if air is None else air)
    starts = np.stack(
        [_most_central(positions[:, axis], plan.starts[axis], window[axis]) for axis in range(3)], axis=1
    )
    corners, owner = np.unique(starts, axis=0, return_inverse=True)
    at_once = max(1, VOXELS_AT_ONCE // math.prod(window))
    for first in range(0, len(corners), at_once):
        images, places = [], []
        for number in range(first, min(first + at_once, len(corners))):
            corner = corners[number]
            members = np.flatnonzero(owner.reshape(-1) == number)
            places.append((members, positions[members] - corner))
            inside = tuple(slice(c, c + size) for c, size in zip(corner, window, strict=True))
            images.append(torch.from_numpy(padded[inside]))
        yield torch.stack(images)[:, None], places


def _most_central(positions: NDArray[np.int64], starts: tuple[int, ...], length: int) -> NDArray[np.int64]:
    """Return the start of the window whose centre is nearest; it holds the position, as some window does."""
    centres = np.array(starts) + (length - 1) / 2
    return np.array(starts)[np.abs(positions[:, None] - centres).argmin(axis=1)]
