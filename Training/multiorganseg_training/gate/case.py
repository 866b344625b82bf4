"""A case that a network is judged on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multiorganseg.errors import TrainingError
from multiorganseg.metrics.compare import SAME_GRID_MM
from multiorganseg.organs.labels import LabelTable
from multiorganseg.volumes.read import read_labels
from multiorganseg.volumes.volume import Grid
from multiorganseg_training.project.project import Project
from multiorganseg_training.project.status import LabelStatus


@dataclass(frozen=True)
class GateCase:
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

        Args:
            grid: Of the image.

        Raises:
            TrainingError: The labels lie on another grid.
            VolumeError: The file cannot be read.
        """
        if self.labels is None:
            return np.zeros(grid.shape, np.uint16)
        labels = read_labels(self.labels)
        if not grid.same_as(labels.grid, SAME_GRID_MM):
            msg = f"Image and labels of the case '{self.name}' lie on different grids."
            raise TrainingError(
                msg,
                cause=f"{grid.shape} and {labels.grid.shape} voxels, or another place or direction.",
                next_step="Draw the labels on this image, or resample them onto its grid.",
            )
        lookup = np.zeros(65536, np.uint16)
        for value, key in self.organs.items():
            if key in self.annotated:
                lookup[value] = self.table.value(key)
        return lookup[labels.voxels]


def gate_case(project: Project, name: str) -> GateCase:
    """Give a case of a project with what its label-status matrix says; pseudo-labels count as unknown.

    Raises:
        TrainingError: There is no such case.
    """
    project.case(name)
    return GateCase(
        name,
        project.image_path(name),
        project.labels_path(name),
        project.table.organs,
        project.matrix.organs_with(name, LabelStatus.ANNOTATED),
        project.matrix.organs_with(name, LabelStatus.ABSENT),
    )
