"""The result of one segmentation, before it is written anywhere, and who drew each segment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multiorganseg.organs.labels import LabelTable
from multiorganseg.quality.statistics import OrganStatistics
from multiorganseg.volumes.volume import Affine, Grid

ALGORITHM_NAME = "MultiOrganSeg"
TYPE_TAG = "DICOM.SegmentAlgorithmType"
NAME_TAG = "DICOM.SegmentAlgorithmName"


class Author(Enum):
    """Who drew a segment. The values are those of DICOM's Segment Algorithm Type (0062,0008)."""

    NETWORK = "AUTOMATIC"
    CORRECTED = "SEMIAUTOMATIC"
    PEOPLE = "MANUAL"

    @property
    def tags(self) -> Mapping[str, str]:
        """Segment tags of 3D Slicer; what people drew names no algorithm (an empty text)."""
        name = "" if self is Author.PEOPLE else ALGORITHM_NAME
        return {TYPE_TAG: self.value, NAME_TAG: name}


def author_from_tag(text: str) -> Author:
    """The author that a segment's tag names; people where it names none."""
    return next((author for author in Author if author.value == text), Author.PEOPLE)


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Labels on the input's own grid, with their meaning and history.

    Attributes:
        labels: Array (k, j, i) of label values, uint8 or uint16.
        affine: See `Grid.affine`.
        table: What the label values mean.
        statistics: One entry for each organ of the table, in its order.
        provenance: JSON-serialisable facts: bundle name, version and hash, settings, software version, input.
        uncertainty: Array (k, j, i), uint8, 0…255 for 0…1: high where the network's decoders differ or are
            uncertain. None when it was not asked for.
        authors: Who drew each organ, by its key; the network, where nothing is said.
    """

    labels: NDArray[np.unsignedinteger]
    affine: Affine
    table: LabelTable
    statistics: tuple[OrganStatistics, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    uncertainty: NDArray[np.uint8] | None = None
    authors: Mapping[str, Author] = field(default_factory=dict)

    @property
    def grid(self) -> Grid:
        """The lattice without the labels."""
        k, j, i = self.labels.shape
        return Grid((k, j, i), self.affine)
