"""One project of two collections: head and neck as contoured, abdomen dealt out to sites.

    python research/union.py project NECK BTCV PROJECT
    python research/sweep.py research/union-sweep.toml --data PROJECT --runs RUNS
    python research/union.py table RUNS

NECK is the project that openkbp.py made, BTCV holds `images/` and `labels/`. Each site annotates a part of
the organs and scans in its own way: contrast phase, slice thickness, noise, field of view. The four CTs of
the fold stay as they are, with all their organs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import SimpleITK as sitk
import torch
import typer

from multiorganseg_training.data.appearance import PHASES, change_phase
from multiorganseg_training.data.cases import find_cases
from multiorganseg_training.project import (
    LabelStatus,
    LabelStatusMatrix,
    MergeOptions,
    import_folder,
    load_project,
    merge_projects,
)
from multiorganseg_training.recipe.file import load_recipe

ROOT = Path(__file__).resolve().parents[1]
ABDOMEN = load_recipe(ROOT / "Training" / "recipes" / "abdomen-ct.toml")
FOLD, TABLE, WINDOW = ABDOMEN.data.validation, ABDOMEN.data.table, ABDOMEN.preprocessing.window


@dataclass(frozen=True)
class Site:
    """What a hospital annotates, and how it scans.

    Attributes:
        organs: Their keys.
        phase: One of `PHASES`; empty for the portal-venous one of the collection.
        slices: How many slices become one.
        noise_hu: Standard deviation of white noise.
        field: Share of the width and the depth that is shown.
    """

    organs: tuple[str, ...]
    phase: str = ""
    slices: int = 1
    noise_hu: float = 0.0
    field: float = 1.0


SITES = (
    Site(("spleen",)),
    Site(("kidney_right", "kidney_left"), phase="late", noise_hu=10.0),
    Site(("gallbladder",), noise_hu=20.0),
    Site(("esophagus",), phase="arterial", field=0.85),
    Site(("liver",), phase="unenhanced", slices=2),
    Site(("stomach",), slices=2),
    Site(("aorta", "inferior_vena_cava", "portal_vein_and_splenic_vein"), phase="arterial", noise_hu=10.0),
    Site(("pancreas",), noise_hu=15.0, field=0.85),
    Site(("adrenal_gland_right", "adrenal_gland_left"), phase="late"),
)


def dealt(names: list[str]) -> dict[str, Site | None]:
    """Return the site of each case, in turn in the order of the names; None for the fold."""
    training = [name for name in sorted(names) if name not in FOLD]
    return {name: None for name in FOLD} | {
        name: SITES[number % len(SITES)] for number, name in enumerate(training)
    }


def scanned(
    image: sitk.Image, labels: sitk.Image, site: Site, generator: np.random.Generator
) -> tuple[sitk.Image, sitk.Image]:
    """Return a CT and its labels as the site would have scanned them.

    Args:
        image: HU of the collection.
        labels: Values of `TABLE`, on the image's grid.
        site: Where.
        generator: Source of all randomness.

    Returns:
        Both, on a grid of their own.
    """
    looks = sitk.GetArrayFromImage(image).astype(np.float64)
    if site.phase:
        low, high = WINDOW
        patch = torch.from_numpy((looks - low) * (2 / (high - low)) - 1).float()[None]
        values = torch.from_numpy(sitk.GetArrayFromImage(labels).astype(np.int64))
        changed = change_phase(patch, values, TABLE.organs, WINDOW, generator, PHASES[site.phase])
        looks = (changed[0].double().numpy() + 1) * ((high - low) / 2) + low
    looks += generator.normal(0, site.noise_hu, looks.shape)
    made = sitk.GetImageFromArray(np.round(looks.clip(*WINDOW)).astype(np.int16))
    made.CopyInformation(image)
    size = made.GetSize()
    margin = [round(number * (1 - site.field) / 2) for number in size[:2]] + [0]
    made, labels = (sitk.Crop(each, margin, margin) for each in (made, labels))
    if site.slices > 1:
        factors = [1, 1, site.slices]
        made = sitk.Cast(sitk.BinShrink(made, factors), sitk.sitkInt16)
        labels = sitk.Resample(labels, made, sitk.Transform(), sitk.sitkNearestNeighbor)
    return made, labels


def _scan(image_file: Path, site: Site | None, folder: Path, generator: np.random.Generator) -> None:
    labels_file = image_file.parents[1] / "labels" / image_file.name
    image, labels = sitk.ReadImage(str(image_file)), sitk.ReadImage(str(labels_file))
    if site is not None:
        image, labels = scanned(image, labels, site, generator)
    for kind, each in (("images", image), ("labels", labels)):
        (folder / kind).mkdir(exist_ok=True)
        sitk.WriteImage(each, str(folder / kind / image_file.name), useCompression=True)


app = typer.Typer(add_completion=False)


@app.command()
def project(
    neck: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Project of openkbp.py.")],
    btcv: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="images/ and labels/.")],
    made: Annotated[Path, typer.Argument(help="Folder of the new project.")],
) -> None:
    """Make the project of both collections."""
    cases = {case.name: case for case in find_cases(btcv)}
    sites = dealt(list(cases))
    known = {
        name: dict.fromkeys(site.organs if site else TABLE.keys, LabelStatus.ANNOTATED)
        for name, site in sites.items()
    }
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for number, (name, site) in enumerate(sorted(sites.items())):
            _scan(cases[name].image, site, folder, np.random.default_rng(number))
        status = LabelStatusMatrix(TABLE.keys, known)
        abdomen = import_folder(folder, folder / "project", TABLE, name="btcv", status=status)
        merged = merge_projects([load_project(neck), abdomen], made, "union", MergeOptions({}, hardlink=True))
    typer.echo(f"{len(merged.cases)} cases of {len(merged.table.keys)} organs in {made}")


@app.command()
def table(
    runs: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Of the sweep.")],
) -> None:
    """Print Dice by organ, of the fold of each collection: medians over the seeds, means with their range."""
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for file in sorted(runs.glob("*/evaluation-linear/evaluation.json")):
        name = file.parents[1].name.rpartition("-")[0]
        rows.setdefault(name, []).append(json.loads(file.read_text(encoding="utf-8"))["cases"])
    typer.echo(f"| collection | organ | {' | '.join(rows)} |\n|---|---|{'---|' * len(rows)}")
    for collection in ("openkbp", "btcv"):
        measured = [[by_organ(cases, collection) for cases in row] for row in rows.values()]
        for organ in dict.fromkeys(organ for row in measured for seed in row for organ in seed):
            cells = [over_seeds([seed[organ] for seed in row if organ in seed]) for row in measured]
            typer.echo(f"| {collection} | {organ} | {' | '.join(cells)} |")
        means = [over_seeds([fmean(seed.values()) for seed in row if seed], ranged=True) for row in measured]
        typer.echo(f"| {collection} | mean of those | {' | '.join(means)} |")


def over_seeds(values: Sequence[float], ranged: bool = False) -> str:
    """Return the median as text, and the range where it is asked for; empty text for no values."""
    if not values:
        return ""
    middle = f"{median(values):.3f}"
    return f"{middle} ({min(values):.3f} – {max(values):.3f})" if ranged and len(values) > 1 else middle


def by_organ(cases: Mapping[str, Mapping[str, Any]], collection: str) -> dict[str, float]:
    """Return the mean Dice of each organ over the cases of a collection in which it is defined."""
    found: dict[str, list[float]] = {}
    for name, organs in cases.items():
        for organ, measured in organs.items() if name.startswith(collection) else ():
            if measured["dice"] is not None:
                found.setdefault(organ, []).append(measured["dice"])
    return {organ: fmean(values) for organ, values in found.items()}


if __name__ == "__main__":
    app()
