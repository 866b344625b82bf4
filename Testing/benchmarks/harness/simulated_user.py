"""A person who corrects an organ until it is right, played by a program that knows the truth.

The rule is that of the CVPR 2025 challenge on interactive segmentation, with distances in mm: the prompt is
put where the largest connected error is deepest.
"""

from __future__ import annotations

from dataclasses import dataclass

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from multiorganseg.refine import Prompt

Mask = NDArray[np.bool_]
Spacing = tuple[float, float, float]

CLICKS, JITTERED, SCRIBBLES = "clicks", "jittered clicks", "scribbles"
JITTER_VOXELS = 2.0
SCRIBBLE_DEPTH = 0.5


@dataclass(frozen=True, eq=False)
class Error:
    """The largest connected error.

    Attributes:
        corner: First voxel of its box.
        mask: Its voxels in the box, with a margin of a voxel.
        depth: mm to the border of the error (k, j, i) in the box.
        missing: Whether the organ lacks it; else it has it too much.
    """

    corner: NDArray[np.intp]
    mask: Mask
    depth: NDArray[np.float64]
    missing: bool


def largest_error(now: Mask, truth: Mask, spacing: Spacing) -> Error | None:
    """Find the largest 26-connected error; None when there is none.

    What is missing and what is too much are components of their own.
    """
    wrong = now != truth
    if not wrong.any():
        return None
    where = ndimage.find_objects(wrong.astype(np.uint8))[0]
    kind = np.where(wrong[where], 1 + truth[where].astype(np.uint8), 0)
    pieces, count = cc3d.connected_components(kind, connectivity=26, return_N=True)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    sizes[0] = 0
    chosen = np.argwhere(pieces == sizes.argmax())
    low, high = chosen.min(axis=0), chosen.max(axis=0) + 1
    mask = np.pad(pieces[tuple(map(slice, low, high))] == sizes.argmax(), 1)
    corner = low + [part.start for part in where] - 1
    missing = bool(truth[tuple(chosen[0] + [part.start for part in where])])
    return Error(corner, mask, ndimage.distance_transform_edt(mask, spacing), missing)


class SimulatedUser:
    """Gives one prompt after the other.

    Args:
        kind: `CLICKS`, `JITTERED` (a normal error of two voxels along each axis) or `SCRIBBLES` (the middle
            line of the error on the slice where it is largest).
        seed: Of the choice among equally deep voxels, and of the jitter.
    """

    def __init__(self, kind: str = CLICKS, seed: int = 42) -> None:
        self.kind = kind
        self._random = np.random.default_rng(seed)

    def prompt(self, now: Mask, truth: Mask, spacing: Spacing) -> Prompt | None:
        """Return the next prompt; None when all is right."""
        error = largest_error(now, truth, spacing)
        if error is None:
            return None
        if self.kind == SCRIBBLES:
            return Prompt.scribble(_middle_line(error), positive=error.missing)
        deepest = np.argwhere(error.depth == error.depth.max())
        voxel = self._random.choice(deepest) + error.corner
        if self.kind == JITTERED:
            moved = voxel + np.rint(self._random.normal(0, JITTER_VOXELS, 3)).astype(int)
            voxel = np.clip(moved, 0, np.array(now.shape) - 1)
        return Prompt.click(voxel, positive=error.missing)


def _middle_line(error: Error) -> list[tuple[int, ...]]:
    plane = int(error.mask.sum(axis=(1, 2)).argmax())
    depth = error.depth[plane]
    depth = np.where(error.mask[plane], depth, 0)
    axis = int(np.argmax(np.ptp(np.argwhere(depth > 0), axis=0)))
    along = depth if axis == 0 else depth.T
    line = []
    for position, row in enumerate(along):
        if row.max() >= SCRIBBLE_DEPTH * depth.max() and row.max() > 0:
            across = int(row.argmax())
            line.append((position, across) if axis == 0 else (across, position))
    # A line jumps where the error is forked: only its longest unbroken part is drawn.
    parts: list[list[tuple[int, int]]] = [[]]
    for point in line:
        if parts[-1] and max(abs(a - b) for a, b in zip(point, parts[-1][-1], strict=True)) > 2:
            parts.append([])
        parts[-1].append(point)
    best = max(parts, key=len)
    return [tuple((error.corner + np.array([plane, *point])).tolist()) for point in best]
