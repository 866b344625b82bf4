"""What each quality costs and gains: Dice on the validation fold and seconds a case.

See docs/results/accuracy.md.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from harness.machine import describe_machine
from harness.report import Report, publish
from rich.console import Console

from multiorganseg.bundles import find_bundle
from multiorganseg.inference.preflight import OVERLAPS
from multiorganseg.inference.segment import Options, Segmenter
from multiorganseg.metrics import OrganScore, evaluate
from multiorganseg.metrics.report import MetricMean, mean_by_organ, mean_over_organs
from multiorganseg.organs.labels import LabelTable
from multiorganseg.volumes.read import read_labels, read_volume
from multiorganseg_training.data.cases import Case, find_cases, split_cases
from multiorganseg_training.recipe.file import load_recipe

RECIPE = Path(__file__).resolve().parent.parent.parent / "Training" / "recipes" / "abdomen-ct.toml"
OUTPUT = Path("build/benchmarks")

console = Console(stderr=True, highlight=False)


def main(
    data: Annotated[Path, typer.Option(help="Folder with images/ and labels/ of equal file names.")],
    output: Annotated[Path, typer.Option(help="Folder for the table and JSON.")] = OUTPUT,
    model: Annotated[str, typer.Option(help="Bundle, by name or folder.")] = "abdomen-ct",
    quality: Annotated[list[str] | None, typer.Option(help="fast, balanced or best; repeatable.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    limit: Annotated[int, typer.Option(help="Use the first so many cases of the fold; 0 for all.")] = 0,
) -> None:
    """Segment the validation fold of the recipe in each quality, as a user would, and score it."""
    machine = describe_machine()
    recipe = load_recipe(RECIPE)
    fold = split_cases(find_cases(data), recipe.data)[1][: limit or None]
    bundle = find_bundle(model)
    results = []
    for name in quality or OVERLAPS:
        segmenter = Segmenter(bundle, Options(quality=name, device=device, time_limit=float("inf")))
        results.append({"quality": name, **measure_fold(segmenter, fold, recipe.data.table)})
    title = f"{bundle.metadata.name} {bundle.metadata.version} on {', '.join(case.name for case in fold)}"
    publish("quality", output, machine, [_report(title, results), _organ_report(results)], results)


def measure_fold(segmenter: Segmenter, fold: list[Case], table: LabelTable) -> dict:
    """Segment and score cases; the network is loaded before the clock starts.

    Returns:
        Mean seconds and windows a case, means of the metrics over organs, and by organ.
    """
    scores: list[OrganScore] = []
    seconds, windows = [], []
    backend = ""
    segmenter.segment(read_volume(fold[0].image))
    for case in fold:
        console.print(f"{case.name}, {segmenter.options.quality} …")
        volume, reference = read_volume(case.image), read_labels(case.labels)
        started = time.perf_counter()
        result = segmenter.segment(volume)
        seconds.append(time.perf_counter() - started)
        windows.append(result.provenance["windows"])
        backend = result.provenance["backend"]
        scores += evaluate(result.labels, result.table, reference.voxels, table, volume.grid)
    by_organ = mean_by_organ(scores)
    return {
        "backend": backend,
        "overlap": result.provenance["overlap"],
        "windows": sum(windows) / len(windows),
        "seconds": sum(seconds) / len(seconds),
        "mean": _plain(mean_over_organs(by_organ)),
        "organs": {key: _plain(means) for key, means in by_organ.items()},
    }


def _plain(means: dict[str, MetricMean]) -> dict[str, dict]:
    return {
        name: {**asdict(mean), "value": None if math.isnan(mean.value) else mean.value}
        for name, mean in means.items()
    }


def _text(entry: dict, metric: str, digits: int) -> str:
    value = entry[metric]["value"]
    return "–" if value is None else f"{value:.{digits}f}"


def _report(title: str, results: list[dict]) -> Report:
    rows: list[tuple[str, ...]] = [
        (
            entry["quality"],
            f"{entry['overlap']:.0%}",
            f"{entry['windows']:.1f}",
            f"{entry['seconds']:.1f}",
            _text(entry["mean"], "dice", 4),
            _text(entry["mean"], "nsd", 4),
            _text(entry["mean"], "hd95_mm", 2),
        )
        for entry in results
    ]
    header = ("Quality", "overlap", "windows", "seconds a case", "Dice", "NSD 2 mm", "HD95 mm")
    notes = (
        f"Means over organs, then cases. Seconds without reading and loading ({results[0]['backend']}).",
    )
    return Report(title, header, rows, notes=notes)


def _organ_report(results: list[dict]) -> Report:
    rows: list[tuple[str, ...]] = [
        (key, *(_text(entry["organs"][key], "dice", 3) for entry in results)) for key in results[0]["organs"]
    ]
    return Report("Dice by organ", ("Organ", *(entry["quality"] for entry in results)), rows)


if __name__ == "__main__":
    typer.run(main)
