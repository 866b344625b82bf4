"""`multiorganseg-train project`: cases and what is known about their labels."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from multiorganseg.cli.console import out
from multiorganseg.cli.errors import reported_errors
from multiorganseg.cli.progress_bar import progress_bar
from multiorganseg.errors import OptionError, TrainingError
from multiorganseg.metrics.compare import read_table_file
from multiorganseg.organs.catalogue import load_catalogue
from multiorganseg.organs.labels import LabelTable
from multiorganseg.volumes.names import case_name
from multiorganseg_training.project.contradictions import find_contradictions
from multiorganseg_training.project.create import add_case, create_project
from multiorganseg_training.project.import_folder import import_folder
from multiorganseg_training.project.matrix_json import load_matrix, save_matrix
from multiorganseg_training.project.matrix_table import LEGEND, cases_table
from multiorganseg_training.project.project import Project
from multiorganseg_training.project.project_json import load_project, save_project
from multiorganseg_training.project.status import LabelStatus
from multiorganseg_training.project_transfer_cli import (
    export_command,
    merge_command,
    msd_command,
    nnunet_command,
    show_project,
)

ALL = "all"

project_app = typer.Typer(
    no_args_is_help=True,
    help="""Cases from many sources, and what is known of each organ in each case.

    An organ in a case is annotated (every voxel of it carries the label), absent (not in the image), unknown
    (nobody labelled it) or pseudo (a network labelled it). People say which; voxels never do.

    Import each dataset, merge, look, correct:

    multiorganseg-train project import-msd Task03_Liver liver --label cancer=liver

    multiorganseg-train project merge liver spleen -o abdomen

    multiorganseg-train project status abdomen --cases

    multiorganseg-train project set abdomen --case 'spleen_1*' --organ liver --status absent
    """,
)

_Folder = Annotated[Path, typer.Argument(help="Folder of the project.")]


@project_app.command("create")
@reported_errors()
def create_command(
    folder: Annotated[Path, typer.Argument(help="Folder of the new project.")],
    organs: Annotated[str, typer.Option(help="Organ keys, separated by commas; labelled 1, 2, …")] = "",
    labels: Annotated[
        Path | None,
        typer.Option(help='Label table instead of --organs, JSON: {"1": "spleen", "6": "liver"}.'),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder with images/ and labels/ to start with; needs --labels."),
    ] = None,
    name: Annotated[str, typer.Option(help="Of the project; else the folder's.")] = "",
    modality: Annotated[str, typer.Option(help="CT or MR.")] = "CT",
    hardlink: Annotated[bool, typer.Option("--hardlink", help="Link images instead of copying.")] = False,
) -> None:
    """Create a project: empty, or from a folder of images and labels.

    From a folder, each organ of the label table is taken as annotated in every case that has a label file;
    correct what is not with `set`, after a `check`.
    """
    if (labels is None) == (not organs):
        msg = "A project needs organs: either --organs or --labels."
        raise OptionError(msg, next_step="For example: --organs liver,spleen")
    if data is not None and labels is None:
        msg = "--data needs the meaning of the label values."
        raise OptionError(msg, next_step='Pass --labels FILE with {"1": "spleen", "6": "liver"}.')
    keys = (key.strip() for key in organs.split(",") if key.strip())
    table = LabelTable.numbered(keys) if labels is None else read_table_file(labels)
    title = name or folder.absolute().name
    if data is None:
        project = create_project(folder, title, table, modality=modality)
    else:
        with progress_bar() as progress:
            project = import_folder(
                data, folder, table, modality=modality, name=title, hardlink=hardlink, progress=progress
            )
    show_project(project)


@project_app.command("add")
@reported_errors()
def add_command(
    folder: _Folder,
    image: Annotated[Path, typer.Argument(help="Image file to copy into the project.")],
    labels: Annotated[Path | None, typer.Option(help="Label file with the project's label values.")] = None,
    annotated: Annotated[str, typer.Option(help="Organ keys annotated in it, separated by commas.")] = "",
    absent: Annotated[str, typer.Option(help="Organ keys that the image does not hold.")] = "",
    name: Annotated[str, typer.Option(help="Of the case; else the image's.")] = "",
) -> None:
    """Add a case; organs that are not named are unknown in it."""
    said = {LabelStatus.ANNOTATED: annotated, LabelStatus.ABSENT: absent}
    row: dict[str, LabelStatus] = {}
    for status, keys in said.items():
        for key in (key.strip() for key in keys.split(",") if key.strip()):
            if row.setdefault(key, status) is not status:
                msg = f"'{key}' cannot be annotated and absent in one case."
                raise OptionError(msg, next_step="Name it once.")
    project = add_case(load_project(folder), name or case_name(image.name), image, labels, row)
    out.print(Text(f"Added as case number {len(project.cases)}."))


@project_app.command("add-organ")
@reported_errors()
def add_organ_command(
    folder: _Folder,
    organs: Annotated[list[str], typer.Argument(help="Organ keys; unknown in every case at first.")],
) -> None:
    """Add organs with the next label values."""
    project, catalogue = load_project(folder), load_catalogue()
    for organ in organs:
        project = project.with_organ(catalogue.get(organ).key)
    save_project(project)
    added = ", ".join(f"{organ} = {project.table.value(organ)}" for organ in organs)
    out.print(Text(f"Added with label values: {added}"))


@project_app.command("status")
@reported_errors()
def status_command(
    folder: _Folder,
    cases: Annotated[bool, typer.Option("--cases", help="Show every case too.")] = False,
    json_path: Annotated[
        Path | None, typer.Option("--json", metavar="PATH", help="Write the matrix to edit; see set --from.")
    ] = None,
) -> None:
    """Show the label-status matrix: how many cases know each organ."""
    project = load_project(folder)
    if json_path is not None:
        save_matrix(project.matrix, json_path)
    show_project(project)
    if cases:
        out.print()
        out.print(cases_table(project.matrix))
        out.print(Text(LEGEND, style="dim"))


@project_app.command("set")
@reported_errors()
def set_command(
    folder: _Folder,
    case: Annotated[
        list[str] | None,
        typer.Option("--case", help="Case name or pattern such as 'spleen_*'; repeat for more."),
    ] = None,
    organ: Annotated[
        list[str] | None, typer.Option("--organ", help="Organ key; repeat for more, or 'all'.")
    ] = None,
    status: Annotated[LabelStatus | None, typer.Option(help="What is known.")] = None,
    from_file: Annotated[
        Path | None, typer.Option("--from", metavar="PATH", help="Take the whole matrix from this JSON file.")
    ] = None,
) -> None:
    """Say what is known of organs in cases; files of images and labels stay as they are."""
    project = load_project(folder)
    if from_file is not None and not (case or organ or status):
        changed = project.with_matrix(load_matrix(from_file))
    elif from_file is None and case and organ and status:
        organs = project.table.keys if ALL in organ else organ
        changed = project.with_matrix(project.matrix.with_statuses(_matching(project, case), organs, status))
    else:
        msg = "Say what to set."
        raise OptionError(msg, next_step="Pass --case, --organ and --status together, or --from alone.")
    save_project(changed)
    entries = sum(
        project.matrix.rows[name][key] is not found
        for name, row in changed.matrix.rows.items()
        for key, found in row.items()
    )
    out.print(Text(f"{entries} {'entry' if entries == 1 else 'entries'} changed."))


@project_app.command("check")
@reported_errors()
def check_command(folder: _Folder) -> None:
    """Compare the matrix with the voxels of all label files; nothing is changed.

    The exit code is 8 when something contradicts.
    """
    project = load_project(folder)
    with progress_bar() as progress:
        found = find_contradictions(project, progress)
    if not found:
        out.print(Text(f"{len(project.cases)} cases, no contradiction."))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("Case", "Organ", "Problem"):
        table.add_column(title, overflow="fold")
    table.add_column("Voxels", justify="right")
    for entry in found:
        table.add_row(
            Text(entry.case), entry.organ, Text(entry.problem), str(entry.voxels) if entry.voxels else ""
        )
    out.print(table)
    msg = f"{len(found)} {'thing contradicts' if len(found) == 1 else 'things contradict'} the project."
    raise TrainingError(
        msg,
        next_step="Correct the label files, or what is said of them: multiorganseg-train project set --help",
    )


project_app.command("import-nnunet")(nnunet_command)
project_app.command("import-msd")(msd_command)
project_app.command("merge")(merge_command)
project_app.command("export-nnunet")(export_command)


def _matching(project: Project, patterns: list[str]) -> list[str]:
    found: dict[str, None] = {}
    for pattern in patterns:
        matching = [name for name in project.cases if fnmatchcase(name, pattern)]
        if not matching:
            msg = f"No case is called '{pattern}'."
            raise TrainingError(
                msg, next_step=f"List them: multiorganseg-train project status {project.folder} --cases"
            )
        found.update(dict.fromkeys(matching))
    return list(found)
