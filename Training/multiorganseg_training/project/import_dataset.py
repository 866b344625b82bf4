"""Turn a dataset of another tool into a project, or add its cases to one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from multiorganseg.bundles.safe_names import clashes
from multiorganseg.errors import TrainingError
from multiorganseg.guarded import check_inside
from multiorganseg.organs.catalogue import Catalogue, load_catalogue
from multiorganseg.organs.labels import LabelTable
from multiorganseg.progress import Progress
from multiorganseg.projects.file import load_project, project_lock, save_project
from multiorganseg.projects.matrix import LabelStatus, LabelStatusMatrix
from multiorganseg.projects.project import Project, ProjectCase
from multiorganseg_training.project.case_files import check_grids, place_image, place_labels, project_case
from multiorganseg_training.project.create import new_folder
from multiorganseg_training.project.dataset import Dataset, DatasetCase, case_statuses, case_values
from multiorganseg_training.project.labels import count_values
from multiorganseg_training.project.organs import map_labels, project_catalogue
from multiorganseg_training.project.patients import patient_code, with_key
from multiorganseg_training.project.read_dataset import read_folder, read_msd, read_nnunet


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


def import_dataset(
    dataset: Dataset,
    target: Path,
    rules: Mapping[str, str],
    *,
    name: str = "",
    table: LabelTable | None = None,
    hardlink: bool = False,
    catalogue: Catalogue | None = None,
    progress: Progress | None = None,
) -> Project:
    """Write a dataset as a project; the folder appears complete or not at all.

    Images are copied byte by byte, label files rewritten with the project's values. Every mapped organ is
    annotated in every labelled case, as the dataset says by its label list, unless the dataset carries a
    label-status matrix. Of organs that are unknown or absent in a case no voxel is taken over.

    Args:
        dataset: What to import.
        target: Folder of the new project.
        rules: See `map_labels`.
        name: Of the project; that of the dataset when empty.
        table: Label values of the project; None to number its organs from 1.
        hardlink: Link images instead of copying them, where the disk allows it. A later change of one file
            then changes both.
        catalogue: Knows the organ keys; by default MultiOrganSeg's own.
        progress: Reports once a case.

    Raises:
        TrainingError: The rules do not fit, the target exists, a grid differs, a label value has no meaning,
            or a case has voxels of an ignore label that nothing explains.
        OrganError: A rule's organ is not in the catalogue.
        VolumeError: A file is missing or damaged.
        ResourceError: The project cannot be written.
    """
    progress = progress or Progress()
    organs = map_labels(dataset.labels, rules, catalogue or load_catalogue())
    keys = tuple(dict.fromkeys(key for key in organs.values() if key is not None))
    table = table or LabelTable.numbered(keys)
    progress("checking grids", 0.0)
    check_grids({case.name: (case.image, case.labels) for case in dataset.cases})
    cases, matrix = {}, LabelStatusMatrix(table.keys)
    with new_folder(target) as folder:
        for number, case in enumerate(dataset.cases):
            progress("importing", number / len(dataset.cases))
            entry = project_case(case.name, case.image, labelled=case.labels is not None, source=dataset.name)
            row, _ = import_case(dataset, case, entry, organs, table, folder, hardlink)
            cases[case.name], matrix = entry, matrix.with_case(case.name, row)
        project = Project(
            folder,
            name or dataset.name,
            table,
            cases,
            matrix,
            dataset.modality,
            {dataset.name: dict(dataset.about)},
        )
        save_project(project)
    progress("importing", 1.0)
    return replace(project, folder=target)


def import_folder(
    folder: Path,
    target: Path,
    table: LabelTable,
    *,
    modality: str = "CT",
    name: str = "",
    status: LabelStatusMatrix | None = None,
    hardlink: bool = False,
    progress: Progress | None = None,
) -> Project:
    """Import `images/` and `labels/` and keep the label values; see `read_folder` and `import_dataset`."""
    LabelStatusMatrix(table.keys).check_organs(load_catalogue())
    dataset = read_folder(folder, table, modality=modality, status=status)
    return import_dataset(dataset, target, {}, name=name, table=table, hardlink=hardlink, progress=progress)


def import_msd(
    folder: Path,
    target: Path,
    rules: Mapping[str, str],
    *,
    modality: str | None = None,
    unlabelled: bool = False,
    name: str = "",
    hardlink: bool = False,
    progress: Progress | None = None,
) -> Project:
    """Import a Decathlon folder; see `read_msd` and `import_dataset` for arguments and errors."""
    dataset = read_msd(folder, modality=modality, unlabelled=unlabelled)
    return import_dataset(dataset, target, rules, name=name, hardlink=hardlink, progress=progress)


def import_nnunet(
    folder: Path,
    target: Path,
    rules: Mapping[str, str],
    *,
    channel: int | None = None,
    modality: str | None = None,
    unlabelled: bool = False,
    name: str = "",
    hardlink: bool = False,
    progress: Progress | None = None,
) -> Project:
    """Import an nnU-Net v2 folder; see `read_nnunet` and `import_dataset` for arguments and errors."""
    dataset = read_nnunet(folder, channel=channel, modality=modality, unlabelled=unlabelled)
    return import_dataset(dataset, target, rules, name=name, hardlink=hardlink, progress=progress)


@dataclass(frozen=True)
class ImportReport:
    """What an import added.

    Attributes:
        project: As it is now.
        cases: Names of the new cases.
        empty: By case name, organs that the dataset calls annotated and of which it has no voxel.
    """

    project: Project
    cases: tuple[str, ...]
    empty: Mapping[str, tuple[str, ...]]


def import_into(
    dataset: Dataset, folder: Path, rules: Mapping[str, str], progress: Progress | None = None
) -> ImportReport:
    """Add all cases of a dataset to a project, or none.

    The files are written first and `project.json` last, so that a program that is killed in between leaves
    the project as it was; after an error or a cancel the files are taken away again. What the dataset knows
    of an organ is taken over as by `import_dataset`; the project's other organs are unknown in the new cases.

    Args:
        dataset: What to import.
        folder: Of the project.
        rules: See `map_labels`; the project's own organs may stand in them too.
        progress: Reports once a case.

    Raises:
        TrainingError: The rules do not fit, the project lacks an organ or has a case of the same name, the
            modalities differ, a grid differs, a label value has no meaning, a case has voxels of an ignore
            label that nothing explains, or the project is in use.
        OrganError: A rule's organ is not known.
        VolumeError: A file is missing or damaged.
        ResourceError: The project cannot be written.
        Cancelled: The user asked for it.
    """
    progress = progress or Progress()
    with project_lock(folder):
        project = load_project(folder)
        organs = map_labels(dataset.labels, rules, project_catalogue(project))
        _require_organs(project, organs)
        _require_fit(project, dataset)
        progress("checking grids", 0.0)
        check_grids({case.name: (case.image, case.labels) for case in dataset.cases})
        written: list[Path] = []
        try:
            report = _write(project, dataset, organs, written, progress)
            progress("importing", 1.0)
            save_project(report.project)
        except BaseException:
            for path in written:
                path.unlink(missing_ok=True)
            raise
    return report


def _write(
    project: Project,
    dataset: Dataset,
    organs: Mapping[int, str | None],
    written: list[Path],
    progress: Progress,
) -> ImportReport:
    cases, matrix, empty = dict(project.cases), project.matrix, {}
    for number, case in enumerate(dataset.cases):
        progress("importing", number / len(dataset.cases))
        entry = project_case(case.name, case.image, labelled=case.labels is not None, source=dataset.name)
        if case.patient:
            project = with_key(project)
            entry = replace(entry, patient=patient_code(case.patient, project.patient_key))
        files = [project.folder / name for name in (entry.image, entry.labels) if name]
        for path in files:
            check_inside(path)
        written += files
        statuses, missing = import_case(dataset, case, entry, organs, project.table, project.folder)
        if missing:
            empty[case.name] = missing
        cases[case.name], matrix = entry, matrix.with_case(case.name, statuses)
    grown = _with_source(replace(project, cases=cases, matrix=matrix), dataset)
    return ImportReport(grown, tuple(case.name for case in dataset.cases), empty)


def _with_source(project: Project, dataset: Dataset) -> Project:
    return replace(project, sources={**project.sources, dataset.name: dict(dataset.about)})


def _require_organs(project: Project, organs: Mapping[int, str | None]) -> None:
    lacking = sorted({key for key in organs.values() if key is not None} - set(project.table.keys))
    if lacking:
        msg = f"The project has no organ {', '.join(lacking)}."
        raise TrainingError(
            msg,
            cause=f"It has: {', '.join(project.table.keys)}.",
            next_step="Add it first, or leave it out: --label LABEL=background",
        )


def _require_fit(project: Project, dataset: Dataset) -> None:
    if dataset.modality != project.modality:
        msg = f"The dataset holds {dataset.modality}, the project {project.modality}."
        raise TrainingError(msg, next_step="Import it into another project.")
    names = [case.name for case in dataset.cases]
    doubled = clashes(names)
    taken = [name for name in names if any(clashes([name, previous]) for previous in project.cases)]
    if doubled or taken:
        msg = (
            "Two cases of the dataset have one name."
            if doubled
            else "The project has cases of these names already."
        )
        raise TrainingError(
            msg,
            cause=f"Names: {_few(doubled or taken)}.",
            next_step="Rename the files of the dataset, or take these cases out of it.",
        )


def _few(names: Sequence[str]) -> str:
    return f"{', '.join(names[:10])}{' …' if len(names) > 10 else ''}"
