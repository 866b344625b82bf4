"""Cases of a data folder: `images/` and `labels/` with equal file names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from multiorganseg.errors import TrainingError
from multiorganseg.volumes.names import case_name, is_image_name


@dataclass(frozen=True)
class Case:
    """One image with its labels.

    Attributes:
        name: File name without suffix.
        image: Path of the image.
        labels: Path of the label map on the image's grid.
    """

    name: str
    image: Path
    labels: Path


def find_cases(folder: Path) -> list[Case]:
    """List the cases of a folder in the order of their names.

    Raises:
        TrainingError: There is no case, or an image has no labels.
    """
    cases, unlabelled = [], []
    for image in sorted((folder / "images").glob("*")):
        if not is_image_name(image.name):
            continue
        name = case_name(image.name)
        labels = folder / "labels" / image.name
        if labels.is_file():
            cases.append(Case(name, image, labels))
        else:
            unlabelled.append(name)
    if unlabelled or not cases:
        msg = f"The data folder {folder} is not complete."
        raise TrainingError(
            msg,
            cause=f"No labels for {', '.join(unlabelled)}." if unlabelled else "It holds no image.",
            next_step="Put images into images/ and label maps of the same file name into labels/.",
        )
    return cases


def split_cases(cases: list[Case], validation: tuple[str, ...]) -> tuple[list[Case], list[Case]]:
    """Divide cases into those that train and those of the validation fold.

    Raises:
        TrainingError: A case of the fold does not exist, or none is left to train.
    """
    missing = sorted(set(validation) - {case.name for case in cases})
    train = [case for case in cases if case.name not in validation]
    if missing or not train:
        msg = "The validation fold does not fit the data."
        raise TrainingError(
            msg,
            cause=f"Missing: {', '.join(missing)}." if missing else "No case is left to train.",
            next_step="Correct data.validation in the recipe, or the data folder.",
        )
    return train, [case for case in cases if case.name in validation]
