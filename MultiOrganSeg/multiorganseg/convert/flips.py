"""Which way a network's images run, found by one case whose labels are known."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from multiorganseg.bundles import Bundle
from multiorganseg.errors import VolumeError
from multiorganseg.geometry.orient import orientations
from multiorganseg.organs.labels import LabelTable
from multiorganseg.progress import Progress

if TYPE_CHECKING:
    from multiorganseg.volumes.volume import Volume


@dataclass(frozen=True)
class Check:
    """How well a network agrees with a case's labels.

    Attributes:
        dice: Mean over the organs that are labelled, by orientation.
        best: The orientation with the largest.
        fast: Mean Dice of the fast mode against the faithful one in the best orientation.
        seconds: Of the faithful and of the fast mode in that orientation.
    """

    dice: Mapping[str, float]
    best: str
    fast: float
    seconds: tuple[float, float]


def check_orientations(
    write: Callable[[str, Path], Bundle],
    channels: tuple[Volume, ...],
    reference: Volume,
    values: Mapping[str, int],
    wanted: str | None,
    progress: Progress,
) -> Check:
    """Segment a case in every orientation, and compare.

    Args:
        write: Writes a bundle with an orientation to a folder.
        channels: Of the case.
        reference: Its labels, with the values of the source.
        values: Label value in the source by organ key.
        wanted: The only orientation to try; None for all eight.
        progress: Reports the share of orientations done.

    Raises:
        VolumeError: The labels hold none of the organs.
    """
    from multiorganseg.geometry.resample import restore_labels_nearest
    from multiorganseg.inference.segment import Options, Segmenter

    truth = restore_labels_nearest(reference.voxels, reference.grid, channels[0].grid)
    if not np.isin(truth, list(values.values())).any():
        msg = f"{reference.source} holds none of the model's labels."
        raise VolumeError(
            msg, cause=f"They are {values}.", next_step="Give the labels in the source's values."
        )
    tried = (wanted,) if wanted is not None else orientations()
    dice: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="multiorganseg-") as name:
        for number, orientation in enumerate(tried):
            progress("checking orientations", number / len(tried))
            bundle = write(orientation, Path(name) / f"try-{number}")
            result = Segmenter(bundle, Options(mirroring=False)).segment(channels[0], None, channels[1:])
            dice[orientation] = _agreement(result.labels, result.table, truth, values)
        best = max(dice, key=lambda orientation: dice[orientation])
        bundle = write(best, Path(name) / "best")
        faithful, fast = (
            Segmenter(bundle, Options(mode=mode)).segment(channels[0], None, channels[1:])
            for mode in ("faithful", "fast")
        )
        same = {key: value for value, key in faithful.table.organs.items()}
        agreement = _agreement(fast.labels, fast.table, faithful.labels, same)
    seconds = [sum(result.provenance["seconds"].values()) for result in (faithful, fast)]
    return Check(dice, best, agreement, (seconds[0], seconds[1]))


def _agreement(labels: np.ndarray, table: LabelTable, truth: np.ndarray, values: Mapping[str, int]) -> float:
    """Mean Dice over the organs that are there."""
    found = []
    for value, key in table.organs.items():
        one, other = labels == value, truth == values[key]
        if other.any():
            found.append(
                2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))
            )
    return float(np.mean(found)) if found else 0.0
