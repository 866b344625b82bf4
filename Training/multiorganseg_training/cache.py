"""Cases on the network's grid, prepared once and kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multiorganseg.atomic import atomic_path
from multiorganseg.errors import TrainingError
from multiorganseg.geometry.resample import restore_labels
from multiorganseg.inference.prepare import prepare
from multiorganseg.metrics.compare import SAME_GRID_MM
from multiorganseg.progress import Progress
from multiorganseg.volumes.read import read_labels, read_volume
from multiorganseg_training.cases import Case
from multiorganseg_training.recipe import PreprocessingSpec

FORMAT = 3


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """A case on the network's grid.

    Attributes:
        name: Of the case.
        image: float16 (k, j, i), normalised.
        labels: uint8 (k, j, i), network channels; 0 is background or not annotated.
        known: Channels that are annotated over the whole case.
    """

    name: str
    image: NDArray[np.float16]
    labels: NDArray[np.uint8]
    known: frozenset[int]

    def hide_all_but(self, known: frozenset[int]) -> PreparedCase:
        """Give the case as if only these channels were annotated."""
        kept = np.where(np.isin(self.labels, list(known)), self.labels, 0)
        return replace(self, labels=kept.astype(np.uint8), known=known & self.known)


def prepare_cases(
    cases: list[Case],
    folder: Path,
    preprocessing: PreprocessingSpec,
    channels: Mapping[int, int],
    progress: Progress,
) -> list[PreparedCase]:
    """Load cases from the cache in `folder`, preparing those that are not there yet.

    Args:
        cases: What to prepare.
        folder: Of the cache; several recipes may share it.
        preprocessing: Spacing and window.
        channels: Network channel by label value of the files.
        progress: Told once a case.

    Raises:
        TrainingError: Image and labels of a case lie on different grids.
        VolumeError: A file cannot be read.
    """
    prepared = []
    for number, case in enumerate(cases):
        progress("preparing cases", number / len(cases))
        path = folder / f"{case.name}-{_fingerprint(case, preprocessing, channels)}.npz"
        if not path.is_file():
            image, labels = _prepare(case, preprocessing, channels)
            with atomic_path(path) as partial:
                np.savez(partial, image=image, labels=labels)
        with np.load(path, allow_pickle=False) as arrays:
            known = frozenset(channels.values())
            prepared.append(PreparedCase(case.name, arrays["image"], arrays["labels"], known))
    progress("preparing cases", 1.0)
    return prepared


def to_channels(labels: NDArray[np.integer], channels: Mapping[int, int]) -> NDArray[np.uint8]:
    """Give the network's channels (k, j, i) of a file's label values; values not in `channels` give 0."""
    lookup = np.zeros(max(int(labels.max(initial=0)), *channels) + 1, np.uint8)
    lookup[list(channels)] = list(channels.values())
    return lookup[labels]


def _fingerprint(case: Case, preprocessing: PreprocessingSpec, channels: Mapping[int, int]) -> str:
    files = (case.image, case.labels)
    stamps = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    window = preprocessing.for_bundle().window
    text = json.dumps([FORMAT, stamps, preprocessing.spacing_mm, window, sorted(channels.items())])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _prepare(
    case: Case, preprocessing: PreprocessingSpec, channels: Mapping[int, int]
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
    on_source = canonical.crop.apply(canonical.orientation.apply(to_channels(reference.voxels, channels)))
    labels = restore_labels(on_source, canonical.crop.target, canonical.grid)
    return image.astype(np.float16), labels
