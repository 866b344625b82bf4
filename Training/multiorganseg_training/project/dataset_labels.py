"""What the labels of a dataset's case mean in a project."""

from __future__ import annotations

from collections.abc import Mapping

from multiorganseg.errors import TrainingError
from multiorganseg.organs.labels import LabelTable
from multiorganseg.volumes.read import read_labels
from multiorganseg_training.project.dataset import Dataset, DatasetCase
from multiorganseg_training.project.relabel import count_values
from multiorganseg_training.project.status import LABELLED, LabelStatus, united


def case_statuses(
    dataset: Dataset, case: DatasetCase, organs: Mapping[int, str | None]
) -> dict[str, LabelStatus]:
    """Say what a dataset knows of each organ in a case.

    Every mapped organ is annotated in every labelled case, as the dataset claims by its label list, unless
    the dataset carries a label-status matrix.

    Args:
        dataset: It.
        case: One of its cases.
        organs: Organ key by label value; None for labels that count as background.
    """
    parts: dict[str, list[LabelStatus]] = {}
    for value, key in organs.items():
        if key is None:
            continue
        if dataset.status is not None and case.name in dataset.status.rows:
            status = dataset.status.status(case.name, dataset.labels[value])
        else:
            status = LabelStatus.UNKNOWN if case.labels is None else LabelStatus.ANNOTATED
        parts.setdefault(key, []).append(status)
    return {key: united(statuses) for key, statuses in parts.items()}


def case_values(
    dataset: Dataset,
    case: DatasetCase,
    organs: Mapping[int, str | None],
    statuses: Mapping[str, LabelStatus],
    table: LabelTable,
) -> dict[int, int]:
    """Give the project's label value for each of a dataset; 0 where the organ is unknown or absent.

    Args:
        dataset: It.
        case: One of its labelled cases.
        organs: As for `case_statuses`.
        statuses: Of the organs in the case.
        table: Of the project.

    Raises:
        TrainingError: The case has voxels of an ignore label that nothing explains.
        VolumeError: Its label file is missing or damaged.
    """
    values = {
        value: table.value(key) if key is not None and statuses[key] in LABELLED else 0
        for value, key in organs.items()
    }
    if dataset.ignore is not None:
        _refuse_ignored(dataset, case)
        values[dataset.ignore] = 0
    return values


def _refuse_ignored(dataset: Dataset, case: DatasetCase) -> None:
    explained = dataset.status is not None and case.name in dataset.status.rows
    if explained or case.labels is None or dataset.ignore is None:
        return
    ignored = count_values(read_labels(case.labels).voxels).get(dataset.ignore, 0)
    if ignored:
        msg = f"The case '{case.name}' has {ignored} voxels of the ignore label."
        raise TrainingError(
            msg,
            cause="The label-status matrix speaks of whole images, not of parts of them.",
            next_step="Complete the case, or take it out of the dataset.",
        )
