"""Strong views: which sample is pasted into which, where, and how (CutMix, CarveMix); colour jitter."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from multiorganseg.errors import TrainingError


def mix(
    mask: Tensor, partner: Tensor, *tensors: Tensor, shift: NDArray[np.int64] | None = None
) -> tuple[Tensor, ...]:
    """Return M ⊙ x[partner] + (1 − M) ⊙ x for images, labels, targets, split masks and weights alike.

    Args:
        mask: (batch, *space), bool: true where the partner shows.
        partner: (batch,), int64: the sample pasted into each sample.
        tensors: Each (batch, *space) or (batch, channels, *space), any type.
        shift: (batch, axes) in voxels, where the pasted part comes from another place: the partner's voxel
            x + shift goes to x, such as `Boxes.shift`.

    Returns:
        The mixed tensors, in the same order; they share no memory with the given ones.
    """
    return tuple(_mix_one(mask, partner, tensor, shift) for tensor in tensors)


def _mix_one(mask: Tensor, partner: Tensor, tensor: Tensor, shift: NDArray[np.int64] | None) -> Tensor:
    pasted = tensor.index_select(0, partner.to(tensor.device))
    if shift is not None and shift.any():
        pasted = torch.stack(
            [_moved(sample, by) for sample, by in zip(pasted, shift.tolist(), strict=True)], dim=0
        )
    mask = mask.to(tensor.device)
    return pasted.where(mask if tensor.ndim == mask.ndim else mask[:, None], tensor)


def _moved(sample: Tensor, by: Sequence[int]) -> Tensor:
    return sample.roll([-step for step in by], dims=list(range(-len(by), 0)))


def next_partner(known: Tensor) -> Tensor:
    """Pair each sample with the next one, as the published code of LTUDA does; known sets may be equal.

    Args:
        known: (batch, classes), bool.

    Returns:
        (batch,), int64: the partner of each sample.
    """
    return torch.arange(len(known), device=known.device).roll(-1)


def own_set_partner(known: Tensor) -> Tensor:
    """Pair each sample with the next one of the same known set, or with itself where there is no other.

    Args:
        known: (batch, classes), bool.

    Returns:
        (batch,), int64: the partner of each sample.
    """
    index = list(range(len(known)))
    for group in _groups(known):
        for sample, other in zip(group, [*group[1:], group[0]], strict=True):
            index[sample] = other
    return torch.tensor(index, dtype=torch.int64, device=known.device)


def cross_set_partner(known: Tensor) -> Tensor:
    """Pair each sample with one of another known set.

    Samples are ordered by known set, the most frequent first, and each is paired with the one as many places
    on as the most frequent set has samples. Where no set has more than half of the batch, every sample is a
    partner once; else the samples of the other sets are partners several times.

    Args:
        known: (batch, classes), bool, of a shuffled batch.

    Returns:
        (batch,), int64: the partner of each sample; those of `next_partner` where there is one set only.
    """
    groups = _groups(known)
    if len(groups) < 2:
        return next_partner(known)
    ordered = [sample for group in sorted(groups, key=len, reverse=True) for sample in group]
    largest = max(len(group) for group in groups)
    others = len(ordered) - largest
    index = [0] * len(ordered)
    for place, sample in enumerate(ordered):
        if largest > others and place < largest:
            to = largest + place % others
        else:
            to = (place + largest) % len(ordered)
        index[sample] = ordered[to]
    return torch.tensor(index, dtype=torch.int64, device=known.device)


def _groups(known: Tensor) -> list[list[int]]:
    groups: dict[tuple[bool, ...], list[int]] = defaultdict(list)
    for sample, row in enumerate(known.tolist()):
        groups[tuple(row)].append(sample)
    return list(groups.values())


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
    """Return (batch, *space), bool: true inside each sample's box."""
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


WIDEST_RIM = 6


def signed_distance(region: NDArray[np.bool_], spacing: Sequence[float] | None = None) -> NDArray[np.float64]:
    """Return the distance to a region: negative inside, positive outside.

    Args:
        region: (*space), neither empty nor the whole space.
        spacing: Of the axes of `region`; 1 by default, so that distances are in voxels.
    """
    from scipy import ndimage  # a packed run trains without it

    outside = ndimage.distance_transform_edt(~region, sampling=spacing)
    inside = ndimage.distance_transform_edt(region, sampling=spacing)
    return outside - inside


def carve_region(
    region: NDArray[np.bool_], generator: np.random.Generator, spacing: Sequence[float] | None = None
) -> NDArray[np.bool_]:
    """Shrink or grow a region at random as CarveMix does: D < λ with λ ~ U(min D / 2, −min D).

    Args:
        region: (*space), bool.
        generator: Source of all randomness.
        spacing: As in `signed_distance`.

    Returns:
        (*space), bool; an empty region stays empty, the whole space stays whole.
    """
    if region.all() or not region.any():
        return region.copy()
    distance = signed_distance(region, spacing)
    deepest = distance.min()
    carved: NDArray[np.bool_] = distance < generator.uniform(deepest / 2, -deepest)
    return carved


def carve_mask(
    labels: Tensor,
    partner: Tensor,
    generator: np.random.Generator,
    spacing: Sequence[float] | None = None,
) -> Tensor:
    """Return for each sample where a carved organ of its partner is pasted, at its own place.

    One organ of the partner is chosen among those that occur, all equally often.

    Args:
        labels: (batch, *space), int64: annotations or fused labels.
        partner: (batch,), int64.
        generator: Source of all randomness.
        spacing: As in `signed_distance`.

    Returns:
        (batch, *space), bool, on the device of `labels`; nothing is pasted from a partner without an organ.
    """
    arrays = labels.cpu().numpy()
    masks = np.zeros(arrays.shape, np.bool_)
    for mask, other in zip(masks, partner.tolist(), strict=True):
        organs = np.unique(arrays[other])
        organs = organs[organs > 0]
        if len(organs):
            organ = organs[int(generator.integers(len(organs)))]
            mask[...] = carve_region(arrays[other] == organ, generator, spacing)
    return torch.from_numpy(masks).to(labels.device)


def around_organ(labels: Tensor, generator: np.random.Generator) -> Tensor:
    """Return an organ of a patch with a rim of some voxels: `carve_mask` without distances, much faster.

    Args:
        labels: (k, j, i), int64.
        generator: Source of all randomness.

    Returns:
        (k, j, i), bool; nothing where there is no organ.
    """
    organs = torch.unique(labels)
    organs = organs[organs > 0]
    if not len(organs):
        return torch.zeros_like(labels, dtype=torch.bool)
    organ = int(organs[int(generator.integers(len(organs)))])
    rim = int(generator.integers(1, WIDEST_RIM + 1))
    mask = (labels == organ).float()[None, None]
    for axis in range(3):
        size = [1, 1, 1]
        size[axis] = 2 * (rim // 2 if axis == 0 else rim) + 1
        mask = functional.max_pool3d(mask, size, 1, [(length - 1) // 2 for length in size])
    return mask[0, 0] > 0


def jitter(image: Tensor, generator: np.random.Generator) -> Tensor:
    """Change contrast and brightness of each patch by up to a half, the latter in standard deviations.

    Args:
        image: (batch, 1, *space).
        generator: Source of all randomness.

    Returns:
        The same shape.
    """
    dims = tuple(range(1, image.ndim))
    contrast, brightness = (
        torch.from_numpy(generator.uniform(low, high, len(image))).to(image).reshape(-1, *[1] * len(dims))
        for low, high in ((0.5, 1.5), (-0.5, 0.5))
    )
    mean, deviation = image.mean(dims, keepdim=True), image.std(dims, keepdim=True)
    return (image - mean) * contrast + mean + brightness * deviation
