"""Cases on the network's grid, prepared once and kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multiorganseg.errors import TrainingError
from multiorganseg.geometry.resample import restore_labels
from multiorganseg.inference.prepare import prepare
from multiorganseg.metrics.compare import SAME_GRID_MM
from multiorganseg.progress import Progress
from multiorganseg.volumes.read import read_labels, read_volume
from multiorganseg_training.case_store import content_digest, load_entry, save_entry
from multiorganseg_training.cases import Case
from multiorganseg_training.recipe import PreprocessingSpec

FORMAT = 4


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """A case on the network's grid.

    Attributes:
        name: Of the case.
        image: float16 (k, j, i), normalised.
        labels: uint8 (k, j, i), network channels; 0 is background or not annotated.
        known: Channels of which every voxel of the case is known, annotated or absent.
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
    progress: Progress,
) -> list[PreparedCase]:
    """Load cases from the cache in `folder`, preparing those that are not there yet.

    An entry is found by the content of image and labels and by the preprocessing, not by names or times.

    Labels of channels that a case does not know are left out.

    Args:
        cases: What to prepare.
        folder: Of the cache; several recipes may share it.
        preprocessing: Spacing and window.
        progress: Told once a case.

    Raises:
        TrainingError: Image and labels of a case lie on different grids.
        VolumeError: A file cannot be read.
    """
    prepared = []
    for number, case in enumerate(cases):
        progress("preparing cases", number / len(cases))
        path = folder / f"{_fingerprint(case, preprocessing)}.npz"
        arrays = load_entry(path)
        if arrays is None or not _is_whole(arrays):
            made = prepare_case(case, preprocessing)
            arrays = {"image": made.image, "labels": made.labels}
            save_entry(path, arrays)
        whole = PreparedCase(case.name, arrays["image"], arrays["labels"], case.known)
        prepared.append(whole.hide_all_but(case.known))
    progress("preparing cases", 1.0)
    return prepared


def to_channels(labels: NDArray[np.integer], channels: Mapping[int, int]) -> NDArray[np.uint8]:
    """Give the network's channels (k, j, i) of a file's label values; values not in `channels` give 0."""
    lookup = np.zeros(max(int(labels.max(initial=0)), 0, *channels) + 1, np.uint8)
    lookup[list(channels)] = list(channels.values())
    return lookup[labels]


def _fingerprint(case: Case, preprocessing: PreprocessingSpec) -> str:
    digests = [None if path is None else content_digest(path) for path in (case.image, case.labels)]
    window = preprocessing.for_bundle().window
    text = json.dumps([FORMAT, digests, preprocessing.spacing_mm, window, sorted(case.channels.items())])
    return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()


def _is_whole(arrays: Mapping[str, NDArray]) -> bool:
    if not {"image", "labels"} <= arrays.keys():
        return False
    image, labels = arrays["image"], arrays["labels"]
    return (image.dtype, labels.dtype) == (np.float16, np.uint8) and image.shape == labels.shape


def prepare_case(case: Case, preprocessing: PreprocessingSpec) -> PreparedCase:
    """Bring a case onto the network's grid, with all labels that its file has.

    Raises:
        TrainingError: Image and labels lie on different grids.
        VolumeError: A file cannot be read.
    """
    volume = read_volume(case.image)
    reference = None if case.labels is None else read_labels(case.labels)
    if reference is not None and not volume.grid.same_as(reference.grid, SAME_GRID_MM):
        msg = f"Image and labels of the case '{case.name}' lie on different grids."
        raise TrainingError(
            msg,
            cause=f"{volume.grid.shape} and {reference.grid.shape} voxels, or another place or direction.",
            next_step="Draw the labels on this image, or resample them onto its grid.",
        )
    canonical, image = prepare(volume, preprocessing.for_bundle())
    if reference is None:
        nothing = np.zeros(image.shape, np.uint8)
        return PreparedCase(case.name, image.astype(np.float16), nothing, case.known)
    channels = to_channels(reference.voxels, case.channels)
    on_source = canonical.crop.apply(canonical.orientation.apply(channels))
    labels = restore_labels(on_source, canonical.crop.target, canonical.grid)
    return PreparedCase(case.name, image.astype(np.float16), labels, case.known)
