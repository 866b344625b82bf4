"""Which voxels of the organs are looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multiorganseg.errors import TrainingError
from multiorganseg_training.cache import PreparedCase

LABELLED, UNLABELLED, FOLD = "labelled", "unlabelled", "fold"
GROUPS = (LABELLED, UNLABELLED, FOLD)


@dataclass(frozen=True, eq=False)
class Pixels:
    """Voxels of organs in several cases, on the network's grid.

    Attributes:
        case: (pixels,), int64: number of the case.
        position: (pixels, 3), int64: (k, j, i) in it.
        channel: (pixels,), int64: the organ that the voxel truly belongs to, from 1.
        group: (pixels,), int64: place in GROUPS.
    """

    case: NDArray[np.int64]
    position: NDArray[np.int64]
    channel: NDArray[np.int64]
    group: NDArray[np.int64]

    def of(self, *groups: str, channel: int | None = None) -> NDArray[np.bool_]:
        """Tell which pixels belong to any of the groups, and to one organ where it is given."""
        chosen = np.isin(self.group, [GROUPS.index(group) for group in groups])
        return chosen if channel is None else chosen & (self.channel == channel)

    def take(self, places: NDArray[np.intp]) -> Pixels:
        """Give some of the pixels, in the order of `places`."""
        return Pixels(self.case[places], self.position[places], self.channel[places], self.group[places])


def choose_pixels(
    cases: Sequence[PreparedCase],
    known: Sequence[frozenset[int] | None],
    organs: int,
    most: int,
    generator: np.random.Generator,
) -> Pixels:
    """Choose voxels of every organ at random, equally many of each case as far as they suffice.

    A voxel of an organ is labelled where the organ was annotated to the training, unlabelled where it was
    hidden from it: there the true organ is read from label files that the training did not see.

    Args:
        cases: With the labels of all organs.
        known: Channels that were annotated to the training, by case; None for a case of the fold.
        organs: How many there are.
        most: Pixels of an organ in each group at most.
        generator: Source of all randomness.

    Raises:
        TrainingError: There is no labelled or no unlabelled pixel.
    """
    counts = np.stack([np.bincount(case.labels.ravel(), minlength=organs + 1) for case in cases])
    parts: list[tuple[int, int, int, NDArray[np.int64]]] = []
    for group in range(len(GROUPS)):
        for channel in range(1, organs + 1):
            mine = np.array([_group(channels, channel) == group for channels in known])
            shares = _shares(np.where(mine, counts[:, channel], 0), most)
            for number in np.flatnonzero(shares).tolist():
                voxels = np.flatnonzero(cases[number].labels == channel)
                chosen = generator.choice(voxels, shares[number], replace=False)
                parts.append((number, channel, group, chosen))
    _require_both(parts)
    lengths = [len(part[3]) for part in parts]
    return Pixels(
        *(
            np.repeat(np.array([part[0] for part in parts]), lengths),
            np.concatenate(
                [np.stack(np.unravel_index(part[3], cases[part[0]].labels.shape), axis=1) for part in parts]
            ),
            np.repeat(np.array([part[1] for part in parts]), lengths),
            np.repeat(np.array([part[2] for part in parts]), lengths),
        )
    )


def _group(known: frozenset[int] | None, channel: int) -> int:
    name = FOLD if known is None else LABELLED if channel in known else UNLABELLED
    return GROUPS.index(name)


def _shares(counts: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Divide `most` among the cases as evenly as their counts allow."""
    shares = np.zeros_like(counts)
    order = np.argsort(counts, kind="stable")
    for rank, number in enumerate(order):
        shares[number] = min(counts[number], (most - shares.sum()) // (len(order) - rank))
    return shares


def _require_both(parts: list[tuple[int, int, int, NDArray[np.int64]]]) -> None:
    present = {GROUPS[part[2]] for part in parts}
    if LABELLED not in present:
        msg = "No voxel of an organ is labelled in a case that trains."
        raise TrainingError(msg, next_step="Check the data folder against data.labels in the recipe.")
    if UNLABELLED not in present:
        msg = "No voxel of an organ is unlabelled in a case that trains."
        raise TrainingError(
            msg,
            cause="The recipe's data.known hides no organ that the label files contain.",
            next_step="Name a run first whose recipe hides organs; runs after it are shown the same voxels.",
        )
