"""A dataset of another tool, as it describes itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from multiorganseg.errors import TrainingError
from multiorganseg_training.project.matrix import LabelStatusMatrix
from multiorganseg_training.project.matrix_json import read_json
from multiorganseg_training.project.project import MODALITIES

DATASET_FILE = "dataset.json"


@dataclass(frozen=True)
class DatasetCase:
    """One case of a dataset.

    Attributes:
        name: Of the case.
        image: Its image file.
        labels: Its label file; None when it has none.
    """

    name: str
    image: Path
    labels: Path | None


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
    """Give name by label value.

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
    """Give "CT" or "MR" for a channel's name.

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
