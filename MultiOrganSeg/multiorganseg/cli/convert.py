"""`multiorganseg models convert`: a network of another program becomes a bundle."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from multiorganseg.cli.case import Case
from multiorganseg.cli.channels import further_channels
from multiorganseg.cli.console import out, printable
from multiorganseg.cli.errors import reported_errors
from multiorganseg.cli.kept import keep_inputs
from multiorganseg.cli.progress_bar import progress_bar
from multiorganseg.errors import OptionError

if TYPE_CHECKING:
    from multiorganseg.convert.convert import Conversion
    from multiorganseg.volumes.volume import Volume


@reported_errors()
def convert_model(
    path: Annotated[
        Path,
        typer.Argument(help="Folder of the model, its exported zip file, or a model file.", metavar="PATH"),
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder in which the bundle is put; your models when left out."),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the bundle.")] = "",
    label: Annotated[
        list[str] | None,
        typer.Option(
            help="Organ for a label of the model, NAME=organ, such as 'Left kidney=kidney_left'; repeatable."
        ),
    ] = None,
    orientation: Annotated[
        str,
        typer.Option(help="Where the axes i, j, k of its images run to, such as RAS or LPS; or stored."),
    ] = "",
    check: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            help="A case and its labels in the model's own values: finds the orientation and compares modes.",
            metavar="IMAGE LABELS",
        ),
    ] = None,
    configuration: Annotated[
        str, typer.Option(help="Which model of a folder with several, such as 3d_fullres.")
    ] = "",
    fold: Annotated[str, typer.Option(help="Folds of nnU-Net, such as 0 or 0,1; all when left out.")] = "",
    licence: Annotated[str, typer.Option(help="Licence under which you use the weights.")] = "",
    replace: Annotated[bool, typer.Option("--replace", help="Replace a bundle of that name.")] = False,
) -> None:
    """Make a bundle of a network of nnU-Net, TotalSegmentator, MONAI or Auto3DSeg.

    Nothing of the source is executed, nothing is fetched, and the source stays as it is.
    """
    from multiorganseg.convert.convert import ConvertOptions, convert

    with keep_inputs([path, *(check or ())]), progress_bar() as progress:
        options = ConvertOptions(
            configuration=configuration,
            folds=fold,
            orientation=orientation,
            labels=_chosen(label or ()),
            name=name,
            licence=licence,
            replace=replace,
            read_check=None if check is None else lambda channels: _read_case(check, channels),
        )
        done = convert(path, output, options, progress, _ask if sys.stdin.isatty() else None)
    _show(done, output is None)


def _chosen(labels: Sequence[str]) -> dict[str, str]:
    chosen = {}
    for text in labels:
        name, equals, organ = text.rpartition("=")
        if not (equals and name.strip() and organ.strip()):
            msg = f"'{text}' gives no organ to a label."
            raise OptionError(msg, next_step="Write it as --label 'NAME=organ'.")
        chosen[name.strip()] = organ.strip()
    return chosen


def _read_case(check: tuple[Path, Path], channels: int) -> tuple[tuple[Volume, ...], Volume]:
    from multiorganseg.volumes.read import read_labels, read_volume

    image, labels = check
    return (read_volume(image), *further_channels(Case(image), channels)), read_labels(labels)


def _ask() -> str:
    return str(
        typer.prompt(
            "Where did the axes of its training images run to? RAS (NIfTI in closest canonical order), LPS "
            "(as SimpleITK writes DICOM), or stored (every image as it is)"
        )
    )


def _show(done: Conversion, is_own: bool) -> None:
    metadata = done.bundle.metadata
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("Label", "In the source", "Organ", ""):
        table.add_column(title, overflow="fold")
    for number, organ in enumerate(done.organs, start=1):
        hint = ""
        if organ.own:
            hint = "an organ of its own"
            if organ.suggestions:
                hint += f"; or is it {', '.join(organ.suggestions)}?"
        table.add_row(str(number), printable(organ.name), organ.key, hint)
    out.print(table)
    if done.check is not None:
        for way, dice in done.check.dice.items():
            mark = "  ← taken" if way == done.check.best else ""
            out.print(f"Images run to {way or 'as stored'}: mean Dice {dice:.3f}{mark}")
        out.print(f"Fast against faithful mode: mean Dice {done.check.fast:.3f}")
    out.print(f"Images run to: {done.orientation or 'as they are stored'}")
    out.print(f"Licence of the weights: {printable(metadata.license)}", soft_wrap=True)
    where = Text(f"Converted {metadata.name} {metadata.version} at {done.bundle.folder}", style="green")
    out.print(where, soft_wrap=True)
    model = metadata.name if is_own else str(done.bundle.folder)
    out.print(f'Try it: multiorganseg segment IMAGE -o FOLDER --model "{printable(model)}"', soft_wrap=True)
