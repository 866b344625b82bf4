"""What an answer changed, and how to take it back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multiorganseg.organs.labels import LabelTable

Box = tuple[slice, slice, slice]
Labels = NDArray[np.unsignedinteger]

NOWHERE: Box = (slice(0, 0), slice(0, 0), slice(0, 0))


@dataclass(frozen=True, eq=False)
class Change:
    """What an answer changed.

    Attributes:
        box: Slices (k, j, i) of the volume's grid outside which nothing changed; empty when nothing did.
        labels: The labels in the box after the change.
        before: The labels in it before.
        organs: Keys of the organs that gained or lost voxels.
    """

    box: Box
    labels: Labels
    before: Labels
    organs: tuple[str, ...]

    @property
    def voxels(self) -> int:
        """How many voxels changed."""
        return int(np.count_nonzero(self.labels != self.before))


class Journal:
    """Writes into labels, and knows what stood there before."""

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        self._entries: list[tuple[NDArray[np.intp], Labels]] = []

    def set(self, voxels: NDArray[np.intp], value: int) -> None:
        """Return voxels (n, 3) a value."""
        where = tuple(voxels.T)
        self._entries.append((voxels, self._labels[where]))
        self._labels[where] = value

    def take_back(self) -> None:
        """Put back what stood there."""
        self._put_back(self._labels, np.zeros(3, np.intp))

    def change(self, table: LabelTable) -> Change:
        """Return the smallest box that holds all that is different now."""
        voxels = np.concatenate([voxels for voxels, _ in self._entries])
        if not len(voxels):
            return _nothing(self._labels)
        box = _bounding(voxels)
        before = self._labels[box].copy()
        self._put_back(before, voxels.min(axis=0))
        changed = before != self._labels[box]
        if not changed.any():
            return _nothing(self._labels)
        tight = _bounding(np.argwhere(changed))
        k, j, i = (slice(b.start + t.start, b.start + t.stop) for b, t in zip(box, tight, strict=True))
        values = {*np.unique(before[changed]).tolist(), *np.unique(self._labels[box][changed]).tolist()}
        organs = tuple(key for value, key in table.organs.items() if value in values)
        return Change((k, j, i), self._labels[k, j, i].copy(), before[tight].copy(), organs)

    def _put_back(self, labels: Labels, corner: NDArray[np.intp]) -> None:
        for voxels, old in reversed(self._entries):
            labels[tuple((voxels - corner).T)] = old


def _bounding(voxels: NDArray[np.intp]) -> Box:
    low, high = voxels.min(axis=0), voxels.max(axis=0) + 1
    k, j, i = (slice(int(first), int(last)) for first, last in zip(low, high, strict=True))
    return k, j, i


def _nothing(labels: Labels) -> Change:
    return Change(NOWHERE, labels[NOWHERE].copy(), labels[NOWHERE].copy(), ())
