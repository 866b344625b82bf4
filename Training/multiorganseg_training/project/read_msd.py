"""Read the description of a dataset folder of the Medical Segmentation Decathlon, or of nnU-Net 1.

Sources: http://medicaldecathlon.com, the `dataset.json` of its tasks, and
https://github.com/MIC-DKFZ/nnUNet/blob/nnunetv1/documentation/dataset_conversion.md: its tasks have the same
description, but images named `case_0000.nii.gz` where it says `case.nii.gz`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from multiorganseg.errors import TrainingError
from multiorganseg.volumes.names import case_name, volume_suffix
from multiorganseg_training.project.dataset import (
    Dataset,
    DatasetCase,
    about_dataset,
    damaged_dataset,
    modality_of,
    one_name_a_value,
    read_dataset_file,
)

FIRST_CHANNEL = "_0000"


def read_msd(folder: Path, *, modality: str | None = None, unlabelled: bool = False) -> Dataset:
    """Read a Decathlon folder, such as `Task03_Liver`: `dataset.json`, `imagesTr`, `labelsTr`.

    The list in `dataset.json` says which files belong together; other files are left alone.

    Args:
        folder: Of one task.
        modality: "CT" or "MR"; None to take it from the description.
        unlabelled: Whether the test images, which have no labels, are taken too.

    Raises:
        TrainingError: The description is damaged, or the task has several channels.
    """
    data = read_dataset_file(folder)
    try:
        channels = [str(name) for name in data["modality"].values()]
        labels = one_name_a_value((int(value), str(name)) for value, name in data["labels"].items())
        labels.pop(0, None)
        cases = [_case(folder, entry["image"], entry["label"]) for entry in data["training"]]
        if unlabelled:
            cases += [_case(folder, image, None) for image in data.get("test", [])]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged_dataset(folder, f"{type(error).__name__}: {error}") from error
    if len(channels) != 1:
        msg = f"{folder} has {len(channels)} channels in one file."
        raise TrainingError(msg, next_step="Split its images and keep one channel.")
    if not cases:
        raise damaged_dataset(folder, "It lists no training case.")
    return Dataset(
        name=_name(data, folder),
        modality=modality_of(channels[0], modality),
        labels=dict(sorted(labels.items())),
        cases=tuple(sorted(cases, key=lambda case: case.name)),
        about=about_dataset(data),
    )


def _case(folder: Path, image: str, labels: str | None) -> DatasetCase:
    path = _inside(folder, image)
    name, suffix = case_name(path.name), volume_suffix(path.name)
    first = path.with_name(f"{name}{FIRST_CHANNEL}{suffix}")
    if not path.exists() and first.is_file():
        path = first
    return DatasetCase(name, path, None if labels is None else _inside(folder, labels))


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise damaged_dataset(folder, f"'{name}' lies outside of the folder.")
    return path


def _name(data: Mapping[str, Any], folder: Path) -> str:
    name = data.get("name")
    return name.strip() if isinstance(name, str) and name.strip() else folder.resolve().name
