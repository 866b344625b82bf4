"""Methods of correction beside ours: Slicer's and MONAI Label's that need no network, and a plain ball."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

from multiorganseg.geometry.crop import Crop
from multiorganseg.geometry.resample import Resample, restore_labels, spacing_grid
from multiorganseg.organs.labels import LabelTable
from multiorganseg.refine import NetworkMaps, Prompt, Session
from multiorganseg.refine.geodesic import geodesic_distance
from multiorganseg.volumes import Volume

Labels = NDArray[np.unsignedinteger]
Mask = NDArray[np.bool_]
Box = tuple[slice, slice, slice]

MARGIN_MM = 25.0
ERODED_MM = 4.0
CLICK_MM = 3.0
BINS = 64
LAMBDA, SIGMA = 1.0, 0.1
GRAPH_SPACING = (5.0, 2.5, 2.5)
CAPACITY = 1000
BALL_MM = 15.0
BALL_HU = 20.0
HU = (-300.0, 200.0)


class Ours:
    """A session of the product with all other organs locked."""

    def __init__(
        self, volume: Volume, labels: Labels, table: LabelTable, organ: str, maps: NetworkMaps | None
    ) -> None:
        self._session = Session(volume, labels, table, maps)
        self._organ = organ
        self._locked = [key for key in table.keys if key != organ]

    @property
    def labels(self) -> Labels:
        """The labels as they are now."""
        return self._session.labels

    def answer(self, prompt: Prompt) -> Box:
        """Answer; a prompt that lies in a locked organ changes nothing."""
        under = self.labels[tuple(prompt.voxels().T)]
        own = self._session.table.value(self._organ)
        if prompt.positive and ((under != 0) & (under != own)).all():
            return slice(0, 0), slice(0, 0), slice(0, 0)
        return self._session.correct(self._organ, [prompt], self._locked).box


class SeededRow:
    """A method that segments anew from seeds in a box; other organs keep their voxels.

    Inside are the eroded start and the positive prompts, outside the other organs, eroded, what is far from
    the start, the faces of the box and the negative prompts.
    """

    def __init__(self, volume: Volume, labels: Labels, value: int) -> None:
        self.labels, self._volume, self._value = labels.copy(), volume, value
        self._start = labels == value
        self._inside: list[NDArray[np.intp]] = []
        self._outside: list[NDArray[np.intp]] = []

    def answer(self, prompt: Prompt) -> Box:
        """Segment the organ anew, with the prompt among the seeds."""
        (self._inside if prompt.positive else self._outside).append(prompt.voxels())
        box = self._box()
        spacing = self._volume.grid.spacing
        start = self._start[box]
        inside = ndimage.distance_transform_edt(start, spacing) > ERODED_MM if start.any() else start
        others = (self.labels[box] != 0) & (self.labels[box] != self._value)
        outside = ndimage.binary_erosion(others)
        if start.any():
            outside |= ndimage.distance_transform_edt(~start, spacing) > MARGIN_MM
        edge = np.ones(start.shape, bool)
        edge[1:-1, 1:-1, 1:-1] = False
        outside |= edge
        for said, own, other in ((self._inside, inside, outside), (self._outside, outside, inside)):
            for voxels in said:
                near = self._near(voxels, box)
                own |= near
                other &= ~near
        found = self._segment(self._volume.voxels[box].astype(np.float32), inside, outside & ~inside, box)
        part = self.labels[box]
        part[part == self._value] = 0
        part[found & ~others] = self._value
        return box

    def _segment(self, image: NDArray[np.float32], inside: Mask, outside: Mask, box: Box) -> Mask:
        raise NotImplementedError

    def _box(self) -> Box:
        points = [np.argwhere(self._start)] if self._start.any() else []
        spots = np.concatenate([*points, *self._inside, *self._outside])
        parts = []
        for axis, (size, step) in enumerate(zip(self.labels.shape, self._volume.grid.spacing, strict=True)):
            reach = round((MARGIN_MM if points else 2 * MARGIN_MM) / step)
            low, high = int(spots[:, axis].min()), int(spots[:, axis].max())
            parts.append(slice(max(0, low - reach), min(size, high + reach + 1)))
        return parts[0], parts[1], parts[2]

    def _near(self, voxels: NDArray[np.intp], box: Box) -> Mask:
        spots = np.zeros(tuple(part.stop - part.start for part in box), bool)
        spots[tuple((voxels - [part.start for part in box]).T)] = True
        distance: NDArray[np.float64] = ndimage.distance_transform_edt(~spots, self._volume.grid.spacing)
        return distance <= CLICK_MM


class GrowFromSeeds(SeededRow):
    """Slicer's "Grow from seeds"."""

    def _segment(self, image: NDArray[np.float32], inside: Mask, outside: Mask, box: Box) -> Mask:
        from harness.grow_cut import grow_cut

        seeds = inside.astype(np.uint8) + 2 * outside.astype(np.uint8)
        return grow_cut(image, seeds, self._volume.grid.spacing) == 1


class HistogramGraphCut(SeededRow):
    """Histograms of both kinds of seeds, and a graph cut, as MONAI Label's scribbles do.

    Likelihoods from 64 bins with a Dirichlet count of 1; λ = 1, σ = 0.1 on intensities −300…200 HU scaled to
    0…1, on voxels of 5 × 2.5 × 2.5 mm.
    """

    def _segment(self, image: NDArray[np.float32], inside: Mask, outside: Mask, box: Box) -> Mask:
        fine = Crop(self._volume.grid, box).target
        coarse = spacing_grid(fine, GRAPH_SPACING)
        resample = Resample(fine, coarse)
        scaled = np.clip((resample.apply(image) - HU[0]) / (HU[1] - HU[0]), 0, 1)
        seeds = [resample.apply(mask.astype(np.float32)) > 0.4 for mask in (inside, outside)]
        seeds[1] &= ~seeds[0]
        bins = np.minimum((scaled * BINS).astype(int), BINS - 1)
        odds = []
        for mask in seeds:
            counts = np.bincount(bins[mask], minlength=BINS) + 1.0
            odds.append((counts / counts.sum())[bins])
        chance = odds[0] / (odds[0] + odds[1])
        chance[seeds[0]], chance[seeds[1]] = 1 - 1e-6, 1e-6
        cut = graph_cut(scaled, chance)
        return restore_labels(cut.astype(np.uint8), coarse, fine) == 1


def graph_cut(image: NDArray[np.floating], chance: NDArray[np.floating]) -> Mask:
    """Minimise −log-likelihoods and a contrast term over six neighbours, exactly but for rounding.

    Args:
        image: (k, j, i) in 0…1.
        chance: (k, j, i) of the foreground, in 0…1.
    """
    count, number = image.size, np.arange(image.size).reshape(image.shape)
    source, sink = count, count + 1
    rows, columns, capacities = [], [], []

    def edges(first: NDArray, second: NDArray, weight: NDArray) -> None:
        rows.append(first.ravel())
        columns.append(second.ravel())
        capacities.append(np.rint(CAPACITY * np.minimum(weight, 14)).astype(np.int32).ravel())

    flat = np.clip(chance, 1e-6, 1 - 1e-6).ravel()
    every = number.ravel()
    edges(np.full(count, source), every, -np.log(1 - flat))
    edges(every, np.full(count, sink), -np.log(flat))
    for axis in range(3):
        a = np.take(number, range(image.shape[axis] - 1), axis)
        b = np.take(number, range(1, image.shape[axis]), axis)
        step = np.diff(image, axis=axis)
        weight = LAMBDA * np.exp(-(step**2) / (2 * SIGMA**2))
        edges(a, b, weight)
        edges(b, a, weight)
    graph = csr_array(
        coo_array(
            (np.concatenate(capacities), (np.concatenate(rows), np.concatenate(columns))),
            (count + 2, count + 2),
        )
    )
    flow = maximum_flow(graph, source, sink).flow
    rest = csr_array(graph - flow)
    rest.data = np.maximum(rest.data, 0)
    rest.eliminate_zeros()
    reached = breadth_first_order(rest, source, return_predecessors=False)
    mask = np.zeros(count + 2, bool)
    mask[reached] = True
    return mask[:count].reshape(image.shape)


class GeodesicBall:
    """What lies within a radius of the prompt, where a mm costs more the more the intensity differs.

    The radius is the prompt's distance from the present border, 15 mm where there is nothing yet.
    """

    def __init__(self, volume: Volume, labels: Labels, value: int) -> None:
        self.labels, self._volume, self._value = labels.copy(), volume, value

    def answer(self, prompt: Prompt) -> Box:
        """Fill, or empty, the ball."""
        voxels, spacing = prompt.voxels(), self._volume.grid.spacing
        parts = []
        for axis, (size, step) in enumerate(zip(self.labels.shape, spacing, strict=True)):
            reach = round(2 * BALL_MM / step)
            low, high = int(voxels[:, axis].min()), int(voxels[:, axis].max())
            parts.append(slice(max(0, low - reach), min(size, high + reach + 1)))
        box: Box = (parts[0], parts[1], parts[2])
        part, image = self.labels[box], self._volume.voxels[box].astype(np.float32)
        wanted = (part == self._value) == prompt.positive
        spots = np.zeros(part.shape, bool)
        spots[tuple((voxels - [side.start for side in box]).T)] = True
        radius = BALL_MM
        if wanted.any():
            depth = ndimage.distance_transform_edt(~wanted, spacing)[spots].max()
            radius = min(BALL_MM, float(depth)) if depth else 0.0
        middle = float(image[spots].mean())
        cost = (1 + np.abs(image - middle) / BALL_HU).astype(np.float32)
        ball = geodesic_distance(cost, spots, spacing) <= max(radius, min(spacing))
        free = part == 0 if prompt.positive else part == self._value
        part[ball & free] = self._value if prompt.positive else 0
        return box
