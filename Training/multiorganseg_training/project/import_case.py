"""Write one case of a dataset of another tool into a project's folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from multiorganseg.organs.labels import LabelTable
from multiorganseg_training.project.case_files import place_image, place_labels
from multiorganseg_training.project.dataset import Dataset, DatasetCase
from multiorganseg_training.project.dataset_labels import case_statuses, case_values
from multiorganseg_training.project.project import ProjectCase
from multiorganseg_training.project.relabel import count_values
from multiorganseg_training.project.status import LabelStatus


def import_case(
    dataset: Dataset,
    case: DatasetCase,
    entry: ProjectCase,
    organs: Mapping[int, str | None],
    table: LabelTable,
    folder: Path,
    hardlink: bool = False,
) -> tuple[dict[str, LabelStatus], tuple[str, ...]]:
    """Copy the image byte by byte and rewrite the labels with the project's values.

    Args:
        dataset: That the case belongs to.
        case: What to import.
        entry: Names the files to be written.
        organs: By label value of the dataset, the organ; None for background.
        table: Label values of the project.
        folder: Of the project.
        hardlink: Link the image instead of copying it, where the disk allows it.

    Returns:
        What is known of each organ, and the organs that the dataset calls annotated and of which the case has
        no voxel.

    Raises:
        TrainingError: A label value has no meaning, or the case has voxels of an ignore label that nothing
            explains.
        VolumeError: A file is missing or damaged.
        ResourceError: A file cannot be written.
    """
    statuses = case_statuses(dataset, case, organs)
    place_image(case.image, folder / entry.image, hardlink=hardlink)
    if case.labels is None or entry.labels is None:
        return statuses, ()
    values = case_values(dataset, case, organs, statuses, table)
    found = count_values(place_labels(case.labels, folder / entry.labels, values, case.image))
    annotated = (key for key, status in statuses.items() if status is LabelStatus.ANNOTATED)
    return statuses, tuple(key for key in annotated if not found.get(table.value(key)))
