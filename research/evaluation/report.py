"""An evaluation as JSON, as CSV, and as tables for the terminal."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from rich.table import Table

from multiorganseg.atomic import write_text_atomically
from multiorganseg.text import csv_text
from research.evaluation.measure import (
    LTUDA_METRICS,
    METRICS,
    Evaluation,
    OrganMeans,
    OrganResult,
    mean_over_organs,
    organ_means,
)

JSON_FILE = "evaluation.json"
CSV_FILE = "evaluation.csv"


def write_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """Write `evaluation.json` and `evaluation.csv` into a folder.

    Raises:
        ResourceError: A file cannot be written.
    """
    content = json.dumps(evaluation_report(evaluation), indent=2, ensure_ascii=False)
    write_text_atomically(folder / JSON_FILE, content + "\n")
    write_text_atomically(folder / CSV_FILE, evaluation_csv(evaluation))


def evaluation_report(evaluation: Evaluation) -> dict[str, Any]:
    """Return what was measured, JSON-serialisable, with null for values that are not defined."""
    organs = organ_means(evaluation.cases)
    overall = mean_over_organs(organs)
    options = evaluation.options
    return {
        "recipe": evaluation.recipe.name,
        "seed": evaluation.recipe.seed,
        "run": evaluation.run.absolute().name,
        "iteration": evaluation.iteration,
        "weights": options.weights.value,
        "classifier": options.classifier.value,
        "split": options.split.value,
        "largest_components": options.components,
        "grid": "the network's",
        "spacing_mm": list(evaluation.recipe.preprocessing.spacing_mm),
        "tolerance_mm": options.tolerance_mm,
        "ltuda": {
            **_reading(organs, overall, LTUDA_METRICS),
            "slices": {key: means.slices for key, means in organs.items()},
            "slices_skipped": {key: means.slices_skipped for key, means in organs.items()},
        },
        "full": {
            **_reading(organs, overall, METRICS),
            "empty_predictions": {key: means.empty for key, means in organs.items()},
            "invented": {key: means.invented for key, means in organs.items()},
        },
        "cases": {
            name: {result.organ: _defined_values(result) for result in results}
            for name, results in evaluation.cases.items()
        },
    }


def evaluation_csv(evaluation: Evaluation) -> str:
    """Return one row a case and organ, cells empty where a value is not defined."""
    columns = [field.name for field in fields(OrganResult)]
    rows = (
        {"case": name, **{key: _defined(value) for key, value in asdict(result).items()}}
        for name, results in evaluation.cases.items()
        for result in results
    )
    return csv_text(["case", *columns], rows)


def _reading(organs: dict[str, OrganMeans], overall: OrganMeans, names: Iterable[str]) -> dict[str, Any]:
    listed = tuple(names)
    return {
        "organs": {key: _means(means, listed) for key, means in organs.items()},
        "mean": _means(overall, listed),
    }


def _means(means: OrganMeans, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    taken = ((name, means.metrics[name]) for name in names)
    return {
        name: {"mean": _defined(mean.value), "count": mean.count, "undefined": mean.undefined}
        for name, mean in taken
    }


def _defined_values(result: OrganResult) -> dict[str, Any]:
    return {name: _defined(value) for name, value in asdict(result).items() if name != "organ"}


def _defined(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return round(float(value), 6) if math.isfinite(value) else None


HEADERS = {
    "dice": "Dice",
    "hd_slice2d_ltuda": "HD of slices, pixels",
    "jaccard": "Jaccard",
    "nsd": "NSD {0:g} mm",
    "hd95_mm": "HD95 mm",
    "asd_mm": "ASD mm",
    "hd95_voxels": "HD95 vox",
    "asd_voxels": "ASD vox",
}
DIGITS = {"dice": 3, "jaccard": 3, "nsd": 3}
OTHER_DIGITS = 2


def evaluation_tables(evaluation: Evaluation) -> Iterator[tuple[str, Table]]:
    """Return a title and the table of the reading of LTUDA, then those of all metrics."""
    options, recipe = evaluation.options, evaluation.recipe
    number = len(evaluation.cases)
    cases = f"{number} {options.split.value} {'case' if number == 1 else 'cases'}, on the network's grid"
    yield f"As LTUDA reads it: {cases}", _table(evaluation, LTUDA_METRICS, "Slices skipped", _skipped)
    spacing = " × ".join(f"{size:g}" for size in recipe.preprocessing.spacing_mm)
    yield f"In full: {cases} of {spacing} mm (k, j, i)", _table(evaluation, METRICS, "Empty", _empty)


def evaluation_title(evaluation: Evaluation) -> str:
    """Return what was measured."""
    options = evaluation.options
    components = "largest components" if options.components else "all components"
    return (
        f"{evaluation.recipe.name}, seed {evaluation.recipe.seed}, iteration {evaluation.iteration}: "
        f"{options.weights.value} weights, {options.classifier.value} classifier, {components}"
    )


def _table(
    evaluation: Evaluation, names: tuple[str, ...], left_out: str, tell: Callable[[OrganMeans], str]
) -> Table:
    organs = organ_means(evaluation.cases)
    overall = mean_over_organs(organs)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("Organ", overflow="fold")
    for name in names:
        table.add_column(HEADERS[name].format(evaluation.options.tolerance_mm), justify="right")
    table.add_column(left_out, justify="right")
    for key, means in organs.items():
        table.add_row(key, *_cells(means, names), tell(means))
    table.add_row()
    table.add_row("Mean", *_cells(overall, names), tell(overall), style="bold")
    table.add_row("of organs", *(f"{overall.metrics[name].count} of {len(organs)}" for name in names))
    return table


def _cells(means: OrganMeans, names: Iterable[str]) -> list[str]:
    return [_text(means.metrics[name].value, DIGITS.get(name, OTHER_DIGITS)) for name in names]


def _skipped(means: OrganMeans) -> str:
    return f"{means.slices_skipped} of {means.slices}"


def _empty(means: OrganMeans) -> str:
    return f"{means.empty} of {means.cases}"


def _text(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"
