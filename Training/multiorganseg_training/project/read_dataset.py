"""Read a dataset of any supported kind: nnU-Net, Medical Segmentation Decathlon, folders, DICOM."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

from multiorganseg.errors import TrainingError
from multiorganseg.organs.labels import LabelTable
from multiorganseg.progress import Progress
from multiorganseg.projects.file import matrix_from_json
from multiorganseg.projects.matrix import LabelStatusMatrix
from multiorganseg.scratch import work_folder
from multiorganseg.volumes.names import case_name, is_image_name, volume_suffix
from multiorganseg_training.project.case_files import SUFFIXES
from multiorganseg_training.project.dataset import (
    DATASET_FILE,
    Dataset,
    DatasetCase,
    about_dataset,
    damaged_dataset,
    modality_of,
    one_name_a_value,
    read_dataset_file,
)
from multiorganseg_training.project.read_dicom_seg import has_dicom_seg, read_dicom_seg

FIRST_CHANNEL = "_0000"
NNUNET_1_ENDING = ".nii.gz"
"""The only file format of nnU-Net 1."""

IGNORE = "ignore"
STATUS_KEY = "multiorganseg_label_status"
"""Where an export keeps the label-status matrix; nnU-Net does not read it."""


def read_nnunet(
    folder: Path, *, channel: int | None = None, modality: str | None = None, unlabelled: bool = False
) -> Dataset:
    """Read an nnU-Net dataset folder of version 2 or 1: `dataset.json`, `imagesTr`, `labelsTr`.

    Version 1 (`Task101_Liver`) is described as the Decathlon is, with a file for each channel.

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
    if is_nnunet_1(folder, data):
        data = _as_version_2(folder, data)
    elif "channel_names" not in data and "modality" in data:
        msg = f"{folder} is no nnU-Net folder."
        raise TrainingError(
            msg,
            cause="Its dataset.json is that of the Medical Segmentation Decathlon.",
            next_step="Import it with `multiorganseg-train project import-msd`.",
        )
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


def is_nnunet_1(folder: Path, data: Mapping[str, Any]) -> bool:
    """Whether a folder is described as the Decathlon and its images are named with their channels."""
    images = folder / "imagesTr"
    return (
        "channel_names" not in data
        and "modality" in data
        and any(images.glob(f"*{FIRST_CHANNEL}{NNUNET_1_ENDING}"))
    )


def _as_version_2(folder: Path, data: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a dataset of version 1 in the words of version 2."""
    try:
        labels = one_name_a_value((int(value), str(name)) for value, name in data["labels"].items())
        channels = dict(data["modality"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged_dataset(folder, f"{type(error).__name__}: {error}") from error
    doubled = sorted(name for name, count in Counter(labels.values()).items() if count > 1)
    if doubled:
        raise damaged_dataset(folder, f"Two values are called {', '.join(doubled)}.")
    return {
        **{key: value for key, value in data.items() if key not in ("labels", "modality")},
        "channel_names": channels,
        "labels": {name: value for value, name in labels.items()},
        "file_ending": NNUNET_1_ENDING,
    }


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
    """Return what is wrong with the name of an nnU-Net dataset folder; empty when it is right."""
    return "" if re.fullmatch(r"Dataset\d{3}_\w[\w-]*", name) else "It is not like Dataset101_Abdomen."


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


def read_folder(
    folder: Path, table: LabelTable, *, modality: str = "CT", status: LabelStatusMatrix | None = None
) -> Dataset:
    """Describe a data folder; an image without a file of its name in `labels/` has no labels.

    Args:
        folder: Holds `images/` and `labels/`.
        table: Meaning of the label values.
        modality: "CT" or "MR".
        status: What is known of each organ in each case; None takes each organ as annotated wherever there
            are labels.

    Raises:
        TrainingError: There is no image, or `status` has not the organs of the table or lacks a case.
    """
    cases = []
    for image in sorted((folder / "images").glob("*")):
        if is_image_name(image.name) and not image.name.startswith("."):
            labels = folder / "labels" / image.name
            cases.append(DatasetCase(case_name(image.name), image, labels if labels.is_file() else None))
    if not cases:
        msg = f"The data folder {folder} holds no image."
        raise TrainingError(
            msg, next_step="Put images into images/ and label maps of their names into labels/."
        )
    if status is not None:
        _require_whole(status, table, cases)
    return Dataset(folder.resolve().name, modality, dict(table.organs), tuple(cases), status=status)


def _require_whole(status: LabelStatusMatrix, table: LabelTable, cases: list[DatasetCase]) -> None:
    lacking = [case.name for case in cases if case.name not in status.rows]
    strange = sorted(set(status.rows) - {case.name for case in cases})
    other = sorted(set(table.keys) ^ set(status.organs))
    problems = {"It has no row for": lacking, "No image is called": strange, "Organs differ:": other}
    if any(problems.values()):
        msg = "The label-status matrix does not fit the data folder."
        raise TrainingError(
            msg,
            cause=" ".join(f"{text} {', '.join(names)}." for text, names in problems.items() if names),
            next_step="Name the organs of the label table, and every case, if only as unknown.",
        )


class DatasetFormat(str, Enum):
    """Kinds of datasets.

    Attributes:
        NNUNET: An nnU-Net dataset folder of version 2 or 1.
        MSD: A folder of the Medical Segmentation Decathlon.
        DICOM_SEG: DICOM SEG or RTSTRUCT objects and their series.
    """

    NNUNET = "nnunet"
    MSD = "msd"
    DICOM_SEG = "dicom-seg"


def format_of(folder: Path) -> DatasetFormat:
    """Find what kind of dataset a folder holds.

    Raises:
        TrainingError: It holds none.
    """
    if (folder / DATASET_FILE).is_file():
        data = read_dataset_file(folder)
        is_nnunet = "channel_names" in data or is_nnunet_1(folder, data)
        return DatasetFormat.NNUNET if is_nnunet else DatasetFormat.MSD
    if folder.is_dir() and has_dicom_seg(folder):
        return DatasetFormat.DICOM_SEG
    msg = f"{folder} is no dataset."
    raise TrainingError(
        msg,
        cause=f"It holds neither a {DATASET_FILE} nor a DICOM SEG or RTSTRUCT.",
        next_step="Name an nnU-Net or Decathlon folder, or one with DICOM SEG or RTSTRUCT and their images.",
    )


@contextmanager
def open_dataset(
    folder: Path,
    kind: DatasetFormat | None = None,
    *,
    described: bool = False,
    unlabelled: bool = False,
    channel: int | None = None,
    modality: str | None = None,
    rules: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Iterator[Dataset]:
    """Return a dataset; files that had to be converted are there for the length of the block.

    Args:
        folder: Of the dataset.
        kind: What it is; None to find out.
        described: Whether labels and names of cases are enough, so that nothing is converted.
        unlabelled: Whether images without labels are taken too.
        channel: Which channel of an nnU-Net folder to take where it has several.
        modality: "CT" or "MR"; None to let the dataset tell.
        rules: See `read_dicom_seg`.
        progress: Reports while DICOM is read.

    Raises:
        TrainingError: It is no dataset, or one that is not supported.
        VolumeError: See `read_dicom_seg`.
    """
    kind = kind or format_of(folder)
    if kind is DatasetFormat.NNUNET:
        yield read_nnunet(folder, channel=channel, modality=modality, unlabelled=unlabelled)
    elif kind is DatasetFormat.MSD:
        yield read_msd(folder, modality=modality, unlabelled=unlabelled)
    else:
        with work_folder() as work:
            place = None if described else work
            yield read_dicom_seg(folder, place, modality=modality, rules=rules, progress=progress)
