"""Who drew a segment: the one place that knows how DICOM and 3D Slicer write it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

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
