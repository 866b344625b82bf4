"""Export a project as an nnU-Net v2 dataset folder.

Source: https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md and ignore_label.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np

from multiorganseg.atomic import write_text_atomically
from multiorganseg.bundles.json_text import format_json
from multiorganseg.errors import TrainingError
from multiorganseg.organs.catalogue import Catalogue
from multiorganseg.progress import Progress
from multiorganseg.projects.file import matrix_to_json
from multiorganseg.projects.matrix import LabelStatus, LabelStatusMatrix
from multiorganseg.projects.project import Project
from multiorganseg.volumes.names import volume_suffix
from multiorganseg.volumes.read import read_labels, read_volume
from multiorganseg.volumes.volume import Volume
from multiorganseg.volumes.write import write_volume
from multiorganseg_training.project.case_files import file_grid, kept_private, place_image
from multiorganseg_training.project.create import new_folder
from multiorganseg_training.project.dataset import DATASET_FILE
from multiorganseg_training.project.labels import relabel
from multiorganseg_training.project.organs import project_catalogue
from multiorganseg_training.project.read_dataset import IGNORE, STATUS_KEY, dataset_folder_problem


class PartialCases(str, Enum):
    """What becomes of a case in which not every organ is known.

    Attributes:
        REFUSE: The export fails.
        SKIP: The case is left out.
        IGNORE: Its voxels that belong to no known organ get nnU-Net's ignore label.
    """

    REFUSE = "refuse"
    SKIP = "skip"
    IGNORE = "ignore"


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote and what nnU-Net cannot hold.

    Attributes:
        cases: Names of the cases written.
        partial: Those among them with ignored voxels.
        skipped: Names of the cases left out.
        lost: One sentence for each kind of loss.
    """

    cases: tuple[str, ...]
    partial: tuple[str, ...]
    skipped: tuple[str, ...]
    lost: tuple[str, ...]


def export_nnunet(
    project: Project,
    target: Path,
    partial: PartialCases = PartialCases.REFUSE,
    *,
    hardlink: bool = False,
    catalogue: Catalogue | None = None,
    progress: Progress | None = None,
) -> ExportReport:
    """Write an nnU-Net v2 folder; it appears complete or not at all.

    Organs are numbered from 1 in the order of the project's label values. With the ignore label, a partly
    known case keeps the voxels of its annotated organs; where an organ that lies within them is not known,
    these are ignored too. The label-status matrix goes into `dataset.json`, where nnU-Net leaves it alone and
    `import_nnunet` finds it again.

    Args:
        project: What to export.
        target: Named as nnU-Net wants it, such as `nnUNet_raw/Dataset101_Abdomen`.
        partial: What becomes of cases in which not every organ is known.
        hardlink: Link images instead of copying them, where the disk allows it.
        catalogue: Says which organs lie within others; by default MultiOrganSeg's own.
        progress: Reports once a case.

    Raises:
        TrainingError: The name is not right, the target exists, a case is partly known and that is refused,
            or no case is left.
        VolumeError: A file cannot be read.
        ResourceError: The folder cannot be written.
    """
    problem = dataset_folder_problem(target.name)
    if problem:
        msg = f"'{target.name}' cannot be the name of an nnU-Net dataset."
        raise TrainingError(msg, cause=problem, next_step="Choose a number that is free in nnUNet_raw.")
    progress, catalogue = progress or Progress(), project_catalogue(project, catalogue)
    rows = {case: _exported_row(project, case, catalogue) for case in project.cases}
    report = _plan(project, rows, partial)
    images = [project.image_path(case) for case in report.cases]
    endings = {volume_suffix(image.name).lower() for image in images}
    ending = endings.pop() if len(endings) == 1 else ".nii.gz"
    ignore = len(project.table.organs) + 1 if report.partial else None
    with new_folder(target) as folder:
        for number, (case, image) in enumerate(zip(report.cases, images, strict=True)):
            progress("exporting", number / len(images))
            placed = folder / "imagesTr" / f"{case}_0000{ending}"
            if volume_suffix(image.name).lower() == ending:
                place_image(image, placed, hardlink=hardlink)
            else:
                with kept_private(placed, image):
                    write_volume(read_volume(image), placed)
            labels = _labels(project, case, rows[case], ignore if case in report.partial else None)
            label_file = folder / "labelsTr" / f"{case}{ending}"
            with kept_private(label_file, image):
                write_volume(labels, label_file)
        write_text_atomically(
            folder / DATASET_FILE, format_json(_description(project, report, rows, ending, ignore))
        )
    progress("exporting", 1.0)
    return report


def _exported_row(project: Project, case: str, catalogue: Catalogue) -> dict[str, LabelStatus]:
    known = project.matrix.known(case)
    uncertain = {
        key
        for organ in project.table.keys
        if organ not in known
        for key in (organ, *_around(organ, catalogue))
    }
    row = project.matrix.rows[case]
    return {
        organ: LabelStatus.UNKNOWN if organ in uncertain and status is not LabelStatus.ABSENT else status
        for organ, status in row.items()
    }


def _plan(
    project: Project, rows: Mapping[str, Mapping[str, LabelStatus]], partial: PartialCases
) -> ExportReport:
    partly = [case for case in project.cases if LabelStatus.UNKNOWN in rows[case].values()]
    if partly and partial is PartialCases.REFUSE:
        msg = f"{len(partly)} of {len(rows)} cases do not know every organ."
        raise TrainingError(
            msg,
            cause=f"Not fully known: {', '.join(partly[:10])}{' …' if len(partly) > 10 else ''}.",
            next_step="Pass --partial skip to leave them out, or --partial ignore to use the ignore label.",
        )
    kept = {
        case
        for case in partly
        if partial is PartialCases.IGNORE and LabelStatus.ANNOTATED in rows[case].values()
    }
    cases = tuple(case for case in project.cases if case not in partly or case in kept)
    if not cases:
        msg = "No case is left to export."
        raise TrainingError(msg, next_step="Set what is known: multiorganseg-train project set --help")
    skipped = tuple(case for case in project.cases if case not in cases)
    return ExportReport(cases, tuple(sorted(kept)), skipped, _lost(project, rows, cases, kept))


def _lost(
    project: Project,
    rows: Mapping[str, Mapping[str, LabelStatus]],
    cases: tuple[str, ...],
    kept: set[str],
) -> tuple[str, ...]:
    lost = []
    if kept:
        lost.append(
            f"In {len(kept)} partly known cases the ignore label hides that the voxels around the annotated "
            "organs belong to none of them."
        )
    if any(project.matrix.organs_with(case, LabelStatus.PSEUDO) for case in cases):
        lost.append("Pseudo-labels are not exported; their voxels are ignored.")
    given_up = {
        organ
        for case in cases
        for organ in project.matrix.organs_with(case, LabelStatus.ANNOTATED)
        if rows[case][organ] is LabelStatus.UNKNOWN
    }
    if given_up:
        lost.append(
            f"Ignored where an organ within them is not known: {', '.join(sorted(given_up))}. A label map of "
            "nnU-Net has one organ a voxel."
        )
    if any(LabelStatus.ABSENT in rows[case].values() for case in cases):
        lost.append("nnU-Net does not tell an absent organ from one without a voxel.")
    if len(cases) < len(rows):
        lost.append(f"Left out: {', '.join(case for case in rows if case not in cases)}.")
    return tuple(lost)


def _labels(project: Project, case: str, row: Mapping[str, LabelStatus], ignore: int | None) -> Volume:
    path = project.labels_path(case)
    if path is None:
        grid = file_grid(project.image_path(case))
        return Volume(np.zeros(grid.shape, np.uint8), grid.affine)
    numbers = {key: number for number, key in enumerate(project.table.keys, start=1)}
    values = {
        value: numbers[key] if row[key] is LabelStatus.ANNOTATED else 0
        for value, key in project.table.organs.items()
    }
    volume = read_labels(path)
    labels = relabel(volume.voxels, values, path)
    if ignore is not None:
        labels = np.where(labels == 0, np.min_scalar_type(ignore).type(ignore), labels)
    return Volume(labels, volume.affine, volume.source)


def _around(organ: str, catalogue: Catalogue) -> list[str]:
    containers = []
    container = catalogue.get(organ).within
    while container is not None:
        containers.append(container)
        container = catalogue.get(container).within
    return containers


def _description(
    project: Project,
    report: ExportReport,
    rows: Mapping[str, Mapping[str, LabelStatus]],
    ending: str,
    ignore: int | None,
) -> dict[str, object]:
    labels = {"background": 0} | {key: number for number, key in enumerate(project.table.keys, start=1)}
    status = LabelStatusMatrix(project.matrix.organs, {case: rows[case] for case in report.cases})
    return {
        "channel_names": {"0": project.modality},
        "labels": labels if ignore is None else {**labels, IGNORE: ignore},
        "numTraining": len(report.cases),
        "file_ending": ending,
        "name": project.name,
        "description": "Exported from MultiOrganSeg.",
        "reference": _join(project.sources, "reference"),
        "licence": _join(project.sources, "licence", "license"),
        STATUS_KEY: matrix_to_json(status),
    }


def _join(sources: Mapping[str, Mapping[str, str]], *keys: str) -> str:
    return "; ".join(
        f"{name}: {about[key]}" for name, about in sources.items() for key in keys if key in about
    )
