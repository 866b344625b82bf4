"""Read the description of an nnU-Net v2 dataset folder.

Source: https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md and ignore_label.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from multiorganseg.errors import TrainingError
from multiorganseg_training.project.case_files import SUFFIXES
from multiorganseg_training.project.dataset import (
    Dataset,
    DatasetCase,
    about_dataset,
    damaged_dataset,
    modality_of,
    one_name_a_value,
    read_dataset_file,
)
from multiorganseg_training.project.matrix_json import matrix_from_json

IGNORE = "ignore"
STATUS_KEY = "multiorganseg_label_status"
"""Where an export keeps the label-status matrix; nnU-Net does not read it."""


def read_nnunet(
    folder: Path, *, channel: int | None = None, modality: str | None = None, unlabelled: bool = False
) -> Dataset:
    """Read an nnU-Net v2 dataset folder: `dataset.json`, `imagesTr`, `labelsTr`.

    A value that only regions name is given the value itself as its name, so that a rule can say "2=liver".

    Args:
        folder: Such as `nnUNet_raw/Dataset101_Liver`.
        channel: Which channel to take where the dataset has several.
        modality: "CT" or "MR"; None to take it from the channel's name.
        unlabelled: Whether images without labels are taken too, those in `imagesTs` included.

    Raises:
        TrainingError: The description is damaged or of a kind that is not supported, or labels are missing.
    """
    data = read_dataset_file(folder)
    try:
        names = one_name_a_value((int(number), str(name)) for number, name in data["channel_names"].items())
        labels, ignore = _labels(data["labels"])
        ending = str(data["file_ending"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged_dataset(folder, f"{type(error).__name__}: {error}") from error
    if ending.lower() not in SUFFIXES:
        msg = f"{folder} holds files that end in '{ending}'."
        raise TrainingError(msg, next_step=f"Convert them to one of {', '.join(SUFFIXES)}.")
    if "dataset" in data:
        raise damaged_dataset(folder, "It lists files elsewhere; put them into imagesTr and labelsTr.")
    if channel is None and len(names) > 1:
        msg = f"{folder} has {len(names)} channels."
        listed = ", ".join(f"{number} ({name})" for number, name in names.items())
        raise TrainingError(msg, next_step=f"Choose one with --channel: {listed}.")
    chosen = next(iter(names), 0) if channel is None else channel
    if chosen not in names:
        msg = f"{folder} has no channel {chosen}."
        raise TrainingError(msg, next_step=f"Choose among {', '.join(map(str, names))}.")
    status = data.get(STATUS_KEY)
    return Dataset(
        name=folder.resolve().name,
        modality=modality_of(names[chosen], modality),
        labels=labels,
        cases=_cases(folder, f"_{chosen:04d}{ending}", ending, unlabelled),
        ignore=ignore,
        status=None if status is None else matrix_from_json(status),
        about=about_dataset(data),
    )


def _labels(entries: Mapping[str, Any]) -> tuple[dict[int, str], int | None]:
    plain = one_name_a_value(
        (int(entry), str(name)) for name, entry in entries.items() if not isinstance(entry, list)
    )
    ignore = next((value for value, name in plain.items() if name == IGNORE), None)
    values = {int(value) for entry in entries.values() if isinstance(entry, list) for value in entry}
    single = {
        int(entry[0]): name for name, entry in entries.items() if isinstance(entry, list) and len(entry) == 1
    }
    named = {**{value: str(value) for value in values}, **single, **plain}
    return {value: named[value] for value in sorted(named) if value not in (0, ignore)}, ignore


def _cases(folder: Path, image_ending: str, ending: str, unlabelled: bool) -> tuple[DatasetCase, ...]:
    cases = []
    for subfolder in ("imagesTr", "imagesTs") if unlabelled else ("imagesTr",):
        for image in sorted((folder / subfolder).glob("*")):
            if not image.name.endswith(image_ending) or image.name.startswith("."):
                continue
            name = image.name.removesuffix(image_ending)
            labels = folder / "labelsTr" / f"{name}{ending}"
            found = subfolder == "imagesTr" and labels.is_file()
            cases.append(DatasetCase(name, image, labels if found else None))
    missing = [case.name for case in cases if case.labels is None]
    if not cases:
        raise damaged_dataset(folder, f"imagesTr holds no file that ends in {image_ending}.")
    if missing and not unlabelled:
        msg = f"{folder} is not complete."
        raise TrainingError(
            msg,
            cause=f"No labels for {', '.join(missing)}.",
            next_step="Add them, or pass --unlabelled to take these images without labels.",
        )
    return tuple(cases)


def dataset_folder_problem(name: str) -> str:
    """Say what is wrong with the name of an nnU-Net dataset folder; empty when it is right."""
    return "" if re.fullmatch(r"Dataset\d{3}_\w[\w-]*", name) else "It is not like Dataset101_Abdomen."
