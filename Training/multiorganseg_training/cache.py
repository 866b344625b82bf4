"""Cases on the network's grid, prepared once and kept on disk."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multiorganseg.atomic import atomic_path
from multiorganseg.errors import TrainingError
from multiorganseg.geometry.resample import restore_labels
from multiorganseg.inference.prepare import prepare
from multiorganseg.metrics.compare import SAME_GRID_MM
from multiorganseg.organs.labels import LabelTable
from multiorganseg.progress import Progress
from multiorganseg.volumes.read import read_labels, read_volume
from multiorganseg_training.cases import Case
from multiorganseg_training.recipe import PreprocessingSpec

FORMAT = 2


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """A case on the network's grid.

    Attributes:
        name: Of the case.
        image: float16 (k, j, i), normalised to [−1, 1].
        labels: uint8 (k, j, i), network channels.
    """

    name: str
    image: NDArray[np.float16]
    labels: NDArray[np.uint8]


def prepare_cases(
    cases: list[Case],
    folder: Path,
    preprocessing: PreprocessingSpec,
    file_table: LabelTable,
    progress: Progress,
) -> list[PreparedCase]:
    """Load cases from the cache in `folder`, preparing those that are not there yet.

    Args:
        cases: What to prepare.
        folder: Of the cache; several recipes may share it.
        preprocessing: Spacing and window.
        file_table: Label table of the files; channels are numbered in its order.
        progress: Told once a case.

    Raises:
        TrainingError: Image and labels of a case lie on different grids.
        VolumeError: A file cannot be read.
    """
    prepared = []
    for number, case in enumerate(cases):
        progress("preparing cases", number / len(cases))
        path = folder / f"{case.name}-{_fingerprint(case, preprocessing, file_table)}.npz"
        if not path.is_file():
            image, labels = _prepare(case, preprocessing, file_table)
            with atomic_path(path) as partial:
                np.savez(partial, image=image, labels=labels)
        with np.load(path, allow_pickle=False) as arrays:
            prepared.append(PreparedCase(case.name, arrays["image"], arrays["labels"]))
    progress("preparing cases", 1.0)
    return prepared


def _fingerprint(case: Case, preprocessing: PreprocessingSpec, table: LabelTable) -> str:
    stamps = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in (case.image, case.labels)]
    text = json.dumps([FORMAT, stamps, preprocessing.spacing_mm, preprocessing.window, table.to_json()])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _prepare(
    case: Case, preprocessing: PreprocessingSpec, table: LabelTable
) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    volume, reference = read_volume(case.image), read_labels(case.labels)
    if not volume.grid.same_as(reference.grid, SAME_GRID_MM):
        msg = f"Image and labels of the case '{case.name}' lie on different grids."
        raise TrainingError(
            msg,
            cause=f"{volume.grid.shape} and {reference.grid.shape} voxels, or another place or direction.",
            next_step="Draw the labels on this image, or resample them onto its grid.",
        )
    canonical, image = prepare(volume, preprocessing.for_bundle())
    channels = np.zeros(max(int(reference.voxels.max()), *table.organs) + 1, np.uint8)
    for channel, value in enumerate(table.organs, start=1):
        channels[value] = channel
    on_source = canonical.crop.apply(canonical.orientation.apply(channels[reference.voxels]))
    labels = restore_labels(on_source, canonical.crop.target, canonical.grid)
    return image.astype(np.float16), labels
