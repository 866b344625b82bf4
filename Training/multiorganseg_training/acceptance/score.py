"""Old and new network on one case, organ by organ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from multiorganseg.metrics import dice, normalized_surface_distance
from multiorganseg.organs.catalogue import Catalogue, load_catalogue
from multiorganseg.organs.labels import LabelTable
from multiorganseg.projects.matrix import LabelStatus
from multiorganseg.projects.project import Project
from multiorganseg.volumes.read import read_labels
from multiorganseg.volumes.volume import Grid
from multiorganseg_training.project.case_files import on_image_grid


@dataclass(frozen=True)
class HeldOutCase:
    """One image with what people said of its organs.

    Attributes:
        name: Of the case.
        image: Its image file.
        labels: Its label file on the image's grid; None when nothing is labelled.
        organs: Organ key by label value of the file; several values may be parts of one organ.
        annotated: Organ keys of which every voxel carries a label.
        absent: Organ keys that the image does not hold.
    """

    name: str
    image: Path
    labels: Path | None
    organs: Mapping[int, str]
    annotated: frozenset[str]
    absent: frozenset[str] = frozenset()

    @property
    def known(self) -> frozenset[str]:
        """Organ keys whose every voxel is known: annotated or absent."""
        return self.annotated | self.absent

    @property
    def table(self) -> LabelTable:
        """The annotated organs, numbered from 1: the meaning of what `reference` gives."""
        return LabelTable.numbered(
            dict.fromkeys(key for _, key in sorted(self.organs.items()) if key in self.annotated)
        )

    def reference(self, grid: Grid) -> NDArray[np.uint16]:
        """Read the annotations (k, j, i), numbered as in `table`, without organs that are not annotated.

        What is not annotated within an annotated organ, such as a pseudo-label of a tumour, is part of it.

        Args:
            grid: Of the image.

        Raises:
            TrainingError: The labels lie on another grid; see `on_image_grid`.
            VolumeError: The file cannot be read.
        """
        if self.labels is None:
            return np.zeros(grid.shape, np.uint16)
        labels = on_image_grid(self.name, grid, read_labels(self.labels))
        lookup, table = np.zeros(65536, np.uint16), self.table
        for value, key in self.organs.items():
            seen = load_catalogue().innermost(key, table.keys)
            if seen is not None:
                lookup[value] = table.value(seen)
        return lookup[labels.voxels]


def held_out_case(project: Project, name: str) -> HeldOutCase:
    """Return a case of a project with what its label-status matrix says; pseudo-labels count as unknown.

    Raises:
        TrainingError: There is no such case.
    """
    project.case(name)
    return HeldOutCase(
        name,
        project.image_path(name),
        project.labels_path(name),
        project.table.organs,
        project.matrix.organs_with(name, LabelStatus.ANNOTATED),
        project.matrix.organs_with(name, LabelStatus.ABSENT),
    )


TOLERANCE_MM = 2.0


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Label values with their meaning.

    Attributes:
        labels: Array (k, j, i).
        table: What the values mean.
    """

    labels: NDArray[np.unsignedinteger]
    table: LabelTable

    def mask(self, organ: str, catalogue: Catalogue) -> NDArray[np.bool_]:
        """Return the voxels (k, j, i) of an organ and of those that lie within it, such as its tumour."""
        return np.isin(self.labels, catalogue.values_of(self.table, organ))


@dataclass(frozen=True)
class CaseScore:
    """One organ in one case.

    Attributes:
        case: Name of the case.
        organ: Organ key.
        status: "annotated", "absent" or "unknown".
        dice_old: Of the base against the annotation; NaN where there is none, or neither has a voxel.
        dice_new: Of the new network, likewise.
        nsd_old: Normalised surface distance at 2 mm, as `dice_old`.
        nsd_new: As `dice_new`.
        agreement: Dice between both networks; NaN when neither finds the organ or the base does not know it.
        agreement_nsd: Normalised surface distance between them, likewise.
        volume_ml_old: In the base's result; NaN when the base does not know the organ.
        volume_ml_new: In the new network's result.
        volume_ml_reference: Of the annotation; 0 where the organ is absent, NaN where it is unknown.
    """

    case: str
    organ: str
    status: str
    dice_old: float
    dice_new: float
    nsd_old: float
    nsd_new: float
    agreement: float
    agreement_nsd: float
    volume_ml_old: float
    volume_ml_new: float
    volume_ml_reference: float


def score_case(
    case: str,
    old: LabelMap,
    new: LabelMap,
    reference: LabelMap,
    absent: frozenset[str],
    grid: Grid,
    organs: Sequence[str],
    catalogue: Catalogue,
) -> list[CaseScore]:
    """Compare the results of two networks with the annotations of a case.

    Args:
        case: Its name.
        old: Result of the base.
        new: Result of the new network.
        reference: Annotations; its table names the organs that are annotated.
        absent: Organ keys that the image does not hold.
        grid: Of all three.
        organs: Organ keys to score.
        catalogue: Says which organ lies within which: a tumour that is annotated apart still belongs to its
            organ, for a base that never told them apart.
    """
    scores = []
    nan = float("nan")
    millilitres = grid.voxel_volume / 1000.0
    for organ in organs:
        by_new = new.mask(organ, catalogue)
        by_old = old.mask(organ, catalogue) if organ in old.table.keys else None
        status = "annotated" if organ in reference.table.keys else "absent" if organ in absent else "unknown"
        truth = reference.mask(organ, catalogue) if status == "annotated" else None
        volume = nan if truth is None else np.count_nonzero(truth) * millilitres
        dice_new, nsd_new = _agreement(by_new, truth, grid)
        dice_old, nsd_old = _agreement(by_old, truth, grid)
        agreement = _agreement(by_new, by_old, grid) if status == "unknown" else (nan, nan)
        scores.append(
            CaseScore(
                case,
                organ,
                status,
                dice_old,
                dice_new,
                nsd_old,
                nsd_new,
                *agreement,
                nan if by_old is None else np.count_nonzero(by_old) * millilitres,
                np.count_nonzero(by_new) * millilitres,
                0.0 if status == "absent" else volume,
            )
        )
    return scores


def _agreement(
    first: NDArray[np.bool_] | None, second: NDArray[np.bool_] | None, grid: Grid
) -> tuple[float, float]:
    """Dice and normalised surface distance; NaN where a mask is missing or both are empty."""
    if first is None or second is None:
        return float("nan"), float("nan")
    boxes = ndimage.find_objects((first | second).view(np.uint8))
    if not boxes:
        return float("nan"), float("nan")
    first, second = first[boxes[0]], second[boxes[0]]
    return dice(first, second), normalized_surface_distance(first, second, grid.spacing, TOLERANCE_MM)
