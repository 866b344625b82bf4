"""Scores and features of a run, gathered window by window for later corrections."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from multiorganseg.inference.windows import centre_weights
from multiorganseg.organs.labels import LabelTable
from multiorganseg.refine.maps import GridMap, NetworkMaps, fingerprint
from multiorganseg.volumes.volume import Grid, Volume

LIMIT_BYTES = 512 * 2**20
SMALLEST_PROBABILITY = 1e-6
COARSENINGS = ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 4, 4), (4, 4, 4), (4, 8, 8), (8, 8, 8))

Triple = tuple[int, int, int]


class MeanMap:
    """Weighted means of values that come in pieces, on a grid of cells of `step` voxels.

    Args:
        channels: Of the values.
        shape: Voxels (k, j, i) of the network's grid.
        step: Voxels of a cell along each axis.
    """

    def __init__(self, channels: int, shape: Triple, step: Triple) -> None:
        self.step = step
        cells = [math.ceil(size / width) + 1 for size, width in zip(shape, step, strict=True)]
        self._sums = torch.zeros((channels, *cells), dtype=torch.float16)
        self._totals = torch.zeros((1, *cells))

    def add(self, start: Sequence[int], step: Sequence[int], values: Tensor, weights: Tensor) -> None:
        """Add a piece.

        Args:
            start: Its first voxel.
            step: Voxels between its values along each axis.
            values: (channels, k, j, i).
            weights: (k, j, i).
        """
        piece = torch.cat([values.float() * weights, weights[None].float()])
        where = []
        for axis, (first, width, cell) in enumerate(zip(start, step, self.step, strict=True), start=1):
            centres = (first + (torch.arange(piece.shape[axis]) + 0.5) * width) / cell - 0.5
            low = torch.floor(centres + 1e-4)
            share = (centres - low).clamp_(0)
            begin, length = int(low[0]), int(low[-1] - low[0]) + 2
            if share.max() > 1e-3 or length != piece.shape[axis] + 1:
                shares = share.reshape([-1 if a == axis else 1 for a in range(4)])
                spread = piece.new_zeros([length if a == axis else n for a, n in enumerate(piece.shape)])
                index = (low - low[0]).long()
                spread.index_add_(axis, index, piece * (1 - shares))
                spread.index_add_(axis, index + 1, piece * shares)
                piece = spread
            if begin < 0:
                piece = piece.narrow(axis, -begin, piece.shape[axis] + begin)
                begin = 0
            room = self._sums.shape[axis] - begin
            piece = piece.narrow(axis, 0, min(room, piece.shape[axis]))
            where.append(slice(begin, begin + piece.shape[axis]))
        self._sums[(slice(None), *where)] += piece[:-1].half()
        self._totals[(slice(None), *where)] += piece[-1:]

    def result(self, grid: Grid) -> GridMap:
        """Return the means where any value came, 0 elsewhere; `grid` is the network's."""
        cells = [math.ceil(size / width) for size, width in zip(grid.shape, self.step, strict=True)]
        inside = (slice(None), *(slice(0, count) for count in cells))
        totals = self._totals[inside].clamp_min(1e-6)
        values = np.empty((len(self._sums), *cells), np.float16)
        for channel, target in zip(self._sums[inside], values, strict=True):
            target[...] = (channel.float() / totals[0]).numpy()
        affine = grid.affine.copy()
        affine[:3, :3] = grid.affine[:3, :3] * np.array(self.step[::-1])
        affine[:3, 3] = grid.to_patient(tuple(0.5 * (np.array(self.step) - 1)))
        return GridMap(values, Grid((cells[0], cells[1], cells[2]), affine))


class MapRecorder:
    """Gathers `NetworkMaps` while `stream_labels` runs; use one for one run.

    Args:
        limit_bytes: All maps together take no more: scores and features are kept on coarser cells, the image
            last, until they do.
    """

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self.maps: NetworkMaps | None = None

    def begin(self, image: np.ndarray, channels: int, features: int, stride: Triple) -> None:
        """Reserve memory for a volume.

        Args:
            image: (k, j, i), normalised.
            channels: Background and organs.
            features: Channels of the features.
            stride: Voxels between features along each axis.
        """
        shape: Triple = (image.shape[0], image.shape[1], image.shape[2])
        steps = plan_steps(shape, channels, features, stride, self.limit_bytes)
        self._image, self._stride = image, stride
        self._steps = steps
        self._scores = MeanMap(channels, shape, steps[1])
        self._features = MeanMap(features, shape, steps[2])

    def add_features(self, start: Triple, features: Tensor) -> None:
        """Add a window's features (channels, k', j', i') at its first voxel."""
        size = (features.shape[1], features.shape[2], features.shape[3])
        self._features.add(
            start, self._stride, features.float().cpu(), torch.from_numpy(centre_weights(size))
        )

    def add_probabilities(self, plane: int, means: Tensor) -> None:
        """Add finished planes of probabilities (k, j, i, channels), the first of which is `plane`."""
        shape = self._image.shape
        values = means[: max(0, shape[0] - plane), : shape[1], : shape[2]].movedim(-1, 0).cpu()
        if values.shape[1]:
            self._scores.add((plane, 0, 0), (1, 1, 1), values, torch.ones(values.shape[1:]))

    def finish(self, grid: Grid, table: LabelTable, volume: Volume) -> NetworkMaps:
        """Return the maps; `grid` is the network's."""
        scores = self._scores.result(grid)
        for channel in scores.values:
            channel[...] = np.log(np.maximum(channel.astype(np.float32), SMALLEST_PROBABILITY))
        image = MeanMap(1, (grid.shape[0], grid.shape[1], grid.shape[2]), self._steps[0])
        whole = torch.from_numpy(np.ascontiguousarray(self._image))[None]
        image.add((0, 0, 0), (1, 1, 1), whole, torch.ones(whole.shape[1:]))
        self.maps = NetworkMaps(
            image.result(grid), scores, self._features.result(grid), table, fingerprint(volume)
        )
        return self.maps


def plan_steps(
    shape: Triple, channels: int, features: int, stride: Triple, limit_bytes: int
) -> tuple[Triple, Triple, Triple]:
    """Return the cells of image, scores and features that keep all of them under a limit.

    Scores and features get coarser together; the image follows one step behind.
    """
    steps: tuple[Triple, Triple, Triple] = ((1, 1, 1), (1, 1, 1), stride)
    for number, coarse in enumerate(COARSENINGS):
        finer = COARSENINGS[max(0, number - 1)]
        own = tuple(max(a, b) for a, b in zip(coarse, stride, strict=True))
        steps = (finer, coarse, (own[0], own[1], own[2]))
        cells = [math.prod(math.ceil(n / w) for n, w in zip(shape, step, strict=True)) for step in steps]
        if 2 * (cells[0] + channels * cells[1] + features * cells[2]) <= limit_bytes:
            break
    return steps
