"""`multiorganseg-train project`: cases and what is known about their labels."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from multiorganseg.bundles.json_text import format_json
from multiorganseg.bundles.metadata import CustomOrgan
from multiorganseg.bundles.registry import find_bundle
from multiorganseg.cli.console import out, printable
from multiorganseg.errors import OptionError, TrainingError
from multiorganseg.organs.labels import LabelTable
from multiorganseg.organs.table_file import read_table_file
from multiorganseg.outputs import keep
from multiorganseg.projects.file import (
    load_matrix,
    load_project,
    project_inputs,
    project_lock,
    save_matrix,
    save_project,
)
from multiorganseg.projects.matrix import LabelStatus
from multiorganseg.projects.project import Project
from multiorganseg.text import cases_text
from multiorganseg_training.cli.annotate import add_command, add_organ_command, annotate_command
from multiorganseg_training.cli.exchange import (
    export_command,
    merge_command,
    msd_command,
    nnunet_command,
    show_project,
)
from multiorganseg_training.cli.exchange import register as register_exchange
from multiorganseg_training.cli.progress import LEGEND, cases_table, reported_errors, reported_progress
from multiorganseg_training.cli.publish import register as register_publishing
from multiorganseg_training.project.add_case import set_statuses
from multiorganseg_training.project.check import Contradiction, find_contradictions, tidy
from multiorganseg_training.project.create import create_project
from multiorganseg_training.project.import_dataset import import_folder
from multiorganseg_training.project.patients import set_patient
from multiorganseg_training.project.state import project_state

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

    Or begin with images alone, and save what is drawn on them:

    multiorganseg-train project create abdomen --base abdomen-ct

    multiorganseg-train project add-organ abdomen duodenum

    multiorganseg-train project add abdomen CT.nii.gz --name case_1

    multiorganseg-train project annotate abdomen case_1 drawn.nii.gz --organ duodenum
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
    base: Annotated[str, typer.Option(help="Bundle whose organs, its own ones included, to take.")] = "",
    data: Annotated[
        Path | None,
        typer.Option(help="Folder with images/ and labels/ to start with; needs --labels."),
    ] = None,
    matrix: Annotated[
        Path | None,
        typer.Option(
            help="With --data: what is known of each organ in each case, JSON as of status --matrix."
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Of the project; else the folder's.")] = "",
    modality: Annotated[str, typer.Option(help="CT or MR.")] = "CT",
    hardlink: Annotated[bool, typer.Option("--hardlink", help="Link images instead of copying.")] = False,
) -> None:
    """Create a project: empty, or from a folder of images and labels.

    From a folder, each organ of the label table is taken as annotated in every case that has a label file,
    unless --matrix says what is known; correct what is not with `set`, after a `check`.
    """
    if sum((labels is not None, bool(organs), bool(base))) != 1:
        msg = "A project needs organs: --organs, --labels or --base."
        raise OptionError(msg, next_step="For example: --organs liver,spleen")
    if data is not None and labels is None:
        msg = "--data needs the meaning of the label values."
        raise OptionError(msg, next_step='Pass --labels FILE with {"1": "spleen", "6": "liver"}.')
    if matrix is not None and data is None:
        msg = "--matrix speaks of the cases of a folder."
        raise OptionError(msg, next_step="Pass --data too, or use `set --from` on a project.")
    table, own = _organs(organs, labels, base)
    status = None if matrix is None else load_matrix(matrix)
    title = name or folder.absolute().name
    if data is None:
        project = create_project(folder, title, table, modality=modality, custom_organs=own)
    else:
        with reported_progress() as progress:
            project = import_folder(
                data,
                folder,
                table,
                modality=modality,
                name=title,
                status=status,
                hardlink=hardlink,
                progress=progress,
            )
    show_project(project)


project_app.command("add")(add_command)
project_app.command("add-organ")(add_organ_command)
project_app.command("annotate")(annotate_command)


@project_app.command("status")
@reported_errors()
def status_command(
    folder: _Folder,
    cases: Annotated[bool, typer.Option("--cases", help="Show every case too.")] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print cases, organs, runs and bundles as JSON for other programs."),
    ] = False,
    matrix_path: Annotated[
        Path | None,
        typer.Option("--matrix", metavar="PATH", help="Write it to edit; see set --from."),
    ] = None,
) -> None:
    """Show the label-status matrix: how many cases know each organ."""
    project = load_project(folder)
    if matrix_path is not None:
        with keep(project_inputs(folder)):
            save_matrix(project.matrix, matrix_path)
    if as_json:
        typer.echo(printable(format_json(project_state(project)), lines=True), nl=False)
        return
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
    patient: Annotated[
        str | None,
        typer.Option(help="Code of the patient whose cases these are, no name; '' forgets it."),
    ] = None,
    from_file: Annotated[
        Path | None, typer.Option("--from", metavar="PATH", help="Take the whole matrix from this JSON file.")
    ] = None,
) -> None:
    """Say what is known of organs in cases, or whose cases they are; images and labels stay as they are.

    Annotated needs labelled voxels, and absent none; a whole matrix from a file is not compared with voxels.
    """
    project = load_project(folder)
    if patient is not None and case and not (organ or status or from_file):
        cases = _matching(project, case)
        set_patient(folder, cases, patient)
        out.print(Text(f"{cases_text(len(cases))} of one patient." if patient else "Forgotten."))
        return
    if from_file is not None and not (case or organ or status or patient):
        matrix = load_matrix(from_file)
        with project_lock(folder):
            project = load_project(folder)
            changed = project.with_matrix(matrix)
            save_project(changed)
    elif from_file is None and case and organ and status:
        organs = project.table.keys if ALL in organ else organ
        changed = set_statuses(folder, _matching(project, case), organs, status)
    else:
        msg = "Say what to set."
        step = "Pass --case, --organ and --status together, --case and --patient, or --from alone."
        raise OptionError(msg, next_step=step)
    entries = sum(
        project.matrix.rows[name][key] is not found
        for name, row in changed.matrix.rows.items()
        for key, found in row.items()
    )
    out.print(Text(f"{entries} {'entry' if entries == 1 else 'entries'} changed."))


@project_app.command("check")
@reported_errors()
def check_command(
    folder: _Folder,
    delete_unused: Annotated[
        bool, typer.Option("--delete-unused", help="Delete files in images/ and labels/ that no case uses.")
    ] = False,
) -> None:
    """Compare what is said with the files: that they are there, share a grid, and bear the matrix out.

    What killed programs left half-written is deleted. The exit code is 8 when something contradicts.
    """
    unused = tidy(folder, delete_unused=delete_unused)
    project = load_project(folder)
    with reported_progress() as progress:
        found = find_contradictions(project, progress)
    if delete_unused and unused:
        out.print(Text(f"Deleted: {', '.join(unused)}"), soft_wrap=True)
    else:
        found += [Contradiction("", "", f"No case uses {name}.") for name in unused]
    if not found:
        out.print(Text(f"{cases_text(len(project.cases))}, no contradiction."))
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
        next_step="Correct the label files, or what is said of them: multiorganseg-train project set --help. "
        "Unused files go with --delete-unused.",
    )


project_app.command("import-nnunet")(nnunet_command)
project_app.command("import-msd")(msd_command)
project_app.command("merge")(merge_command)
project_app.command("export-nnunet")(export_command)
register_exchange(project_app)
register_publishing(project_app)


def _organs(keys: str, labels: Path | None, base: str) -> tuple[LabelTable, Mapping[str, CustomOrgan] | None]:
    if base:
        metadata = find_bundle(base).metadata
        return metadata.labels, metadata.custom_organs
    if labels is not None:
        return read_table_file(labels), None
    return LabelTable.numbered(key.strip() for key in keys.split(",") if key.strip()), None


def _matching(project: Project, patterns: list[str]) -> list[str]:
    found: dict[str, None] = {}
    for pattern in patterns:
        matching = (
            [pattern]
            if pattern in project.cases
            else [name for name in project.cases if fnmatchcase(name, pattern)]
        )
        if not matching:
            msg = f"No case is called '{pattern}'."
            raise TrainingError(
                msg, next_step=f"List them: multiorganseg-train project status {project.folder} --cases"
            )
        found.update(dict.fromkeys(matching))
    return list(found)
