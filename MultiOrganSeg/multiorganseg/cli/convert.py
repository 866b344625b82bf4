"""`multiorganseg models inspect` and `convert`: a network of another program becomes a bundle."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from multiorganseg.atomic import write_text_atomically
from multiorganseg.cli.case import Case
from multiorganseg.cli.channels import further_channels
from multiorganseg.cli.console import out, printable
from multiorganseg.cli.errors import reported_errors
from multiorganseg.cli.kept import keep_inputs
from multiorganseg.cli.parent import EVENTS_HELP, PARENT_HELP, event_stream, stop_with_parent
from multiorganseg.cli.progress_bar import progress_bar
from multiorganseg.errors import OptionError
from multiorganseg.events import EventKind, with_events

if TYPE_CHECKING:
    from multiorganseg.convert.convert import Conversion
    from multiorganseg.convert.organ_names import NamedOrgan
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
    events: Annotated[Path | None, typer.Option(help=EVENTS_HELP)] = None,
    with_parent: Annotated[bool, typer.Option("--stop-with-parent", help=PARENT_HELP)] = False,
) -> None:
    """Make a bundle of a network of nnU-Net, TotalSegmentator, MONAI or Auto3DSeg.

    Nothing of the source is executed, nothing is fetched, and the source stays as it is.
    """
    if with_parent:
        stop_with_parent()
    from multiorganseg.convert.convert import ConvertOptions, convert

    named = [path, *(check or ())]
    with keep_inputs(named), event_stream(events, *named) as stream, progress_bar() as bar:
        progress = with_events(stream, bar)
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
        stream.emit(EventKind.FINISHED, model=done.bundle.metadata.name)
    _show(done, output is None)


@reported_errors()
def inspect_model(
    path: Annotated[
        Path,
        typer.Argument(help="Folder of the model, its exported zip file, or a model file.", metavar="PATH"),
    ],
    configuration: Annotated[
        str, typer.Option(help="Which model of a folder with several, such as 3d_fullres.")
    ] = "",
    fold: Annotated[str, typer.Option(help="Folds of nnU-Net, such as 0 or 0,1; all when left out.")] = "",
    licence: Annotated[str, typer.Option(help="Licence under which you use the weights.")] = "",
    json_path: Annotated[Path | None, typer.Option("--json", help="Also write it to this file.")] = None,
    events: Annotated[Path | None, typer.Option(help=EVENTS_HELP)] = None,
    with_parent: Annotated[bool, typer.Option("--stop-with-parent", help=PARENT_HELP)] = False,
) -> None:
    """Say what a network of another program is and which organs it has, and convert nothing."""
    if with_parent:
        stop_with_parent()
    from multiorganseg.convert.convert import ConvertOptions, inspect_network

    with keep_inputs([path]), event_stream(events, path) as stream, progress_bar() as bar:
        options = ConvertOptions(configuration=configuration, folds=fold, licence=licence)
        found = inspect_network(path, options, with_events(stream, bar))
        if json_path is not None:
            write_text_atomically(json_path, json.dumps(asdict(found), indent=2) + "\n")
        stream.emit(EventKind.FINISHED, model=found.name)
    out.print(Text(found.description), soft_wrap=True)
    out.print(_organs(found.organs))
    _show_folds(found.networks)
    out.print(f"Images of a patient: {printable(', '.join(found.channels))} ({found.modality})")
    out.print(f"Images run to: {found.orientation or 'not known; see --orientation and --check of convert'}")
    out.print(f"Licence of the weights: {printable(found.license)}", soft_wrap=True)


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


def _organs(organs: Sequence[NamedOrgan]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("Label", "In the source", "Organ", ""):
        table.add_column(title, overflow="fold")
    for number, organ in enumerate(organs, start=1):
        hint = ""
        if organ.own:
            hint = "an organ of its own"
            if organ.suggestions:
                hint += f"; or is it {', '.join(organ.suggestions)}?"
        table.add_row(str(number), printable(organ.name), organ.key, hint)
    return table


def _show_folds(count: int) -> None:
    if count > 1:
        out.print(f"{count} networks are averaged; --fold 0 takes one, to which organs can be added.")


def _show(done: Conversion, is_own: bool) -> None:
    metadata = done.bundle.metadata
    out.print(_organs(done.organs))
    _show_folds(metadata.folds)
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
