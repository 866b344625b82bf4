"""Read a data folder: `images/` and `labels/` with equal file names and one label table."""

from __future__ import annotations

from pathlib import Path

from multiorganseg.errors import TrainingError
from multiorganseg.organs.labels import LabelTable
from multiorganseg.volumes.names import case_name, is_image_name
from multiorganseg_training.project.dataset import Dataset, DatasetCase


def read_folder(folder: Path, table: LabelTable, *, modality: str = "CT") -> Dataset:
    """Describe a data folder; an image without a file of its name in `labels/` has no labels.

    Args:
        folder: Holds `images/` and `labels/`.
        table: Meaning of the label values; each organ is taken as annotated wherever there are labels.
        modality: "CT" or "MR".

    Raises:
        TrainingError: There is no image.
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
    return Dataset(folder.resolve().name, modality, dict(table.organs), tuple(cases))
