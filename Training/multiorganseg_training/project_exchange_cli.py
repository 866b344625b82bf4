"""Commands that exchange annotated cases with other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from multiorganseg.atomic import write_text_atomically
from multiorganseg.bundles.json_text import format_json
from multiorganseg.cli.console import out
from multiorganseg.cli.errors import reported_errors
from multiorganseg.counted import cases_text
from multiorganseg.outputs import keep
from multiorganseg_training.project.export_dicom_seg import export_dicom_seg
from multiorganseg_training.project.import_into import import_into
from multiorganseg_training.project.project_json import load_project, project_inputs
from multiorganseg_training.project.read_dataset import DatasetFormat, format_of, open_dataset
from multiorganseg_training.project.suggest import suggested_organ
from multiorganseg_training.project_transfer_cli import label_rules, show_project
from multiorganseg_training.told_progress import TellEvents, told_progress

_Folder = Annotated[Path, typer.Argument(help="Folder of the project.")]
_Dataset = Annotated[
    Path, typer.Argument(help="nnU-Net v2 or Decathlon folder, or one with DICOM SEG and their series.")
]
_Format = Annotated[DatasetFormat | None, typer.Option("--format", help="Else the folder's content tells.")]
_Unlabelled = Annotated[bool, typer.Option("--unlabelled", help="Take images without labels too.")]


@reported_errors()
def import_command(
    folder: _Folder,
    dataset: _Dataset,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            help="LABEL=ORGAN, by the dataset's name or value of a label; LABEL=background drops it. "
            "Repeat for more. Labels spelt as organ keys need none.",
        ),
    ] = None,
    kind: _Format = None,
    modality: Annotated[str | None, typer.Option(help="CT or MR; else the dataset tells.")] = None,
    unlabelled: _Unlabelled = False,
    events: TellEvents = False,
) -> None:
    """Add the annotated cases of a dataset to a project: all of them, or none.

    Of nnU-Net and Decathlon folders every mapped organ is annotated in all labelled cases; of DICOM SEG, the
    organs that a file has segments of. Segments with the codes of an organ need no rule.
    """
    rules = label_rules(label or [])
    with (
        told_progress(events) as progress,
        open_dataset(dataset, kind, unlabelled=unlabelled, modality=modality, progress=progress) as described,
    ):
        report = import_into(described, folder, rules, progress)
    out.print(Text(f"Added {cases_text(len(report.cases))}."))
    for case, organs in report.empty.items():
        said = f"{case}: {', '.join(organs)} is annotated, but no voxel is labelled: absent?"
        out.print(Text(f"Warning: {said}", style="yellow"), soft_wrap=True)
    show_project(report.project)


@reported_errors()
def inspect_command(
    folder: _Folder,
    dataset: _Dataset,
    kind: _Format = None,
    unlabelled: _Unlabelled = False,
    json_path: Annotated[
        Path | None, typer.Option("--json", metavar="PATH", help="Write it as JSON.")
    ] = None,
    events: TellEvents = False,
) -> None:
    """Show what an import would add to a project: cases, labels, and the organs that these seem to be."""
    project = load_project(folder)
    kind = kind or format_of(dataset)
    with (
        told_progress(events) as progress,
        open_dataset(dataset, kind, described=True, unlabelled=unlabelled, progress=progress) as described,
    ):
        labels = [
            {"value": value, "name": name, "organ": suggested_organ(name, project)}
            for value, name in described.labels.items()
        ]
        cases = [case.name for case in described.cases]
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    table.title = f"{described.name}: {kind.value}, {described.modality}, {cases_text(len(cases))}"
    for title in ("Value", "Label", "Organ"):
        table.add_column(title, overflow="fold")
    for entry in labels:
        table.add_row(str(entry["value"]), Text(str(entry["name"])), str(entry["organ"]) or "?")
    out.print(table)
    if json_path is not None:
        about = {"schema_version": 1, "name": described.name, "format": kind.value}
        text = format_json({**about, "modality": described.modality, "cases": cases, "labels": labels})
        with keep([*project_inputs(folder), dataset]):
            write_text_atomically(json_path, text)


@reported_errors()
def export_dicom_seg_command(
    folder: _Folder,
    output: Annotated[Path, typer.Option("-o", "--output", help="New folder of the DICOM SEG files.")],
    series: Annotated[
        Path, typer.Option("--series", help="Folder with the DICOM series that the images come from.")
    ],
    events: TellEvents = False,
) -> None:
    """Export the annotations as DICOM SEG, one file a case, that refer to the original series."""
    project = load_project(folder)
    with told_progress(events) as progress:
        report = export_dicom_seg(project, output, series, progress)
    out.print(Text(f"Exported {len(report.cases)} of {len(project.cases)} cases to {output}"), soft_wrap=True)
    for case, why in report.skipped.items():
        out.print(Text(f"Left out: {case}. {why}"), soft_wrap=True)


def register(project_app: typer.Typer) -> None:
    """Add the commands to `multiorganseg-train project`."""
    project_app.command("import")(import_command)
    project_app.command("inspect")(inspect_command)
    project_app.command("export-dicom-seg")(export_dicom_seg_command)
