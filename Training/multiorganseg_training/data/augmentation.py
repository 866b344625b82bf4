"""Random patches: crops, turns, scales and fields of view in one interpolation, then changes of intensity."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from multiorganseg_training.data.appearance import change_phase
from multiorganseg_training.recipe.recipe import AugmentationSpec

SHORTEST_SHARE = (0.25, 0.4, 0.4)
MIRRORED_SHARE = (0.6, 0.3, 0.3)
COARSEST = (2.0, 3.0, 3.0)
LEAST_PLANES = 4


def cut_field(
    patch: Tensor, labels: Tensor, outside: float, generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Keep a part of a patch along k or in-plane; the rest is air, or the part mirrored.

    Both are what a network is shown of a scan that is smaller than its window.

    Args:
        patch: (1, k, j, i).
        labels: (k, j, i).
        outside: Intensity of air.
        generator: Source of all randomness.

    Returns:
        Image and labels of the same shapes; nothing is annotated in air.
    """
    axes = [0] if generator.random() < 0.6 else [1, 2]
    for axis in axes:
        size = labels.shape[axis]
        kept = max(min(LEAST_PLANES, size), round(size * generator.uniform(SHORTEST_SHARE[axis], 0.95)))
        first = int(generator.integers(size - kept + 1))
        if kept > 1 and generator.random() < MIRRORED_SHARE[axis]:
            places = np.pad(np.arange(kept), (first, size - kept - first), mode="reflect") + first
            index = torch.from_numpy(places).to(patch.device)
            patch, labels = patch.index_select(axis + 1, index), labels.index_select(axis, index)
            continue
        inside = torch.zeros(size, dtype=torch.bool, device=patch.device)
        inside[first : first + kept] = True
        inside = inside.reshape([-1 if other == axis else 1 for other in range(3)])
        patch, labels = torch.where(inside, patch, outside), torch.where(inside, labels, 0)
    return patch, labels


def coarsen(patch: Tensor, generator: np.random.Generator, in_plane: bool) -> Tensor:
    """Show a patch (1, k, j, i) as a scan of thicker slices, or of larger pixels, brought to this grid."""
    size = patch.shape[1:]
    factors = [generator.uniform(1.2, most) for most in COARSEST]
    axes = (1, 2) if in_plane else (0,)
    shape = [
        max(1, round(number / factors[axis])) if axis in axes else number for axis, number in enumerate(size)
    ]
    coarse = functional.interpolate(patch[None], shape, mode="area")
    fine: Tensor = functional.interpolate(coarse, size, mode="trilinear", align_corners=False)[0]
    return fine


BACKGROUND = -1.0
BLURRED_SLICES = 3
FARTHEST_OUT = 0.4
ELASTIC_CELL_MM = 40.0
ABOUT_ALL = (1.0, 0.5, 0.5)
IN_PLANE = (1.0, 0.0, 0.0)


def random_patch(
    image: Tensor,
    labels: Tensor,
    centre: NDArray[np.float64] | None,
    patch_shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    spec: AugmentationSpec,
    generator: np.random.Generator,
    device: torch.device,
    air: float | None = BACKGROUND,
) -> tuple[Tensor, Tensor]:
    """Cut one patch with a random rotation, scale and deformation about `centre`.

    A patch of a single slice is a slice of the volume: it turns about k alone and lies on whole k.

    Args:
        image: (k, j, i), float16, normalised; on any device.
        labels: (k, j, i), uint8, channels; on any device.
        centre: In voxels (k, j, i), of the volume. Along an axis on which the patch would reach out of the
            volume, it lies anywhere inside that holds the centre. None for anywhere inside: each low corner
            is as likely as another. The share of patches for which `spec` says so reaches out all the same.
        patch_shape: Voxels (k, j, i) of the patch.
        spacing_mm: Of the grid, since rotations act in millimetres.
        spec: The ranges.
        generator: Source of all randomness.
        device: Where the interpolation runs.
        air: Intensity outside the volume, the lowest that there is; None takes the lowest one around the
            patch.

    Returns:
        Image (1, k, j, i) float32 and labels (k, j, i) int64 on `device`.
    """
    single = patch_shape[0] == 1
    if single and centre is not None:
        centre = np.array([math.floor(centre[0]), *centre[1:]])
    if spec.off_centre and centre is not None and not single:
        centre = centre + spec.off_centre * generator.uniform(-0.5, 0.5, 3) * patch_shape
    to_source = _random_matrix(spacing_mm, spec, generator, IN_PLANE if single else ABOUT_ALL)
    centre = _inside(centre, image.shape, patch_shape, generator)
    if spec.overhang and not single and generator.random() < spec.overhang:
        centre = centre + generator.uniform(-FARTHEST_OUT, FARTHEST_OUT, 3) * patch_shape
    corners = np.array(np.meshgrid(*[(-0.5 * n, 0.5 * n) for n in patch_shape], indexing="ij")).reshape(3, -1)
    reach = np.abs(to_source @ corners).max(axis=1) + 2 + 3 * spec.elastic_mm / np.array(spacing_mm)
    low = np.clip(np.floor(centre - reach).astype(int), 0, np.array(image.shape) - 1)
    high = np.clip(np.ceil(centre + reach).astype(int) + 1, low + 1, image.shape)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    source_shape = high - low
    theta = _normalised(to_source, centre - low, patch_shape, source_shape)
    grid = functional.affine_grid(
        torch.from_numpy(theta).to(device, torch.float32)[None], [1, 1, *patch_shape], align_corners=False
    )
    if spec.elastic_mm and not single:
        grid = grid + _displacement(patch_shape, spacing_mm, source_shape, spec.elastic_mm, generator, device)
    source = image[box].to(device, torch.float32)
    source_labels = labels[box].to(device, torch.float32)
    outside = float(source.min()) if air is None else air
    patch = functional.grid_sample((source - outside)[None, None], grid, align_corners=False) + outside
    patch_labels = functional.grid_sample(
        source_labels[None, None], grid, mode="nearest", align_corners=False
    )
    return patch[0], patch_labels[0, 0].round().long()


def change_look(
    patch: Tensor,
    labels: Tensor,
    organs: Mapping[int, str],
    window: tuple[float, float],
    spec: AugmentationSpec,
    generator: np.random.Generator,
    air: float | None = BACKGROUND,
) -> tuple[Tensor, Tensor]:
    """Change contrast phase, intensity, sharpness and field of view of a patch.

    Args:
        patch: (1, k, j, i), normalised.
        labels: (k, j, i), int64 channels.
        organs: Organ key by channel.
        window: HU of −1 and 1.
        spec: The ranges.
        generator: Source of all randomness.
        air: As in `random_patch`; None does not limit intensities to [−1, 1].

    Returns:
        Image and labels of the same shapes.
    """
    if spec.phases and generator.random() < spec.phases:
        patch = change_phase(patch, labels, organs, window, generator)
    for in_plane in (False, True):
        if spec.coarse and generator.random() < spec.coarse:
            patch = coarsen(patch, generator, in_plane)
    patch = change_intensity(patch, spec, generator, bounded=air is not None)
    if spec.field_cuts and generator.random() < spec.field_cuts:
        patch, labels = cut_field(patch, labels, float(patch.min()) if air is None else air, generator)
    return patch, labels


def change_intensity(
    patch: Tensor, spec: AugmentationSpec, generator: np.random.Generator, bounded: bool = True
) -> Tensor:
    """Change contrast, brightness, noise and sharpness along k of a patch (1, k, j, i).

    Where intensities are `bounded`, they stay in [−1, 1].
    """
    if spec.gamma > 1:
        exponent = spec.gamma ** float(generator.uniform(-1, 1))
        patch = ((patch.clamp(-1, 1) + 1) / 2) ** exponent * 2 - 1
    mean = patch.mean()
    patch = (patch - mean) * float(generator.uniform(*spec.contrast)) + mean
    patch = patch + float(generator.uniform(-spec.brightness, spec.brightness))
    if generator.random() < spec.blur_probability and patch.shape[1] >= BLURRED_SLICES:
        patch = functional.avg_pool3d(
            patch[None], (BLURRED_SLICES, 1, 1), stride=1, padding=(1, 0, 0), count_include_pad=False
        )[0]
    if generator.random() < 0.3:
        noise = torch.from_numpy(generator.standard_normal(patch.shape, dtype=np.float32)).to(patch.device)
        patch = patch + noise * float(generator.uniform(0, spec.noise))
    return patch.clamp(-1, 1) if bounded else patch


def _inside(
    centre: NDArray[np.float64] | None,
    shape: tuple[int, ...],
    patch: tuple[int, ...],
    generator: np.random.Generator,
) -> NDArray[np.float64]:
    volume, size = np.array(shape), np.array(patch)
    room = np.maximum(volume - size, 0)
    if centre is None:
        low = generator.integers(0, room + 1)
    else:
        low = centre - (size - 1) / 2
        first = np.clip(np.ceil(centre) - size + 1, 0, room).astype(int)
        last = np.maximum(np.clip(np.floor(centre), 0, room).astype(int), first)
        low = np.where((low < 0) | (low > room), generator.integers(first, last + 1), low)
    return np.where(volume < size, (volume - 1) / 2, low + (size - 1) / 2)


def _displacement(
    patch_shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    source_shape: NDArray[np.integer],
    deviation_mm: float,
    generator: np.random.Generator,
    device: torch.device,
) -> Tensor:
    """Return a smooth displacement (1, k, j, i, 3), in the order (i, j, k) and the units of `grid_sample`."""
    lengths = np.array(patch_shape) * spacing
    cells = [max(2, round(length / ELASTIC_CELL_MM)) for length in lengths.tolist()]
    numbers = generator.standard_normal((1, 3, *cells), dtype=np.float32)
    scale = 2 * deviation_mm / (np.array(spacing) * source_shape)
    field = torch.from_numpy(numbers * scale[::-1].reshape(1, 3, 1, 1, 1).astype(np.float32)).to(device)
    fine = functional.interpolate(field, patch_shape, mode="trilinear", align_corners=True)
    return fine.movedim(1, -1)


def _random_matrix(
    spacing: tuple[float, float, float],
    spec: AugmentationSpec,
    generator: np.random.Generator,
    limits: tuple[float, float, float] = ABOUT_ALL,
) -> NDArray[np.float64]:
    rotation = np.eye(3)
    for axis, limit in enumerate(limits):
        angle = math.radians(spec.rotation_degrees * limit) * generator.uniform(-1, 1)
        first, second = (a for a in range(3) if a != axis)
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = math.cos(angle)
        turn[first, second], turn[second, first] = -math.sin(angle), math.sin(angle)
        rotation = rotation @ turn
    scale = generator.uniform(*spec.scale) * (
        1 + generator.uniform(-spec.anisotropy, spec.anisotropy, size=3)
    )
    to_mm = np.diag(spacing)
    turn = _quarter_turn(generator) if spec.quarter_turns else np.eye(3)
    return np.linalg.inv(to_mm) @ rotation @ np.diag(1 / scale) @ turn @ to_mm


def _quarter_turn(generator: np.random.Generator) -> NDArray[np.float64]:
    """Return one of the eight ways to lay a square of voxels (j, i) onto itself."""
    turn = np.eye(3)[[0, *(1 + generator.permutation(2))]]
    signs = generator.choice([-1.0, 1.0], size=2)
    return turn * np.array([[1.0], [signs[0]], [signs[1]]])


def _normalised(
    matrix: NDArray[np.float64],
    centre: NDArray[np.float64],
    target_shape: tuple[int, ...],
    source_shape: NDArray[np.integer],
) -> NDArray[np.float64]:
    target, source = np.array(target_shape), np.asarray(source_shape)
    linear = (matrix * target[None, :]) / source[:, None]
    offset = (2 * centre + 1) / source - 1
    return np.hstack([linear[::-1, ::-1], offset[::-1, None]])
