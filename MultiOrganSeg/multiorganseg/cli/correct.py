"""`multiorganseg correct`: a segmentation and what is wrong with it in, a better one out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.text import Text

from multiorganseg.bundles import find_bundle
from multiorganseg.cli.console import out, printable
from multiorganseg.cli.errors import reported_errors
from multiorganseg.cli.inputs import Case, expand_inputs
from multiorganseg.cli.kept import keep_inputs
from multiorganseg.cli.progress_bar import progress_bar
from multiorganseg.errors import OptionError, OrganError
from multiorganseg.organs.catalogue import Catalogue, load_catalogue
from multiorganseg.organs.labels import LabelTable
from multiorganseg.organs.table_file import known_key
from multiorganseg.progress import Progress, Stage
from multiorganseg.refine import NetworkMaps, Prompt, Session
from multiorganseg.refine.files import catalogue_with, read_start, write_corrected
from multiorganseg.results.segmentation import Author
from multiorganseg.results.write import plan_outputs
from multiorganseg.volumes.volume import Grid, Volume

if TYPE_CHECKING:
    from multiorganseg.bundles import Bundle

NOTHING = "none"


@reported_errors()
def correct(
    image: Annotated[Path, typer.Argument(help="The CT or MR: a file or a DICOM folder.")],
    segmentation: Annotated[
        Path, typer.Argument(help=f"Labels on the image's grid; '{NOTHING}' to start from nothing.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="A .seg.nrrd or .nii.gz file, or a folder.")],
    organ: Annotated[str, typer.Option(help="Key or name of the organ to correct.")],
    add: Annotated[
        list[str] | None,
        typer.Option(help="Voxel i,j,k that belongs to it; several with blanks between make a scribble."),
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option(help="Voxel i,j,k that does not belong to it; scribbles as above.")
    ] = None,
    add_lps: Annotated[
        list[str] | None,
        typer.Option("--lps", "--add-lps", help="Point x,y,z in LPS mm that belongs to it; scribbles too."),
    ] = None,
    remove_lps: Annotated[
        list[str] | None, typer.Option("--remove-lps", help="Point x,y,z in LPS mm that does not.")
    ] = None,
    new: Annotated[
        bool, typer.Option("--new", help="The organ is not in the segmentation yet: let it join.")
    ] = False,
    lock: Annotated[
        list[str] | None, typer.Option(help="Organs that must not change, separated by commas, or 'all'.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Label table of the segmentation, JSON.")] = None,
    model: Annotated[
        str, typer.Option(help=f"Whose features are looked at; '{NOTHING}' for intensity alone.")
    ] = "abdomen-ct",
    features: Annotated[
        Path | None,
        typer.Option(help="File (.npz) that keeps the features: read where it is there, else written."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Correct an organ of a segmentation by points; positive ones are answered first, then negative ones.

    Points are voxels of IMAGE counted from 0, as 3D Slicer shows them, or LPS mm. A point that is added is
    always in the organ afterwards, one that is removed never; the rest of the organ follows as far as the
    point can mean it. Other organs lose voxels only to an organ that is added to, and none that is locked.
    """
    with keep_inputs([image, segmentation, labels, features, Path(model)]), progress_bar() as progress:
        case = _one_case(image)
        plan_outputs(case.output(output), str(case), formats=_formats(output), preview=False)
        progress(Stage.READING, 0.0)
        volume = case.read()
        table, start, authors = (
            (LabelTable({}), np.zeros(volume.grid.shape, np.uint8), dict[str, Author]())
            if str(segmentation) == NOTHING
            else read_start(segmentation, labels, volume.grid)
        )
        catalogue, key = _organ(organ, table, new)
        prompts = [
            *_prompts(add, volume.grid, lps=False, positive=True),
            *_prompts(add_lps, volume.grid, lps=True, positive=True),
            *_prompts(remove, volume.grid, lps=False, positive=False),
            *_prompts(remove_lps, volume.grid, lps=True, positive=False),
        ]
        if not prompts:
            msg = "No point says what is wrong."
            raise OptionError(msg, next_step="Give --add i,j,k or --remove i,j,k, or a point by --lps x,y,z.")
        for prompt in prompts:
            prompt.check(volume.grid.shape)
        locked = _locked(lock or (), table, key)
        session = Session(volume, start, table, _maps(volume, model, features, device, progress))
        if new:
            session.add_organ(key)
        progress("correcting", 0.0)
        change = session.correct(key, prompts, locked)
        progress(Stage.WRITING, 0.0)
        files = write_corrected(
            session,
            case.output(output),
            _formats(output),
            catalogue,
            authors,
            {"segmentation": str(segmentation)},
        )
    gained = int(np.count_nonzero(change.labels == session.table.value(key)))
    gained -= int(np.count_nonzero(change.before == session.table.value(key)))
    sign = "+" if gained >= 0 else "−"
    out.print(
        Text(
            f"{printable(catalogue.get(key).name)}: {sign}{abs(gained)} voxels, "
            f"{abs(gained) * volume.grid.voxel_volume / 1000:.1f} ml; {change.voxels} voxels changed."
        )
    )
    for file in files:
        out.print(f"  {printable(str(file))}", soft_wrap=True)


def _formats(output: Path) -> frozenset[str]:
    return frozenset() if output.name.lower().endswith((".seg.nrrd", ".nii.gz")) else frozenset({"seg.nrrd"})


def _one_case(image: Path) -> Case:
    cases = expand_inputs([image])
    if len(cases) != 1:
        msg = f"{image} holds {len(cases)} images."
        raise OptionError(msg, next_step="Name the one to which the segmentation belongs.")
    return cases[0]


def _organ(name: str, table: LabelTable, new: bool) -> tuple[Catalogue, str]:
    """Find the organ's key, and a catalogue that knows all organs of the table and this one."""
    known = load_catalogue()
    key = name if name in table.keys else known_key(name, known) or _key_of(name)
    if new == (key in table.keys):
        here = ", ".join(table.keys) or "none"
        msg = f"The segmentation has an organ '{key}' already." if new else f"No organ '{name}' here."
        next_step = (
            "Leave --new out to correct it."
            if new
            else f"Choose among: {here}. To let '{name}' join, pass --new."
        )
        raise OrganError(msg, next_step=next_step)
    return catalogue_with([*table.keys, key], {key: name.strip()} if new else None), key


def _key_of(name: str) -> str:
    key = "_".join(re.findall(r"[a-z0-9]+", name.lower()))
    if not key or not key[0].isalpha():
        msg = f"'{name}' is no name for an organ."
        raise OrganError(msg, next_step="Use letters and digits, and begin with a letter.")
    return key


def _locked(said: Sequence[str], table: LabelTable, own: str) -> list[str]:
    names = [part.strip() for text in said for part in text.split(",") if part.strip()]
    if names == ["all"]:
        return [key for key in table.keys if key != own]
    known = load_catalogue()
    return [name if name in table.keys else known_key(name, known) or name for name in names]


def _prompts(texts: Sequence[str] | None, grid: Grid, *, lps: bool, positive: bool) -> list[Prompt]:
    prompts = []
    for text in texts or ():
        points = [_numbers(part, text, lps) for part in re.split(r"[\s;]+", text.strip())]
        if lps:
            voxels = np.rint(grid.to_index(np.array(points))).astype(int).tolist()
        else:
            voxels = [point[::-1] for point in points]
        make = Prompt.click if len(voxels) == 1 else Prompt.scribble
        prompts.append(make(voxels[0] if len(voxels) == 1 else voxels, positive=positive))
    return prompts


def _numbers(part: str, text: str, lps: bool) -> list[Any]:
    try:
        numbers = [float(number) if lps else int(number) for number in part.split(",")]
        if len(numbers) == 3 and np.isfinite(numbers).all() and np.abs(numbers).max() < 1e9:
            return numbers
    except ValueError:
        pass
    what = "x,y,z in mm" if lps else "three whole numbers i,j,k"
    msg = f"'{text}' is no point."
    raise OptionError(msg, next_step=f"Write it as {what}, such as 120,84,33.")


def _maps(
    volume: Volume, model: str, features: Path | None, device: str, progress: Progress
) -> NetworkMaps | None:
    if features is not None and features.exists():
        maps = NetworkMaps.load(features)
        maps.check(volume)
        return maps
    if model == NOTHING:
        return None
    bundle: Bundle = find_bundle(model)
    from multiorganseg.inference.segment import Options, Segmenter

    maps = Segmenter(bundle, Options(device=device)).record(volume, progress)
    if features is not None:
        maps.save(features)
    return maps
