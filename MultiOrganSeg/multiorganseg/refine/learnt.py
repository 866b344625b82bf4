"""A small network that answers prompts about any organ: what it looks at, and what it says."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from multiorganseg.volumes.volume import Grid

if TYPE_CHECKING:
    from torch import nn

CROP = (32, 64, 64)
"""Voxels (k, j, i) of what the network looks at."""
CROP_MM = (3.0, 1.5, 1.5)
"""Size of such a voxel where it looks closest."""
FARTHEST_OUT = 2.0
"""Times larger voxels where it looks from farthest."""
CHANNELS = 5
SPOT = (1.0, 2.0, 2.0)
"""Standard deviations, in voxels, of the spot that stands for a voxel of a prompt."""


def look(
    image: NDArray[np.float32],
    inside: NDArray[np.bool_],
    others: NDArray[np.bool_],
    said_inside: Iterable[NDArray[np.intp]],
    said_outside: Iterable[NDArray[np.intp]],
) -> NDArray[np.float32]:
    """Return what the network looks at, (5, k, j, i).

    Args:
        image: (k, j, i), intensities in −1…1.
        inside: Of the organ now.
        others: Of other organs now.
        said_inside: Voxels that prompts put into the organ.
        said_outside: Voxels that they kept out.
    """
    seen = np.empty((CHANNELS, *image.shape), np.float32)
    seen[0], seen[1], seen[2] = image, inside, others
    seen[3], seen[4] = spots(image.shape, said_inside), spots(image.shape, said_outside)
    return seen


def spots(shape: tuple[int, ...], voxels: Iterable[NDArray[np.intp]]) -> NDArray[np.float32]:
    """Return the largest of the Gaussian spots (k, j, i) round some voxels; those outside count, too."""
    result = np.zeros(shape, np.float32)
    reach = [int(3 * deviation) for deviation in SPOT]
    axes = [
        np.exp(-0.5 * (np.arange(-n, n + 1) / deviation) ** 2)
        for n, deviation in zip(reach, SPOT, strict=True)
    ]
    spot = np.einsum("k,j,i->kji", *axes).astype(np.float32)
    for voxel in voxels:
        target, source = [], []
        for middle, n, size in zip(voxel, reach, shape, strict=True):
            first, last = max(0, middle - n), min(size, middle + n + 1)
            target.append(slice(first, max(first, last)))
            source.append(slice(first - middle + n, max(first, last) - middle + n))
        part = result[tuple(target)]
        np.maximum(part, spot[tuple(source)], out=part)
    return result


def crop_grid(grid: Grid, middle: NDArray[np.float64], half_mm: float) -> Grid:
    """Return the grid of what the network looks at.

    Args:
        grid: Whose axes it has.
        middle: LPS mm of the voxel `CROP` / 2.
        half_mm: How far it has to reach from there; voxels grow for it, up to a limit.
    """
    zoom = float(np.clip(half_mm / (CROP[0] * CROP_MM[0] / 2), 1, FARTHEST_OUT))
    axes = grid.affine[:3, :3] / np.linalg.norm(grid.affine[:3, :3], axis=0)
    affine = np.eye(4)
    affine[:3, :3] = axes * (zoom * np.array(CROP_MM[::-1]))
    affine[:3, 3] = middle - affine[:3, :3] @ (np.array(CROP[::-1]) // 2)
    return Grid(CROP, affine)


class ClickNetwork:
    """The trained network.

    Args:
        path: Of its weights.
    """

    def __init__(self, path: Path) -> None:
        import torch

        from multiorganseg.networks.strided_dynunet import StridedDynUNet

        self._network: nn.Module = StridedDynUNet(CHANNELS, 1, (32, 48, 96), background=False)
        kept = torch.load(path, weights_only=True)
        self._network.load_state_dict(kept["average"])
        self._network.eval().to(memory_format=torch.channels_last_3d)

    def odds(self, seen: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the log-odds (k, j, i) of the organ, from what `look` gives."""
        import torch

        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            logits = self._network(torch.from_numpy(seen)[None]).logits
        return np.asarray(logits[0, 0].float().numpy())
