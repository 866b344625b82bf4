"""What is known about one organ in one case."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum


class LabelStatus(str, Enum):
    """What people say about an organ in a case; it is never inferred from voxels.

    Attributes:
        ANNOTATED: Every voxel of the organ in the image carries its label.
        ABSENT: The image holds no voxel of the organ, and no label does.
        UNKNOWN: Nobody labelled the organ; it may be anywhere outside the labels.
        PSEUDO: The label comes from a network and was not corrected.
    """

    ANNOTATED = "annotated"
    ABSENT = "absent"
    UNKNOWN = "unknown"
    PSEUDO = "pseudo"


KNOWN = frozenset({LabelStatus.ANNOTATED, LabelStatus.ABSENT})
"""Statuses under which every voxel of an image is known to belong to the organ or not."""

LABELLED = frozenset({LabelStatus.ANNOTATED, LabelStatus.PSEUDO})
"""Statuses under which a label file may hold voxels of the organ."""


def united(parts: Iterable[LabelStatus]) -> LabelStatus:
    """Give the status of the union of several organs, such as of both kidneys.

    The union is known only when every part is, and of no better origin than its worst part.

    Args:
        parts: Status of each part; at least one.
    """
    statuses = set(parts)
    if LabelStatus.UNKNOWN in statuses:
        return LabelStatus.UNKNOWN
    if LabelStatus.PSEUDO in statuses:
        return LabelStatus.PSEUDO
    return LabelStatus.ANNOTATED if LabelStatus.ANNOTATED in statuses else LabelStatus.ABSENT
