"""An evaluation as tables for the terminal."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

from rich.table import Table

from multiorganseg_training.evaluation.evaluate_run import Evaluation
from multiorganseg_training.evaluation.means import (
    LTUDA_METRICS,
    METRICS,
    OrganMeans,
    mean_over_organs,
    organ_means,
)

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
    """Give a title and the table of the reading of LTUDA, then those of all metrics."""
    options, recipe = evaluation.options, evaluation.recipe
    number = len(evaluation.cases)
    cases = f"{number} {options.split.value} {'case' if number == 1 else 'cases'}, on the network's grid"
    yield f"As LTUDA reads it: {cases}", _table(evaluation, LTUDA_METRICS, "Slices skipped", _skipped)
    spacing = " × ".join(f"{size:g}" for size in recipe.preprocessing.spacing_mm)
    yield f"In full: {cases} of {spacing} mm (k, j, i)", _table(evaluation, METRICS, "Empty", _empty)


def evaluation_title(evaluation: Evaluation) -> str:
    """Say what was measured."""
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
