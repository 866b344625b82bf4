"""Read a data folder: `images/` and `labels/` with equal file names and one label table."""

from __future__ import annotations

from pathlib import Path

from multiorganseg.errors import TrainingError
from multiorganseg.organs.labels import LabelTable
from multiorganseg.volumes.names import case_name, is_image_name
from multiorganseg_training.project.dataset import Dataset, DatasetCase
from multiorganseg_training.project.matrix import LabelStatusMatrix


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
