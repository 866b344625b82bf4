"""Where training patches lie."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multiorganseg.errors import TrainingError
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
        self._numbers: dict[bool | None, list[int]] = {
            None: list(range(len(cases))),
            True: [number for number, case in enumerate(cases) if case.known],
            False: [number for number, case in enumerate(cases) if not case.known],
        }

    def draw(self, labelled: bool | None = None) -> tuple[PreparedCase, NDArray[np.float64]]:
        """Give a case and a centre (k, j, i) in voxels: on an organ's voxel, or anywhere in the body.

        Args:
            labelled: Whether some organ is annotated in the case (True) or none (False); None takes any.

        Raises:
            TrainingError: There is no such case.
        """
        numbers = self._numbers[labelled]
        if not numbers:
            msg = f"No case {'has' if labelled else 'is without'} annotations."
            raise TrainingError(
                msg, next_step="Correct data.known in the recipe, or optimisation.labelled_per_batch."
            )
        number = numbers[int(self._generator.integers(len(numbers)))]
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
