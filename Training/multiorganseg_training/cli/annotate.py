"""Commands that add cases and organs to a project and save annotations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.text import Text

from multiorganseg.bundles.metadata import CustomOrgan
from multiorganseg.cli.console import out
from multiorganseg.errors import OptionError
from multiorganseg.organs.labels import LabelTable
from multiorganseg.projects.file import load_project
from multiorganseg.projects.matrix import LabelStatus
from multiorganseg.results.nifti import label_table_path, read_label_table
from multiorganseg.volumes.names import case_name
from multiorganseg.volumes.read import read_labels
from multiorganseg.volumes.volume import Volume
from multiorganseg_training.cli.progress import reported_errors, reported_progress, warn_of_doubled
from multiorganseg_training.project.add_case import add_case
from multiorganseg_training.project.annotate import save_annotation
from multiorganseg_training.project.named_labels import has_named_layers, read_named_labels
from multiorganseg_training.project.organs import add_organ

_Folder = Annotated[Path, typer.Argument(help="Folder of the project.")]


@reported_errors()
def add_command(
    folder: _Folder,
    images: Annotated[
        list[Path], typer.Argument(help="Image files, or folders with a DICOM series each, to copy.")
    ],
    labels: Annotated[
        Path | None,
        typer.Option(help="Label file of a single image, with the project's values or its own label table."),
    ] = None,
    annotated: Annotated[str, typer.Option(help="Organ keys annotated in it, separated by commas.")] = "",
    pseudo: Annotated[str, typer.Option(help="Organ keys that a network labelled.")] = "",
    absent: Annotated[str, typer.Option(help="Organ keys that the images do not hold.")] = "",
    name: Annotated[str, typer.Option(help="Of the case of a single image; else the image's.")] = "",
    patient: Annotated[
        str,
        typer.Option(
            help="Code of the patient whose images these are, no name; DICOM says whose they are by itself."
        ),
    ] = "",
) -> None:
    """Add cases; organs that are not named are unknown in them, and must not be labelled.

    Cases of one patient are held out together when a training is judged. Of DICOM a code is kept, not the
    identifier; `set --patient` says it of cases that are in the project already.
    """
    if len(images) > 1 and (labels or name):
        msg = "--labels and --name belong to a single image."
        raise OptionError(msg, next_step="Add images with labels, or under other names, one by one.")
    said = {LabelStatus.ANNOTATED: annotated, LabelStatus.PSEUDO: pseudo, LabelStatus.ABSENT: absent}
    row = _statuses({status: _keys(keys) for status, keys in said.items()})
    table = None if labels is None else _own_table(labels)
    added = []
    with reported_progress() as progress:
        for number, image in enumerate(images):
            added.append(name or case_name(image.absolute().name))
            progress(f"adding {added[-1]}", number / len(images))
            project = add_case(folder, added[-1], image, labels, row, table=table, patient=patient)
        progress("adding", 1.0)
    warn_of_doubled(project, added)
    cases = len(project.cases)
    if len(images) == 1:
        out.print(Text(f"Added as case number {cases}."))
    else:
        out.print(Text(f"Added {len(images)} cases; the project has {cases}."))


@reported_errors()
def add_organ_command(
    folder: _Folder,
    organs: Annotated[list[str], typer.Argument(help="Organ keys; unknown in every case at first.")],
    name: Annotated[str, typer.Option(help="For people, of an organ that the catalogue lacks.")] = "",
    color: Annotated[str, typer.Option(help="Its colour, such as '#d08040'.")] = "",
) -> None:
    """Add organs with the next label values.

    An organ of your own, which the catalogue lacks, needs a name and a colour.
    """
    custom = _custom_organ(organs, name, color)
    for organ in organs:
        project = add_organ(folder, organ, custom)
    added = ", ".join(f"{organ} = {project.table.value(organ)}" for organ in organs)
    out.print(Text(f"Added with label values: {added}"))


@reported_errors()
def annotate_command(
    folder: _Folder,
    case: Annotated[str, typer.Argument(help="Name of the case.")],
    labels: Annotated[
        Path | None,
        typer.Argument(
            help="Label file on the voxels of the case's image, DICOM SEG or RTSTRUCT.", show_default=False
        ),
    ] = None,
    organ: Annotated[
        list[str] | None,
        typer.Option(
            help="Organ key, or KEY=VALUE with its value in the file, or KEY=NAME of its segment; repeat for "
            "more."
        ),
    ] = None,
    pseudo: Annotated[
        list[str] | None, typer.Option(help="The same for an organ that a network labelled.")
    ] = None,
    corrected: Annotated[
        list[str] | None, typer.Option(help="As --organ, for an organ that people corrected after a network.")
    ] = None,
    absent: Annotated[
        list[str] | None, typer.Option(help="Organ key that the image does not hold; repeat for more.")
    ] = None,
) -> None:
    """Save the annotation of organs in a case, in place of what was there of them, and set their status.

    Which voxels of the file are an organ's: those of KEY=VALUE; else those that the file's own label table
    names (X.labels.json beside X.nii.gz, segments of a .seg.nrrd); else all above 0, when the file has one
    value and one organ is named; else those of the project's label value.

    Of DICOM SEG, RTSTRUCT and .seg.nrrd with layers, the segments are found by name or code; others may
    overlap them. Where two of them overlap, a structure keeps what lies within its organ.
    """
    drawn = {key: value for key, value in map(_halves, [*(organ or []), *(corrected or []), *(pseudo or [])])}
    said = {
        LabelStatus.ANNOTATED: [_halves(text)[0] for text in [*(organ or []), *(corrected or [])]],
        LabelStatus.PSEUDO: [_halves(text)[0] for text in pseudo or []],
        LabelStatus.ABSENT: absent or [],
    }
    statuses = _statuses(said)
    if not statuses:
        msg = "Say what the case holds."
        raise OptionError(msg, next_step="Pass --organ, --corrected, --pseudo or --absent with an organ key.")
    volume, table = None, None
    if labels is not None and has_named_layers(labels):
        named = {key: None if part is None else str(part) for key, part in drawn.items()}
        volume, table = read_named_labels(labels, load_project(folder), case, named)
    elif labels is not None:
        volume = read_labels(labels)
        table = _values(drawn, labels, volume, load_project(folder).table)
    saved = save_annotation(
        folder,
        case,
        None if volume is None else volume.voxels,
        statuses,
        table=table,
        affine=None if volume is None else volume.affine,
        corrected=[_halves(text)[0] for text in corrected or []],
    )
    for key, status in statuses.items():
        out.print(Text(f"{case}: {key} is {status.value}, {saved.voxels[key]} voxels."), soft_wrap=True)
    for key, voxels in saved.taken.items():
        out.print(Text(f"{voxels} voxels of {key} went to these organs."), soft_wrap=True)


def _values(
    drawn: Mapping[str, int | str | None], labels: Path, volume: Volume, project: LabelTable
) -> LabelTable:
    own = _own_table(labels)
    occurring = np.unique(volume.voxels)
    occurring = occurring[occurring > 0]
    values: dict[int, str] = {}
    for key, value in drawn.items():
        if isinstance(value, str):
            msg = f"'{key}={value}' names no label value."
            raise OptionError(msg, next_step="Write it as gallbladder=1; label maps have no names.")
        if value is None and own is not None:
            value = own.value(key)
        elif value is None and len(drawn) == len(occurring) == 1:
            value = int(occurring[0])
        elif value is None:
            value = project.value(key)
        if values.setdefault(value, key) != key:
            msg = f"The value {value} of {labels.name} is given to {values[value]} and {key}."
            raise OptionError(msg, next_step=f"Say which value is which: --organ {key}=VALUE")
    return LabelTable(values)


def _own_table(labels: Path) -> LabelTable | None:
    has_table = label_table_path(labels).is_file() or labels.name.lower().endswith(".seg.nrrd")
    return read_label_table(labels) if has_table else None


def _statuses(said: Mapping[LabelStatus, list[str]]) -> dict[str, LabelStatus]:
    row: dict[str, LabelStatus] = {}
    for status, keys in said.items():
        for key in keys:
            if row.get(key) is status:
                msg = f"'{key}' is named twice."
                raise OptionError(msg, next_step="Name it once.")
            if row.setdefault(key, status) is not status:
                msg = f"'{key}' cannot be {row[key].value} and {status.value} in one case."
                raise OptionError(msg, next_step="Name it once.")
    return row


def _custom_organ(organs: list[str], name: str, color: str) -> CustomOrgan | None:
    if not name and not color:
        return None
    digits = re.fullmatch(r"#?([0-9a-fA-F]{6})", color.strip())
    if len(organs) != 1 or not name.strip() or digits is None:
        msg = "An organ of your own needs one key, a name and a colour."
        raise OptionError(
            msg, next_step="For example: add-organ P appendix_mass --name 'Appendix mass' --color '#d08040'"
        )
    red, green, blue = bytes.fromhex(digits[1])
    return CustomOrgan(name.strip(), (red, green, blue))


def _keys(text: str) -> list[str]:
    return [key.strip() for key in text.split(",") if key.strip()]


def _halves(text: str) -> tuple[str, int | str | None]:
    key, separator, part = (each.strip() for each in text.partition("="))
    if not separator:
        return key, None
    if not part or (part.isdecimal() and not 0 < int(part) < 65536):
        msg = f"'{text}' names no label value."
        raise OptionError(msg, next_step="Write it as gallbladder=1.")
    return key, int(part) if part.isdecimal() else part
