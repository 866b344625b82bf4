"""Where training patches lie."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multiorganseg_training.cache import PreparedCase

POSITIONS_KEPT = 2000


class PatchSampler:
    """Draws a case and the centre of a patch in it.

    Attributes:
        cases: The cases drawn from, all equally often.
    """

    def __init__(
        self, cases: list[PreparedCase], organ_centred: float, generator: np.random.Generator
    ) -> None:
        self.cases = cases
        self._organ_centred = organ_centred
        self._generator = generator
        self._positions = [_organ_positions(case.labels, generator) for case in cases]

    def draw(self) -> tuple[PreparedCase, NDArray[np.float64]]:
        """Give a case and a centre (k, j, i) in voxels: on an organ's voxel, or anywhere in the body."""
        number = int(self._generator.integers(len(self.cases)))
        case, positions = self.cases[number], self._positions[number]
        if positions and self._generator.random() < self._organ_centred:
            organ = positions[int(self._generator.integers(len(positions)))]
            return case, organ[int(self._generator.integers(len(organ)))].astype(np.float64)
        return case, self._generator.uniform(0, case.labels.shape)


def _organ_positions(labels: NDArray[np.uint8], generator: np.random.Generator) -> list[NDArray[np.int32]]:
    positions = []
    for channel in np.setdiff1d(labels, 0):
        found = np.argwhere(labels == channel).astype(np.int32)
        positions.append(found[generator.permutation(len(found))[:POSITIONS_KEPT]])
    return positions
