"""Commands that bring datasets and annotated cases into projects and out of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from multiorganseg.atomic import write_text_atomically
from multiorganseg.bundles.json_text import format_json
from multiorganseg.cli.console import out
from multiorganseg.errors import OptionError
from multiorganseg.outputs import keep
from multiorganseg.projects.file import load_project, project_inputs
from multiorganseg.projects.project import Project
from multiorganseg.text import cases_text
from multiorganseg_training.cli.progress import (
    ReportEvents,
    counts_table,
    reported_errors,
    reported_progress,
    warn,
    warn_of_doubled,
)
from multiorganseg_training.project.create import MergeOptions, merge_projects
from multiorganseg_training.project.export_dicom_seg import export_dicom_seg
from multiorganseg_training.project.export_nnunet import PartialCases, export_nnunet
from multiorganseg_training.project.import_dataset import import_into, import_msd, import_nnunet
from multiorganseg_training.project.organs import suggested_organ
from multiorganseg_training.project.read_dataset import DatasetFormat, format_of, open_dataset

_Target = Annotated[Path, typer.Argument(help="Folder of the new project.")]
_Rules = Annotated[
    list[str] | None,
    typer.Option(
        "--label",
        help="LABEL=ORGAN, by the dataset's name or value of a label; LABEL=background drops it. "
        "Repeat for more. Labels spelt as organ keys need none.",
    ),
]
_Name = Annotated[str, typer.Option(help="Of the project; else the dataset's.")]
_Modality = Annotated[str | None, typer.Option(help="CT or MR; else the dataset tells.")]
_Unlabelled = Annotated[bool, typer.Option("--unlabelled", help="Take images without labels too.")]
_Hardlink = Annotated[bool, typer.Option("--hardlink", help="Link images instead of copying where possible.")]


@reported_errors()
def nnunet_command(
    dataset: Annotated[Path, typer.Argument(help="Folder such as nnUNet_raw/Dataset101_Liver.")],
    target: _Target,
    label: _Rules = None,
    channel: Annotated[int | None, typer.Option(help="Which channel, where there are several.")] = None,
    modality: _Modality = None,
    unlabelled: _Unlabelled = False,
    name: _Name = "",
    hardlink: _Hardlink = False,
) -> None:
    """Import an nnU-Net dataset folder, of version 2 or 1, as a new project.

    Every label needs an organ key: --label 'left kidney=kidney_left'. What becomes of a tumour is yours to
    say: --label tumour=liver (part of the liver), --label tumour=liver_tumor (an organ of its own), or
    --label tumour=background. Mapped organs are annotated in all labelled cases; correct it with `set`.
    """
    _import(
        import_nnunet,
        dataset,
        target,
        label,
        channel=channel,
        modality=modality,
        unlabelled=unlabelled,
        name=name,
        hardlink=hardlink,
    )


@reported_errors()
def msd_command(
    dataset: Annotated[Path, typer.Argument(help="Folder such as Task03_Liver.")],
    target: _Target,
    label: _Rules = None,
    modality: _Modality = None,
    unlabelled: _Unlabelled = False,
    name: _Name = "",
    hardlink: _Hardlink = False,
) -> None:
    """Import a folder of the Medical Segmentation Decathlon as a new project.

    For example: multiorganseg-train project import-msd Task03_Liver liver --label cancer=liver

    Mapped organs are annotated in all labelled cases; correct it with `set`.
    """
    _import(
        import_msd,
        dataset,
        target,
        label,
        modality=modality,
        unlabelled=unlabelled,
        name=name,
        hardlink=hardlink,
    )


def _import(
    importer: Callable[..., Project], dataset: Path, target: Path, label: list[str] | None, **options: Any
) -> None:
    rules = label_rules(label or [])
    with reported_progress() as progress:
        project = importer(dataset, target, rules, **options, progress=progress)
    warn_of_doubled(project, project.cases)
    show_project(project)


@reported_errors()
def merge_command(
    projects: Annotated[list[Path], typer.Argument(help="Folders of projects.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the new project.")],
    name: Annotated[str, typer.Option(help="Of the new project; else the folder's.")] = "",
    union: Annotated[
        list[str] | None, typer.Option(help="Organs that become one: kidneys=kidney_left+kidney_right.")
    ] = None,
    hardlink: _Hardlink = False,
) -> None:
    """Merge projects into a new one; they stay as they are.

    Organs meet by key. What a project has no label for is unknown in its cases. Cases of equal name get their
    project's name in front. Labels of organs that are unknown or absent in a case are not taken over.
    """
    options = MergeOptions(_unions(union or []), hardlink)
    loaded = [load_project(folder) for folder in projects]
    with reported_progress() as progress:
        project = merge_projects(loaded, output, name or output.absolute().name, options, progress=progress)
    show_project(project)


@reported_errors()
def export_command(
    folder: Annotated[Path, typer.Argument(help="Folder of the project.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Such as nnUNet_raw/Dataset101_Abdomen.")],
    partial: Annotated[
        PartialCases,
        typer.Option(
            help="Cases that do not know every organ: refuse, skip them, or ignore their unknown voxels."
        ),
    ] = PartialCases.REFUSE,
    hardlink: _Hardlink = False,
    events: ReportEvents = False,
) -> None:
    """Export a project as an nnU-Net v2 dataset folder, and say what is lost."""
    project = load_project(folder)
    with reported_progress() as progress:
        report = export_nnunet(project, output, partial, hardlink=hardlink, progress=progress)
    out.print(Text(f"Exported {len(report.cases)} of {len(project.cases)} cases to {output}"), soft_wrap=True)
    for sentence in report.lost:
        warn(sentence, "Lost")


def show_project(project: Project) -> None:
    """Print what a project holds and how many cases know each organ."""
    unlabelled = sum(case.labels is None for case in project.cases.values())
    count = len(project.cases)
    cases = f"{count} {'case' if count == 1 else 'cases'}" + (
        f", {unlabelled} without labels" if unlabelled else ""
    )
    out.print(Text(f"{project.name}: {project.modality}, {cases}, at {project.folder}"), soft_wrap=True)
    out.print(counts_table(project.matrix))


def label_rules(texts: list[str]) -> dict[str, str]:
    """Read rules LABEL=ORGAN of `map_labels`.

    Raises:
        OptionError: One is not written so, or a label has two.
    """
    rules: dict[str, str] = {}
    for text in texts:
        label, organ = _halves(text, "a rule for a label", "cancer=liver")
        if rules.setdefault(label, organ) != organ:
            msg = f"The label '{label}' has two rules."
            raise OptionError(msg, next_step=f"Keep {label}={rules[label]} or {label}={organ}.")
    return rules


def _unions(texts: list[str]) -> dict[str, tuple[str, ...]]:
    example = "kidneys=kidney_left+kidney_right"
    halves = [_halves(text, "a union of organs", example) for text in texts]
    return {key: tuple(part.strip() for part in parts.split("+")) for key, parts in halves}


def _halves(text: str, what: str, example: str) -> tuple[str, str]:
    left, separator, right = (part.strip() for part in text.rpartition("="))
    if not (left and separator and right):
        msg = f"'{text}' is not {what}."
        raise OptionError(msg, next_step=f"Write it as {example}.")
    return left, right


_Folder = Annotated[Path, typer.Argument(help="Folder of the project.")]
_Dataset = Annotated[
    Path,
    typer.Argument(help="nnU-Net or Decathlon folder, or one with DICOM SEG or RTSTRUCT and their series."),
]
_Format = Annotated[DatasetFormat | None, typer.Option("--format", help="Else the folder's content tells.")]


@reported_errors()
def import_command(
    folder: _Folder,
    dataset: _Dataset,
    label: _Rules = None,
    kind: _Format = None,
    channel: Annotated[int | None, typer.Option(help="Of nnU-Net, where there are several.")] = None,
    modality: _Modality = None,
    unlabelled: _Unlabelled = False,
    events: ReportEvents = False,
) -> None:
    """Add the annotated cases of a dataset to a project: all of them, or none.

    Of nnU-Net and Decathlon folders every mapped organ is annotated in all labelled cases; of DICOM SEG and
    RTSTRUCT, the organs that the files of a series have segments of. Segments with the codes of an organ need
    no rule. Where segments overlap, a structure keeps what lies within its organ; of others, leave one out:
    --label LABEL=background
    """
    rules = label_rules(label or [])
    with (
        reported_progress() as progress,
        open_dataset(
            dataset,
            kind,
            unlabelled=unlabelled,
            channel=channel,
            modality=modality,
            rules=rules,
            progress=progress,
        ) as described,
    ):
        report = import_into(described, folder, rules, progress)
    out.print(Text(f"Added {cases_text(len(report.cases))}."))
    for case, organs in report.empty.items():
        warn(f"{case}: {', '.join(organs)} is annotated, but no voxel is labelled: absent?")
    warn_of_doubled(report.project, report.cases)
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
    events: ReportEvents = False,
) -> None:
    """Show what an import would add to a project: cases, labels, and the organs that these seem to be."""
    project = load_project(folder)
    kind = kind or format_of(dataset)
    with (
        reported_progress() as progress,
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
    events: ReportEvents = False,
) -> None:
    """Export the annotations as DICOM SEG, one file a case, that refer to the original series."""
    project = load_project(folder)
    with reported_progress() as progress:
        report = export_dicom_seg(project, output, series, progress)
    out.print(Text(f"Exported {len(report.cases)} of {len(project.cases)} cases to {output}"), soft_wrap=True)
    for case, why in report.skipped.items():
        warn(f"{case}. {why}", "Left out")


def register(project_app: typer.Typer) -> None:
    """Add the commands to `multiorganseg-train project`."""
    project_app.command("import")(import_command)
    project_app.command("inspect")(inspect_command)
    project_app.command("export-dicom-seg")(export_dicom_seg_command)
