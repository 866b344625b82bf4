"""Add the cases of a dataset of another tool to a project."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from multiorganseg.bundles.safe_names import clashes
from multiorganseg.errors import TrainingError
from multiorganseg.guarded import check_inside
from multiorganseg.progress import Progress
from multiorganseg_training.project.case_files import check_grids, project_case
from multiorganseg_training.project.dataset import Dataset
from multiorganseg_training.project.import_case import import_case
from multiorganseg_training.project.label_mapping import map_labels
from multiorganseg_training.project.lock import project_lock
from multiorganseg_training.project.organs import project_catalogue
from multiorganseg_training.project.project import Project
from multiorganseg_training.project.project_json import load_project, save_project


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
        progress: Told once a case.

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
    taken = [name for name in names if any(clashes([name, former]) for former in project.cases)]
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
