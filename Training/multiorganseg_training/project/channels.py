"""From the label values of a project's files to channels, by what the matrix says."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multiorganseg_training.project.project import Project
from multiorganseg_training.project.status import LabelStatus


def channel_lookup(
    project: Project,
    case: str,
    organs: tuple[str, ...],
    statuses: frozenset[LabelStatus] = frozenset({LabelStatus.ANNOTATED}),
) -> NDArray[np.uint8]:
    """Give the channel of each label value that may occur in a case's file.

    Labels of organs whose status is not among `statuses` become 0, so that a label that is said to be unknown
    never reaches a loss.

    Args:
        project: That the case belongs to.
        case: Its name.
        organs: Organ keys of the channels 1…C in their order; at most 255.
        statuses: Under which a label is used.

    Returns:
        Array (65536,) of channels in 0…C; index it with label values.

    Raises:
        TrainingError: There is no such case.
    """
    channels = {key: channel for channel, key in enumerate(organs, start=1)}
    project.case(case)
    row = project.matrix.rows[case]
    lookup = np.zeros(65536, np.uint8)
    for value, key in project.table.organs.items():
        if row[key] in statuses:
            lookup[value] = channels.get(key, 0)
    return lookup


def known_channels(project: Project, case: str, organs: tuple[str, ...]) -> NDArray[np.bool_]:
    """Give the known set of a case, which comes from the label-status matrix alone.

    Args:
        project: That the case belongs to.
        case: Its name.
        organs: Organ keys of the channels 1…C in their order.

    Returns:
        Array (C,): whether the organ is annotated or absent; False for an organ that the project lacks.

    Raises:
        TrainingError: There is no such case.
    """
    known = project.matrix.known(case)
    return np.array([organ in known for organ in organs], dtype=np.bool_)
