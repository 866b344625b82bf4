"""Create an empty project, and merge several into one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from multiorganseg.atomic import put_in_place
from multiorganseg.bundles.custom_organs import with_custom_organs
from multiorganseg.bundles.folders import scratch_folder
from multiorganseg.bundles.metadata import CustomOrgan
from multiorganseg.errors import TrainingError
from multiorganseg.organs.catalogue import Catalogue, load_catalogue
from multiorganseg.organs.labels import LabelTable
from multiorganseg.progress import Progress
from multiorganseg.projects.file import save_project
from multiorganseg.projects.matrix import LABELLED, LabelStatus, LabelStatusMatrix, united
from multiorganseg.projects.project import Project
from multiorganseg.scratch import clean_up
from multiorganseg_training.project.case_files import place_image, place_labels, project_case


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Return a hidden folder beside `target` and rename it when the block ends without an error.

    What killed programs left beside `target` is put right first, even if `target` is refused.

    Raises:
        TrainingError: `target` exists and is not an empty folder, at the start or at the end.
        ResourceError: It cannot be written or the disk is full.
    """
    target = target.absolute()
    clean_up(target.parent)
    _refuse_in_use(target)
    with scratch_folder(target) as scratch:
        folder = scratch / "new"
        folder.mkdir()
        yield folder
        _refuse_in_use(target)
        put_in_place(folder, target, scratch)


def _refuse_in_use(target: Path) -> None:
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        msg = f"{target} exists already."
        raise TrainingError(msg, next_step="Choose another folder, or delete this one first.")


def create_project(
    folder: Path,
    name: str,
    table: LabelTable,
    *,
    modality: str = "CT",
    catalogue: Catalogue | None = None,
    custom_organs: Mapping[str, CustomOrgan] | None = None,
) -> Project:
    """Create a project without cases.

    Args:
        folder: Must not exist, or be empty.
        name: Of the project.
        table: Its organs and their label values.
        modality: "CT" or "MR".
        catalogue: Must know the organs but the project's own ones; by default MultiOrganSeg's.
        custom_organs: By organ key, organs of the table that the catalogue does not know.

    Raises:
        TrainingError: The folder is in use, or the modality unknown.
        OrganError: The catalogue lacks an organ, or an own one is not valid.
        ResourceError: The folder cannot be written.
    """
    matrix = LabelStatusMatrix(table.keys)
    own = custom_organs or {}
    matrix.check_organs(with_custom_organs(catalogue or load_catalogue(), own))
    with new_folder(folder) as new:
        project = Project(new, name, table, {}, matrix, modality, custom_organs=own)
        save_project(project)
    return replace(project, folder=folder)


@dataclass(frozen=True)
class MergeOptions:
    """How projects are merged.

    Attributes:
        unions: Parts by the organ key that they become, such as `{"kidneys": ("kidney_left",
            "kidney_right")}`; the parts are no organs of the merged project.
        hardlink: Link images instead of copying them, where the disk allows it.
    """

    unions: Mapping[str, tuple[str, ...]]
    hardlink: bool = False


def merge_projects(
    projects: Sequence[Project],
    target: Path,
    name: str,
    options: MergeOptions | None = None,
    *,
    catalogue: Catalogue | None = None,
    progress: Progress | None = None,
) -> Project:
    """Write one project with the cases of all; the folder appears complete or not at all.

    Organs meet by key and are numbered anew in the order in which they first occur. An organ that a project
    does not have is unknown in all its cases. Of an own organ that several describe the first description is
    kept. Case names that occur more than once get the name of their
    project in front. Of organs that are unknown or absent in a case no voxel is taken over.

    Args:
        projects: At least one, all of one modality; they stay as they are.
        target: Folder of the new project.
        name: Of the new project.
        options: Unions and linking.
        catalogue: Must know the union organs; by default MultiOrganSeg's own.
        progress: Reports once a case.

    Raises:
        TrainingError: The modalities differ, names clash even with prefix, unions overlap, a label value has
            no meaning, or the target exists.
        OrganError: A union organ is not in the catalogue.
        VolumeError: A label file cannot be read.
        ResourceError: The project cannot be written.
    """
    options, progress = options or MergeOptions({}), progress or Progress()
    catalogue = catalogue or load_catalogue()
    own = {key: organ for project in projects[::-1] for key, organ in project.custom_organs.items()}
    catalogue = with_custom_organs(catalogue, own)
    _check(projects, options, catalogue)
    whole = {part: key for key, parts in options.unions.items() for part in parts}
    keys = dict.fromkeys(whole.get(key, key) for project in projects for key in project.table.keys)
    table = LabelTable.numbered(keys)
    own = {key: organ for key, organ in own.items() if key in table.keys}
    names = _case_names(projects)
    cases, matrix = {}, LabelStatusMatrix(table.keys)
    with new_folder(target) as folder:
        for number, ((origin, old), new) in enumerate(names.items()):
            progress("merging", number / len(names))
            project = projects[origin]
            row = _row(project, old, table, options.unions)
            matrix = matrix.with_case(new, row)
            image, labels = project.image_path(old), project.labels_path(old)
            entry = project_case(
                new, image, labelled=labels is not None, source=project.case(old).source or project.name
            )
            by_network = set(project.case(old).corrected)
            corrected = (key for key in table.keys if by_network & {key, *options.unions.get(key, ())})
            cases[new] = replace(entry, patient=project.case(old).patient, corrected=tuple(corrected))
            place_image(image, folder / entry.image, hardlink=options.hardlink)
            if labels is not None and entry.labels is not None:
                place_labels(labels, folder / entry.labels, _values(project, table, whole, row), image)
        merged = Project(
            folder,
            name,
            table,
            cases,
            matrix,
            projects[0].modality,
            _sources(projects),
            own,
            next((project.patient_key for project in projects if project.patient_key), ""),
        )
        save_project(merged)
    progress("merging", 1.0)
    return replace(merged, folder=target)


def _check(projects: Sequence[Project], options: MergeOptions, catalogue: Catalogue) -> None:
    problem = ""
    parts = [part for parts in options.unions.values() for part in parts]
    doubled = [part for part, count in Counter(parts).items() if count > 1 or part in options.unions]
    lone = [part for part in parts if all(part not in project.table.keys for project in projects)]
    if not projects:
        problem = "There is none."
    elif len({project.modality for project in projects}) > 1:
        problem = "Their modalities differ: " + ", ".join(f"{p.name} {p.modality}" for p in projects) + "."
    elif doubled:
        problem = f"The unions use {', '.join(doubled)} more than once."
    elif lone:
        problem = f"No project has {', '.join(lone)}, which a union names."
    if problem:
        msg = "The projects cannot be merged."
        raise TrainingError(msg, cause=problem, next_step="Correct the list of projects or the unions.")
    for key in options.unions:
        catalogue.get(key)


def _case_names(projects: Sequence[Project]) -> dict[tuple[int, str], str]:
    places = [(number, case) for number, project in enumerate(projects) for case in project.cases]
    prefixes = [re.sub(r"[^\w-]+", "_", project.name) for project in projects]
    counts = Counter(case.casefold() for _, case in places)
    names = {
        (number, case): case if counts[case.casefold()] == 1 else f"{prefixes[number]}_{case}"
        for number, case in places
    }
    again = [name for name, count in Counter(map(str.casefold, names.values())).items() if count > 1]
    if again:
        msg = "The projects cannot be merged."
        raise TrainingError(
            msg,
            cause=f"Even with the project's name in front these names clash: {', '.join(again)}.",
            next_step="Give the projects different names in their project.json.",
        )
    return names


def _row(
    project: Project, case: str, table: LabelTable, unions: Mapping[str, tuple[str, ...]]
) -> dict[str, LabelStatus]:
    said = project.matrix.rows[case]
    row = {}
    for key in table.keys:
        status = said.get(key, LabelStatus.UNKNOWN)
        if status is LabelStatus.UNKNOWN and key in unions:
            status = united(said.get(part, LabelStatus.UNKNOWN) for part in unions[key])
        row[key] = status
    return row


def _values(
    project: Project, table: LabelTable, whole: Mapping[str, str], row: Mapping[str, LabelStatus]
) -> dict[int, int]:
    keys = {value: whole.get(key, key) for value, key in project.table.organs.items()}
    return {value: table.value(key) if row[key] in LABELLED else 0 for value, key in keys.items()}


def _sources(projects: Sequence[Project]) -> dict[str, Mapping[str, str]]:
    sources: dict[str, Mapping[str, str]] = {}
    for project in projects:
        for name, about in (project.sources or {project.name: {}}).items():
            sources[name] = {**about, **sources.get(name, {})}
    return sources
