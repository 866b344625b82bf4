"""Features of chosen voxels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from multiorganseg.inference.windows import Shape, plan_windows
from multiorganseg.networks.placing import place_network
from multiorganseg.progress import Progress
from multiorganseg_training.cache import PreparedCase
from multiorganseg_training.evaluation.segment_case import OVERLAP
from multiorganseg_training.features.grid import on_grid
from multiorganseg_training.features.pixels import Pixels
from multiorganseg_training.features.trained_run import TrainedRun
from multiorganseg_training.prototypes.classifier import PrototypeClassifier

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
    """Give the features of pixels, of unit length.

    The network sees the windows of the validation; a pixel takes its features from the window in which it
    lies most central. Features coarser than the image are interpolated to its grid. Computed in float32.

    Args:
        run: Network, its window and its prototypes.
        cases: Prepared as the run's recipe says.
        pixels: Voxels of these cases.
        projected: Whether the features are embedded as the prototypes are; else they are the network's last.
        device: Where the network runs.
        progress: Told after each batch of windows.

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
    """Give (pixels, width) of unit length from (channels, pixels)."""
    return functional.normalize(chosen.T, dim=-1) if classifier is None else classifier.embed(chosen[None])


_Place = tuple[NDArray[np.intp], NDArray[np.int64]]


def _batches(
    case: PreparedCase, positions: NDArray[np.int64], window: Shape, air: float | None
) -> Iterator[tuple[Tensor, list[_Place]]]:
    """Give windows (batch, 1, k, j, i) and the pixels of each: their numbers and their (k, j, i) in it."""
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
    """Give the start of the window whose centre is nearest; it holds the position, as some window does."""
    centres = np.array(starts) + (length - 1) / 2
    return np.array(starts)[np.abs(positions[:, None] - centres).argmin(axis=1)]
