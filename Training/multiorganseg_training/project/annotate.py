"""Save an annotation of a case of a project."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multiorganseg.errors import TrainingError
from multiorganseg.organs.labels import LabelTable
from multiorganseg.projects.file import load_project, project_lock, save_project
from multiorganseg.projects.matrix import LABELLED, LabelStatus
from multiorganseg.projects.project import Project, ProjectCase
from multiorganseg.volumes.read import read_labels
from multiorganseg.volumes.volume import Affine, Grid, Volume
from multiorganseg.volumes.write import write_volume
from multiorganseg_training.project.case_files import file_grid, kept_private, on_image_grid, other_grid
from multiorganseg_training.project.labels import LabelArray, count_values, label_array


@dataclass(frozen=True)
class SavedAnnotation:
    """What was saved.

    Attributes:
        project: As it is now.
        voxels: Number of voxels by organ key, of the organs that were spoken of.
        taken: By organ key, how many voxels of other organs went to these.
    """

    project: Project
    voxels: Mapping[str, int]
    taken: Mapping[str, int]


def save_annotation(
    folder: Path,
    case: str,
    labels: NDArray[np.integer] | None,
    statuses: Mapping[str, LabelStatus],
    *,
    table: LabelTable | None = None,
    affine: Affine | None = None,
    corrected: Collection[str] = (),
) -> SavedAnnotation:
    """Put organs into a case's label map, replacing what it held of them, and set their statuses.

    Other organs keep their voxels where the new ones leave them. The label map is written first, at once or
    not at all, and `project.json` last.

    Args:
        folder: Of the project.
        case: Name of the case.
        labels: Label values (k, j, i), see `on_image_grid`; None where no organ has voxels.
        statuses: By organ key. An annotated or pseudo organ takes its voxels from `labels`, an absent or
            unknown one loses those that it had.
        table: Meaning of the values in `labels`; by default the project's label table. Values of organs that
            are not in `statuses` count as background.
        affine: Where `labels` lie, as in `Grid.affine`; None for the grid of the case's image.
        corrected: Which of these organs a network drew before people corrected them.

    Raises:
        TrainingError: There is no such case or organ, the grids differ, an annotated organ has no voxel, an
            absent one was annotated with voxels, another organ would lose its last voxel, or the project is
            in use.
        OrganError: `table` lacks an organ.
        VolumeError: A file is missing or damaged.
        ResourceError: The project cannot be written.
    """
    drawn = None if labels is None else label_array(labels)
    with project_lock(folder):
        project = load_project(folder)
        entry, matrix = project.case(case), project.matrix
        for organ, status in statuses.items():
            matrix = matrix.with_status(case, organ, status)
        grid = file_grid(folder / entry.image)
        if drawn is not None:
            if affine is None and drawn.shape != grid.shape:
                raise other_grid(case, grid.shape, drawn.shape)
            own = grid.affine if affine is None else affine
            drawn = label_array(on_image_grid(case, grid, Volume(drawn, own)).voxels)
        previous = _previous(folder, entry, grid)
        merged = _merge(previous, _masks(drawn, statuses, table or project.table), project.table)
        before, after = count_values(previous), count_values(merged)
        _require_sense(project, case, statuses, before, after)
        is_labelled = any(status in LABELLED for status in statuses.values())
        is_changed = not np.array_equal(previous, merged) or (entry.labels is None and is_labelled)
        file = entry.labels or (f"labels/{Path(entry.image).name}" if is_changed else None)
        by_network = ({*entry.corrected} - set(statuses)) | set(corrected)
        ordered = tuple(key for key in project.keys if key in by_network)
        cases = {**project.cases, case: replace(entry, labels=file, corrected=ordered)}
        project = replace(project, cases=cases, matrix=matrix)
        if is_changed and file is not None:
            with kept_private(folder / file, folder / entry.image):
                write_volume(Volume(merged, grid.affine), folder / file)
        save_project(project)
    lost = {key: before.get(value, 0) - after.get(value, 0) for value, key in project.table.organs.items()}
    return SavedAnnotation(
        project,
        {key: after.get(project.table.value(key), 0) for key in statuses},
        {key: voxels for key, voxels in lost.items() if voxels and key not in statuses},
    )


def _previous(folder: Path, entry: ProjectCase, grid: Grid) -> LabelArray:
    if entry.labels is None:
        return np.zeros(grid.shape, np.uint8)
    return label_array(on_image_grid(entry.name, grid, read_labels(folder / entry.labels)).voxels)


def _masks(
    drawn: LabelArray | None, statuses: Mapping[str, LabelStatus], table: LabelTable
) -> dict[str, NDArray[np.bool_] | None]:
    labelled = [organ for organ, status in statuses.items() if status in LABELLED]
    if drawn is None and labelled:
        msg = f"There are no labels of {', '.join(labelled)}."
        raise TrainingError(msg, next_step="Give a label map, or say that the organ is absent.")
    return {
        organ: drawn == table.value(organ) if drawn is not None and organ in labelled else None
        for organ in statuses
    }


def _merge(
    previous: LabelArray, masks: Mapping[str, NDArray[np.bool_] | None], table: LabelTable
) -> LabelArray:
    largest = np.uint16(max(table.organs))
    merged = previous.astype(np.result_type(previous.dtype, np.min_scalar_type(largest)))
    for organ in masks:
        merged[previous == table.value(organ)] = 0
    for organ, mask in masks.items():
        if mask is not None:
            merged[mask] = table.value(organ)
    return label_array(merged)


def _require_sense(
    project: Project,
    case: str,
    statuses: Mapping[str, LabelStatus],
    before: Mapping[int, int],
    after: Mapping[int, int],
) -> None:
    problem = ""
    for value, organ in project.table.organs.items():
        previous, wanted = project.matrix.status(case, organ), statuses.get(organ)
        if wanted is LabelStatus.ANNOTATED and not after.get(value):
            problem = f"The annotation of {organ} is empty."
            step = f"Draw it, or say that the image does not hold it: --absent {organ}"
        elif wanted is LabelStatus.ABSENT and previous is LabelStatus.ANNOTATED and before.get(value):
            problem = f"{organ} cannot be absent: {before[value]} voxels are annotated."
            step = "If they are wrong, say first that it is unknown: multiorganseg-train project set --help"
        elif wanted is None and previous in LABELLED and before.get(value) and not after.get(value):
            problem = f"All {before[value]} voxels of {organ} would go to {', '.join(statuses)}."
            step = "Check that the label map is that of the organ which you name."
        else:
            continue
        msg = f"The annotation of the case '{case}' cannot be saved."
        raise TrainingError(msg, cause=problem, next_step=step)
