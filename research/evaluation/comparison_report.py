"""A comparison as a table, as Markdown, as JSON and as curves."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from multiorganseg.atomic import write_text_atomically
from multiorganseg.pictures import drawn
from research.evaluation.comparison import BEST, Comparison, RecipeRuns, Spread
from research.evaluation.curves import draw_curves
from research.evaluation.finished import MEAN

MARKDOWN_FILE, JSON_FILE, CURVES_FILE = "comparison.md", "comparison.json", "curves.png"
WIDE, FIRST_COLUMN, RANGE_COLUMN = 120, 31, 15
OPTIMISTIC = f"{BEST} (optimistic)"
CAPTION = (
    "Dice on the validation fold, on the network's grid: median over seeds, in brackets lowest and highest. "
    "Last and averaged are the networks at the end of the training, without post-processing. Best on the "
    "fold is chosen among all validated networks by the cases that measure it: optimistic, no basis for a "
    "choice. Evaluated lines come from the `evaluate` command."
)
METRICS = {
    "ltuda.hd_slice2d_ltuda": ("HD by slices as in LTUDA, pixels", 2),
    "full.jaccard": ("Jaccard", 3),
    "full.nsd": ("NSD", 3),
    "full.hd95_mm": ("HD95, mm", 2),
    "full.asd_mm": ("ASD, mm", 2),
    "full.hd95_voxels": ("HD95, voxels", 2),
    "full.asd_voxels": ("ASD, voxels", 2),
    "full.empty_predictions": ("Empty predictions", 0),
}
METRICS_CAPTION = (
    "Means over organs. Empty predictions are in no distance: read distances together with their number."
)


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Write `comparison.md`, `comparison.json` and `curves.png` into a folder.

    Raises:
        ResourceError: A file cannot be written.
    """
    content = json.dumps(comparison_json(comparison), indent=2, ensure_ascii=False)
    write_text_atomically(folder / JSON_FILE, content + "\n")
    write_text_atomically(folder / MARKDOWN_FILE, comparison_markdown(comparison))
    drawn("The picture of the curves", lambda: draw_curves(comparison, folder / CURVES_FILE))


def comparison_table(comparison: Comparison, width: int = WIDE) -> Table:
    """Return the table for a terminal of so many columns: a row for each network, by recipe."""
    columns = _columns(comparison)
    between = ("\n", "–") if FIRST_COLUMN + RANGE_COLUMN * len(columns) <= width else ("\n", "–\n")
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left", title_style="")
    table.title = (
        "Dice on the validation fold, network's grid: median over seeds (lowest–highest)\n"
        "Best on the fold is chosen by the cases that measure it"
    )
    table.add_column("Recipe and its networks", overflow="fold", min_width=16)
    for column in columns:
        table.add_column(column, justify="right", overflow="fold")
    for recipe in comparison.recipes:
        table.add_row(Text(f"{recipe.label}, {_seeds(recipe)}", style="bold"))
        for name, spreads in recipe.dice.items():
            cells = [_text(spreads[column], 3, *between) for column in columns]
            table.add_row(Padding(OPTIMISTIC if name == BEST else name, (0, 0, 0, 2)), *cells)
        table.add_row()
    return table


def namesakes_text(comparison: Comparison) -> list[str]:
    """Return what distinguishes recipes of the same name, one line a recipe."""
    lines = []
    for recipe in comparison.recipes:
        said = [
            f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in recipe.differing.items()
        ]
        if said:
            lines.append(f"{recipe.label}: {', '.join(said)}")
    return lines


def comparison_markdown(comparison: Comparison) -> str:
    """Return the tables as Markdown, with the picture of the curves."""
    columns = _columns(comparison)
    lines = ["# Comparison of runs", "", CAPTION, "", *_head(("Recipe", "Seeds", "Network", *columns), 3)]
    for recipe in comparison.recipes:
        for number, (name, spreads) in enumerate(recipe.dice.items()):
            first = (recipe.label, _numbers(recipe)) if number == 0 else ("", "")
            network = OPTIMISTIC if name == BEST else name
            lines.append(_row((*first, network, *(_text(spreads[column], 3) for column in columns))))
    namesakes = namesakes_text(comparison)
    if namesakes:
        lines += ["", "Recipes of the same name:", "", *(f"- {line}" for line in namesakes)]
    if any(recipe.metrics for recipe in comparison.recipes):
        headers = [title for title, _ in METRICS.values()]
        lines += ["", METRICS_CAPTION, "", *_head(("Recipe", "Network", *headers), 2)]
        for recipe in comparison.recipes:
            for name, spreads in recipe.metrics.items():
                cells = (_text(spreads.get(key), digits) for key, (_, digits) in METRICS.items())
                lines.append(_row((recipe.label, name, *cells)))
    lines += ["", f"![Training loss and Dice on the fold by iteration]({CURVES_FILE})", ""]
    return "\n".join(lines)


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """Return everything that was compared, JSON-serialisable, with null for what no run has."""
    return {
        "organs": list(comparison.organs),
        "recipes": [
            {
                "recipe": recipe.label,
                "differing": dict(recipe.differing),
                "runs": [{"folder": run.folder.absolute().name, "seed": run.seed} for run in recipe.runs],
                "dice": {name: _spreads(spreads) for name, spreads in recipe.dice.items()},
                "metrics": {name: _spreads(spreads) for name, spreads in recipe.metrics.items()},
            }
            for recipe in comparison.recipes
        ],
    }


def _columns(comparison: Comparison) -> tuple[str, ...]:
    return (*comparison.organs, MEAN)


def _seeds(recipe: RecipeRuns) -> str:
    return f"{'seed' if len(recipe.runs) == 1 else 'seeds'} {_numbers(recipe)}"


def _numbers(recipe: RecipeRuns) -> str:
    return ", ".join(str(run.seed) for run in recipe.runs)


def _spreads(spreads: Any) -> dict[str, dict[str, float] | None]:
    return {key: asdict(spread) if spread else None for key, spread in spreads.items()}


def _text(spread: Spread | None, digits: int, between: str = " ", dash: str = "–") -> str:
    if spread is None:
        return "–"
    if spread.count == 1:
        return f"{spread.median:.{digits}f}"
    return f"{spread.median:.{digits}f}{between}({spread.low:.{digits}f}{dash}{spread.high:.{digits}f})"


def _head(titles: tuple[str, ...], words: int) -> list[str]:
    return [_row(titles), _row(("---",) * words + ("---:",) * (len(titles) - words))]


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"
