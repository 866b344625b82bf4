"""Random boxes in two or three dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from multiorganseg.errors import TrainingError

SAME = "same"
RANDOM = "random"
CANDIDATES = 64


@dataclass(frozen=True)
class BoxSpec:
    """How large the boxes are and where they are pasted.

    Attributes:
        fraction: Lowest and highest part of the area or volume, before rounding down to voxels.
        aspect: Lowest and highest ratio of a side to the last one, each relative to its axis.
        position: "same" pastes at the place where the box is cut, "random" at another one.

    Raises:
        TrainingError: The position is unknown or a range does not hold.
    """

    fraction: tuple[float, float] = (0.02, 0.4)
    aspect: tuple[float, float] = (0.3, 1 / 0.3)
    position: str = SAME

    def __post_init__(self) -> None:
        ranges = 0 < self.fraction[0] <= self.fraction[1] < 1 and 0 < self.aspect[0] <= 1 <= self.aspect[1]
        if self.position not in (SAME, RANDOM) or not ranges:
            msg = f"No boxes can be drawn with {self}."
            raise TrainingError(
                msg,
                next_step=f"Give fractions between 0 and 1, aspects around 1, and {SAME} or {RANDOM}.",
            )


@dataclass(frozen=True)
class Boxes:
    """One box for each sample.

    Attributes:
        low: (batch, axes), first voxel, in the order of the image's axes.
        size: (batch, axes), voxels.
        source: (batch, axes), first voxel of the part of the partner that is pasted.
    """

    low: NDArray[np.int64]
    size: NDArray[np.int64]
    source: NDArray[np.int64]

    @property
    def shift(self) -> NDArray[np.int64]:
        """What to add to a voxel in the box to find its source in the partner, (batch, axes)."""
        return self.source - self.low


def draw_boxes(
    batch: int, space: Sequence[int], generator: np.random.Generator, spec: BoxSpec | None = None
) -> Boxes:
    """Draw CutMix boxes.

    The fraction is drawn once; the aspect and the corner are drawn until the box fits. Sides are rounded
    down, at least one voxel. In two dimensions the sides are √(a/r) of the width and √(a·r) of the height,
    in three their product is a as well, with two aspects. Axes of length 1, such as that of a single slice,
    are no axes: a box on them is as large as one in two dimensions.

    Args:
        batch: Number of boxes.
        space: Voxels (j, i) or (k, j, i).
        generator: Source of all randomness.
        spec: The ranges; those of LTUDA (Jiang et al. 2024) by default.

    Returns:
        Boxes that lie inside the space.
    """
    spec = spec or BoxSpec()
    shape = np.asarray(space, np.int64)
    drawn = [_draw(shape, generator, spec) for _ in range(batch)]
    low, size = (np.array(part).reshape(batch, len(shape)) for part in zip(*drawn, strict=True))
    source = low if spec.position == SAME else generator.integers(0, shape - size + 1)
    return Boxes(low, size, source)


def box_mask(boxes: Boxes, space: Sequence[int], device: torch.device | None = None) -> Tensor:
    """Give (batch, *space), bool: true inside each sample's box."""
    axes = len(space)
    mask = torch.ones((len(boxes.low), *[1] * axes), dtype=torch.bool, device=device)
    for axis, length in enumerate(space):
        low = torch.from_numpy(boxes.low[:, axis : axis + 1]).to(device)
        high = low + torch.from_numpy(boxes.size[:, axis : axis + 1]).to(device)
        place = torch.arange(length, device=device)
        inside = (place >= low) & (place < high)
        mask = mask & inside.reshape(-1, *[1] * axis, length, *[1] * (axes - axis - 1))
    return mask


def _draw(
    shape: NDArray[np.int64], generator: np.random.Generator, spec: BoxSpec
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    whole_low, whole_size = np.zeros_like(shape), np.ones_like(shape)
    wide = np.flatnonzero(shape > 1)
    if len(wide):
        whole_low[wide], whole_size[wide] = _draw_wide(shape[wide], generator, spec)
    return whole_low, whole_size


def _draw_wide(
    shape: NDArray[np.int64], generator: np.random.Generator, spec: BoxSpec
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    part = generator.uniform(*spec.fraction) ** (1 / len(shape))
    axes = len(shape)
    while True:
        aspect = np.ones((CANDIDATES, axes))
        aspect[:, :-1] = generator.uniform(*spec.aspect, size=(CANDIDATES, axes - 1))
        sides = shape * part * aspect / aspect.prod(axis=1, keepdims=True) ** (1 / axes)
        size = np.maximum(sides.astype(np.int64), 1)
        low = generator.integers(0, shape, size=size.shape)
        fits = (low + size <= shape).all(axis=1)
        if fits.any():
            first = int(fits.argmax())
            return low[first], size[first]
