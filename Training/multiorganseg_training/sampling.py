"""Where training patches lie."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from multiorganseg.errors import TrainingError
from multiorganseg_training.cache import PreparedCase

POSITIONS_KEPT = 2000


class PatchSampler:
    """Draws a case and the centre of a patch in it.

    Args:
        cases: The cases drawn from, all equally often.
        organ_centred: Share of patches centred on an organ, where the case has one annotated.
        generator: Source of all randomness.
        favoured: Channels that are looked for first.
        favoured_share: Share of patches centred on one of them, where some case has one annotated.
        absent_share: Share of patches from cases of which organs are known and none occurs, where there are
            such cases; negative treats them as all others.

    Attributes:
        cases: The cases drawn from.
    """

    def __init__(
        self,
        cases: list[PreparedCase],
        organ_centred: float,
        generator: np.random.Generator,
        favoured: Collection[int] = (),
        favoured_share: float = 0.0,
        absent_share: float = -1.0,
    ) -> None:
        self.cases = cases
        self._organ_centred = organ_centred
        self._favoured_share = favoured_share
        self._generator = generator
        by_channel = [_organ_positions(case.labels, generator) for case in cases]
        self._positions = [list(positions.values()) for positions in by_channel]
        self._favoured = [
            [
                (number, positions[channel])
                for number, positions in enumerate(by_channel)
                if channel in positions
            ]
            for channel in favoured
        ]
        empty = [number for number, case in enumerate(cases) if case.known and not by_channel[number]]
        self._empty = empty if absent_share >= 0 else []
        self._absent_share = absent_share
        self._numbers: dict[bool | None, list[int]] = {
            None: [number for number in range(len(cases)) if number not in self._empty],
            True: [number for number, case in enumerate(cases) if case.known and number not in self._empty],
            False: [number for number, case in enumerate(cases) if not case.known],
        }

    def draw(self, labelled: bool | None = None) -> tuple[PreparedCase, NDArray[np.float64] | None]:
        """Give a case and a centre (k, j, i) in voxels: on an organ's voxel, or None for anywhere.

        A case without annotations is never exchanged for one with a favoured organ.

        Args:
            labelled: Whether some organ is annotated in the case (True) or none (False); None takes any.

        Raises:
            TrainingError: There is no such case.
        """
        if self._empty and labelled is not False and self._generator.random() < self._absent_share:
            return self.cases[self._empty[int(self._generator.integers(len(self._empty)))]], None
        occurring = [places for places in self._favoured if places]
        if occurring and labelled is not False and self._generator.random() < self._favoured_share:
            places = occurring[int(self._generator.integers(len(occurring)))]
            number, organ = places[int(self._generator.integers(len(places)))]
            return self.cases[number], organ[int(self._generator.integers(len(organ)))].astype(np.float64)
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
        return case, None


def _organ_positions(
    labels: NDArray[np.uint8], generator: np.random.Generator
) -> dict[int, NDArray[np.int32]]:
    positions = {}
    for channel in np.setdiff1d(labels, 0):
        found = np.argwhere(labels == channel).astype(np.int32)
        positions[int(channel)] = found[generator.permutation(len(found))[:POSITIONS_KEPT]]
    return positions
