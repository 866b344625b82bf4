"""What a network loses where a scan is not like those that it was trained on, by organ.

See docs/results/changed-scans.md.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from harness.changed_scans import CHANGES, Scan, upright
from harness.machine import describe_machine
from harness.report import Report, publish
from rich.console import Console
from rich.progress import Progress as Bar

from multiorganseg.bundles import Bundle, find_bundle
from multiorganseg.inference.segment import Options, Segmenter
from multiorganseg.metrics import dice
from multiorganseg.volumes.read import read_labels, read_volume
from multiorganseg_training.data.cache import to_channels
from multiorganseg_training.data.cases import Case, find_cases
from multiorganseg_training.recipe.file import load_recipe

RECIPE = Path(__file__).resolve().parent.parent.parent / "Training" / "recipes" / "abdomen-ct.toml"
OUTPUT = Path("build/benchmarks")
LEAST_ML = 0.5

console = Console(stderr=True, highlight=False)

Scores = dict[str, dict[str, dict[str, float]]]
"""Dice by change, case and organ."""


def main(
    data: Annotated[Path, typer.Option(help="Folder with images/ and labels/ of equal file names.")],
    case: Annotated[list[str], typer.Option(help="Name of a case; repeatable.")],
    output: Annotated[Path, typer.Option(help="Folder for the table and JSON.")] = OUTPUT,
    model: Annotated[str, typer.Option(help="Bundle, by name or folder.")] = "abdomen-ct",
    recipe: Annotated[Path, typer.Option(help="Recipe that says what the label values mean.")] = RECIPE,
    change: Annotated[
        list[str] | None, typer.Option(help=f"Some of: {', '.join(CHANGES)}; repeatable, all when left out.")
    ] = None,
    quality: Annotated[str, typer.Option(help="fast, balanced or best.")] = "balanced",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Change scans in known ways, segment them as a user would, and compare with the scans as they are."""
    machine = describe_machine()
    bundle = find_bundle(model)
    segmenter = Segmenter(bundle, Options(quality=quality, device=device, time_limit=float("inf")))
    channels = load_recipe(recipe).data.channels
    found = {entry.name: entry for entry in find_cases(data)}
    wanted = list(dict.fromkeys([next(iter(CHANGES)), *(change or CHANGES)]))
    scores: Scores = {name: {} for name in wanted}
    messages: dict[str, list[str]] = {name: [] for name in wanted}
    millilitres: dict[str, dict[str, dict[str, tuple[float, float]]]] = {name: {} for name in wanted}
    with Bar(console=console) as bar:
        task = bar.add_task("", total=len(case) * len(wanted))
        for name in case:
            scan = _read(found[name], bundle, channels)
            for row in wanted:
                bar.update(task, description=f"{name}, {row}")
                changed = CHANGES[row](scan)
                result = segmenter.segment(changed.volume)
                scores[row][name] = compare(result.labels, changed)
                millilitres[row][name] = volumes(result.labels, changed)
                messages[row] += result.provenance["messages"]
                bar.advance(task)
    rows = summarise(scores)
    title = f"{bundle.metadata.name} {bundle.metadata.version} on {', '.join(case)}, {quality}"
    raw = {"scores": scores, "summary": rows, "messages": messages, "found_and_reference_ml": millilitres}
    publish("robustness", output, machine, [_report(title, rows), _organ_report(rows, bundle)], raw)


def compare(labels: np.ndarray, scan: Scan) -> dict[str, float]:
    """Return the Dice of each organ of which the changed scan still shows half a millilitre."""
    scores = {}
    for value, key in scan.organs.items():
        reference = scan.labels == value
        if np.count_nonzero(reference) * scan.volume.grid.voxel_volume >= LEAST_ML * 1000:
            scores[key] = dice(labels == value, reference)
    return scores


def volumes(labels: np.ndarray, scan: Scan) -> dict[str, tuple[float, float]]:
    """Return of each organ the millilitres that were found and those of the reference."""
    ml = scan.volume.grid.voxel_volume / 1000
    return {
        key: (np.count_nonzero(labels == value) * ml, np.count_nonzero(scan.labels == value) * ml)
        for value, key in scan.organs.items()
    }


def summarise(scores: Scores) -> list[dict]:
    """Return the mean Dice of each change and organ over the cases, and its loss.

    The loss of an organ is against the same organs and cases in the first row, so that organs which a change
    takes away count for neither.
    """
    first = next(iter(scores.values()))
    rows = []
    for name, by_case in scores.items():
        organs: dict[str, tuple[float, float]] = {}
        for key in dict.fromkeys(key for found in by_case.values() for key in found):
            pairs = [(found[key], first[case][key]) for case, found in by_case.items() if key in found]
            pairs = [pair for pair in pairs if not math.isnan(sum(pair))]
            organs[key] = tuple(np.mean(pairs, axis=0).tolist())
        now, before = np.mean(list(organs.values()), axis=0).tolist()
        losses = {key: before_ - now_ for key, (now_, before_) in organs.items()}
        worst = max(losses, key=lambda key: losses[key])
        rows.append(
            {
                "change": name,
                "mean": now,
                "loss": before - now,
                "worst": worst,
                "worst_loss": losses[worst],
                "organs": {key: value for key, (value, _) in organs.items()},
            }
        )
    return rows


def _read(case: Case, bundle: Bundle, channels: dict[int, int]) -> Scan:
    if case.labels is None or bundle.metadata.preprocessing.window is None:
        msg = "A CT bundle and a case with labels are needed."
        raise typer.BadParameter(msg)
    labels = to_channels(read_labels(case.labels).voxels, channels)
    window = bundle.metadata.preprocessing.window
    return upright(Scan(read_volume(case.image), labels, dict(bundle.metadata.labels.organs), window))


def _report(title: str, rows: list[dict]) -> Report:
    header = ("Change", "Dice", "loss", "worst organ", "its loss")
    cells = [
        (
            row["change"],
            f"{row['mean']:.3f}",
            f"{row['loss']:+.3f}",
            row["worst"] if row["worst_loss"] > 0 else "–",
            f"{row['worst_loss']:+.3f}",
        )
        for row in rows
    ]
    note = "Losses are against the same organs and cases in the first row. Organs under 0.5 ml are left out."
    return Report(title, header, cells, notes=(note,))


def _organ_report(rows: list[dict], bundle: Bundle) -> Report:
    keys = bundle.metadata.labels.keys
    cells = [
        (row["change"], *(f"{row['organs'][key]:.2f}" if key in row["organs"] else "–" for key in keys))
        for row in rows
    ]
    return Report("Dice by organ", ("Change", *keys), cells)


if __name__ == "__main__":
    typer.run(main)
