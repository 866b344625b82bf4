"""Commands that bring datasets into projects and out of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from multiorganseg.cli.console import out
from multiorganseg.cli.errors import reported_errors
from multiorganseg.cli.progress_bar import progress_bar
from multiorganseg.errors import OptionError
from multiorganseg_training.project.export_nnunet import PartialCases, export_nnunet
from multiorganseg_training.project.import_msd import import_msd
from multiorganseg_training.project.import_nnunet import import_nnunet
from multiorganseg_training.project.matrix_table import counts_table
from multiorganseg_training.project.merge import MergeOptions, merge_projects
from multiorganseg_training.project.project import Project
from multiorganseg_training.project.project_json import load_project
from multiorganseg_training.told_progress import TellEvents, told_progress

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
    """Import an nnU-Net v2 dataset folder as a new project.

    Every label needs an organ key: --label 'left kidney=kidney_left'. What becomes of a tumour is yours to
    say: --label tumour=liver (part of the liver), --label tumour=liver_tumor (an organ of its own), or
    --label tumour=background. Mapped organs are annotated in all labelled cases; correct it with `set`.
    """
    rules = label_rules(label or [])
    with progress_bar() as progress:
        project = import_nnunet(
            dataset,
            target,
            rules,
            channel=channel,
            modality=modality,
            unlabelled=unlabelled,
            name=name,
            hardlink=hardlink,
            progress=progress,
        )
    show_project(project)


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
    rules = label_rules(label or [])
    with progress_bar() as progress:
        project = import_msd(
            dataset,
            target,
            rules,
            modality=modality,
            unlabelled=unlabelled,
            name=name,
            hardlink=hardlink,
            progress=progress,
        )
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
    with progress_bar() as progress:
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
    events: TellEvents = False,
) -> None:
    """Export a project as an nnU-Net v2 dataset folder, and say what is lost."""
    project = load_project(folder)
    with told_progress(events) as progress:
        report = export_nnunet(project, output, partial, hardlink=hardlink, progress=progress)
    out.print(Text(f"Exported {len(report.cases)} of {len(project.cases)} cases to {output}"), soft_wrap=True)
    for sentence in report.lost:
        out.print(Text(f"Lost: {sentence}"), soft_wrap=True)


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
