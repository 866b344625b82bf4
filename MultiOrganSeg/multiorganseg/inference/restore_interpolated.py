"""Labels on the input's grid as the argmax of interpolated scores, computed only where that can differ.

Where the eight voxels of the network about a voxel of the input have one label, linear interpolation cannot
give another: each score of that label is the largest at all eight, and so is their weighted mean. (Where
organs overlap, the last organ that is there wins; it is there at all eight, and the later ones at none.) So
scores are interpolated between differing labels alone, and no more than two planes of them are kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from multiorganseg.geometry.zoom import AxisMap

NUMBERS_AT_ONCE = 2**22


class InterpolatedLabels:
    """Takes finished planes of the network's grid in order, and labels those of the input between them.

    Args:
        maps: For each axis, where the voxels wanted lie on the network's grid.
        activation: "softmax", "sigmoid" or "regions"; see `winners`.
        dtype: Of the labels.
        threshold: As for `winners`.
        rounded: Kind of number to which scores are rounded before they are compared.
    """

    def __init__(
        self,
        maps: Sequence[AxisMap],
        activation: str,
        dtype: DTypeLike,
        threshold: float = 0.0,
        rounded: torch.dtype = torch.float32,
    ) -> None:
        self._rounded = rounded
        self._along_k, self._along_j, self._along_i = maps
        self._activation, self._threshold = activation, threshold
        k, j, i = (len(place.below) for place in maps)
        self.labels = np.zeros((k, j, i), dtype)
        self._planes: dict[int, tuple[Tensor, NDArray]] = {}
        self._done = 0

    def add(self, number: int, scores: Tensor, labels: NDArray) -> None:
        """Take a plane.

        Args:
            number: Its index; planes come in order.
            scores: Tensor (j, i, channels) on the CPU: logits or probabilities, to be interpolated.
            labels: Its labels (j, i).
        """
        self._planes[number] = (scores, labels)
        while self._done < len(self.labels) and self._along_k.above[self._done] <= number:
            below, above = (int(side[self._done]) for side in (self._along_k.below, self._along_k.above))
            self._label(self._done, below, above, float(self._along_k.share[self._done]))
            self._done += 1
        needed = self._along_k.below[self._done] if self._done < len(self.labels) else number + 1
        for old in [plane for plane in self._planes if plane < needed]:
            del self._planes[old]

    def _label(self, output: int, below: int, above: int, share: float) -> None:
        (low, first), (high, second) = self._planes[below], self._planes[above]
        rows, columns = self._along_j, self._along_i
        sides = [
            plane[r][:, c]
            for plane in (first, second)
            for r in (rows.below, rows.above)
            for c in (columns.below, columns.above)
        ]
        labels = sides[0].copy()
        mixed = np.zeros(labels.shape, bool)
        for side in sides[1:]:
            mixed |= side != labels
        at_j, at_i = np.nonzero(mixed)
        size = max(1, NUMBERS_AT_ONCE // low.shape[-1])
        for start in range(0, len(at_j), size):
            j, i = at_j[start : start + size], at_i[start : start + size]
            scores = torch.lerp(self._in_plane(low, j, i), self._in_plane(high, j, i), share)
            labels[j, i] = winners(scores.to(self._rounded), self._activation, self._threshold).numpy()
        self.labels[output] = labels

    def _in_plane(self, plane: Tensor, j: NDArray, i: NDArray) -> Tensor:
        rows, columns = self._along_j, self._along_i
        up = torch.from_numpy(rows.share[j])[:, None]
        across = torch.from_numpy(columns.share[i])[:, None]
        near, far = (
            torch.lerp(plane[r[j], columns.below[i]], plane[r[j], columns.above[i]], across)
            for r in (rows.below, rows.above)
        )
        return torch.lerp(near, far, up)


def winners(scores: Tensor, activation: str, threshold: float = 0.0) -> Tensor:
    """Return labels (...) from scores (..., channels).

    Args:
        scores: Logits or probabilities.
        activation: "softmax": the largest, 0 being background; "sigmoid": the largest where it passes the
            threshold, numbered from 1; "regions": the last that passes it.
        threshold: 0 for logits, 0.5 for probabilities.
    """
    if activation == "softmax":
        return scores.argmax(dim=-1)
    if activation == "sigmoid":
        best, winner = scores.max(dim=-1)
        return torch.where(best > threshold, winner + 1, 0)
    numbers = torch.arange(1, scores.shape[-1] + 1, device=scores.device)
    return torch.where(scores > threshold, numbers, 0).amax(dim=-1)
