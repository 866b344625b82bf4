"""A dataset of another tool, as it describes itself, and what its labels mean in a project."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from multiorganseg.errors import TrainingError
from multiorganseg.organs.labels import LabelTable
from multiorganseg.projects.file import read_json
from multiorganseg.projects.matrix import LABELLED, LabelStatus, LabelStatusMatrix, united
from multiorganseg.projects.project import MODALITIES
from multiorganseg.volumes.read import read_labels
from multiorganseg_training.project.labels import count_values

DATASET_FILE = "dataset.json"


@dataclass(frozen=True)
class DatasetCase:
    """One case of a dataset.

    Attributes:
        name: Of the case.
        image: Its image file.
        labels: Its label file; None when it has none.
        patient: Whom its DICOM names, as `patient_of` gives it; never kept as it is.
    """

    name: str
    image: Path
    labels: Path | None
    patient: str = ""


@dataclass(frozen=True)
class Dataset:
    """What a dataset says of itself.

    Attributes:
        name: Of the dataset.
        modality: "CT" or "MR".
        labels: Name by label value, without background and the ignore label.
        cases: In the order of their names.
        ignore: Value of voxels that nobody annotated; None when there is none.
        status: Status of each label name in each labelled case; None when all are annotated everywhere.
        about: What it tells of its origin, such as "licence" and "reference".
    """

    name: str
    modality: str
    labels: Mapping[int, str]
    cases: tuple[DatasetCase, ...]
    ignore: int | None = None
    status: LabelStatusMatrix | None = None
    about: Mapping[str, str] = field(default_factory=dict)


def read_dataset_file(folder: Path) -> dict[str, Any]:
    """Read the `dataset.json` of a folder.

    Raises:
        TrainingError: There is none, or it is no JSON object.
    """
    if not (folder / DATASET_FILE).is_file():
        msg = f"{folder} is no dataset."
        raise TrainingError(
            msg, cause=f"It holds no {DATASET_FILE}.", next_step=f"Name the folder that holds {DATASET_FILE}."
        )
    return read_json(folder / DATASET_FILE)


def one_name_a_value(pairs: Iterable[tuple[int, str]]) -> dict[int, str]:
    """Return name by label value.

    Raises:
        ValueError: A value has two names.
    """
    names: dict[int, str] = {}
    for value, name in pairs:
        if names.setdefault(value, name) != name:
            message = f"the value {value} is called '{names[value]}' and '{name}'"
            raise ValueError(message)
    return names


def about_dataset(data: Mapping[str, Any]) -> dict[str, str]:
    """Take the texts on a dataset's origin from its `dataset.json`."""
    wanted = ("reference", "licence", "license", "release", "description")
    return {key: data[key].strip() for key in wanted if isinstance(data.get(key), str) and data[key].strip()}


def modality_of(channel: str, stated: str | None) -> str:
    """Return "CT" or "MR" for a channel's name.

    Args:
        channel: As the dataset names it, such as "CT", "MRI" or "T2".
        stated: What the user says, which wins; None when nothing is said.

    Raises:
        TrainingError: The name tells neither, and nothing is stated.
    """
    if stated is not None:
        if stated not in MODALITIES:
            msg = f"No modality '{stated}'."
            raise TrainingError(msg, next_step=f"Choose {' or '.join(MODALITIES)}.")
        return stated
    if channel.casefold() in ("ct", "cbct"):
        return "CT"
    if channel.casefold().startswith("mr"):
        return "MR"
    msg = f"The channel name '{channel}' does not tell the modality."
    raise TrainingError(msg, next_step="State it: --modality CT or --modality MR.")


def damaged_dataset(folder: Path, cause: str) -> TrainingError:
    """Make the error for a `dataset.json` that cannot be used."""
    return TrainingError(
        f"{folder / DATASET_FILE} cannot be used.",
        cause=cause,
        next_step="Correct the file, or get it again.",
    )


def case_statuses(
    dataset: Dataset, case: DatasetCase, organs: Mapping[int, str | None]
) -> dict[str, LabelStatus]:
    """Return what a dataset knows of each organ in a case.

    Every mapped organ is annotated in every labelled case, as the dataset says by its label list, unless
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
    """Return the project's label value for each of a dataset; 0 where the organ is unknown or absent.

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
