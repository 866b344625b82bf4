"""The table of a sweep: Dice and HD95 by organ and by how often it is labelled, medians over seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from multiorganseg.atomic import write_text_atomically
from multiorganseg_training.data.cases import split_cases, training_cases
from multiorganseg_training.recipe.recipe import Recipe

if TYPE_CHECKING:
    from sweep import Job

SELDOM = 0.9
METRICS = {"dice": ("Dice", 3), "hd95_mm": ("HD95, mm", 1)}


def write_tables(runs: Path, jobs: Sequence[Job], data: Path) -> None:
    """Write RUNS/results.json and RUNS/results.md from what is measured so far."""
    rows: dict[str, dict[str, Any]] = {}
    for job in jobs:
        for classifier in job.classifiers:
            file = job.evaluation(classifier) / "evaluation.json"
            if file.is_file():
                name = job.recipe.name + ("" if classifier == "linear" else f" ({classifier} prototypes)")
                row = rows.setdefault(name, {"description": job.recipe.description, "seeds": {}})
                row["seeds"][job.seed] = _measured(json.loads(file.read_text(encoding="utf-8")))
    counts, cases = _labelled([job.recipe for job in jobs], data)
    for row in rows.values():
        row["median"] = _over_seeds(list(row["seeds"].values()), counts, cases)
    result = {"training_cases": cases, "labelled": counts, "rows": rows}
    write_text_atomically(runs / "results.json", json.dumps(result, indent=2) + "\n")
    write_text_atomically(runs / "results.md", markdown(result))


def markdown(result: Mapping[str, Any]) -> str:
    """Return the tables of a result as Markdown."""
    counts, cases = result["labelled"], result["training_cases"]
    columns = [*counts, "often", "seldom", "mean"]
    heads = [f"{organ.replace('_', ' ')} ({count})" for organ, count in counts.items()]
    texts = []
    for metric, (title, digits) in METRICS.items():
        lines = [
            f"**{title}** (labelled in … of {cases} training cases), median (lowest – highest) over seeds",
            "",
            f"| row | seeds | {' | '.join([*heads, 'often', 'seldom', 'mean'])} |",
            f"|---|---|{'---|' * len(columns)}",
        ]
        for name, row in result["rows"].items():
            cells = [_cell(row["median"][metric].get(column), digits) for column in columns]
            lines.append(f"| {name} | {len(row['seeds'])} | {' | '.join(cells)} |")
        texts.append("\n".join(lines))
    return "\n\n".join(texts) + "\n"


def _measured(evaluation: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    organs = evaluation["full"]["organs"]
    return {metric: {key: means[metric]["mean"] for key, means in organs.items()} for metric in METRICS}


def _labelled(recipes: Sequence[Recipe], data: Path) -> tuple[dict[str, int], int]:
    """Return in how many cases each organ is labelled, for the recipe that sees most of it, and the cases."""
    counts: dict[str, int] = {}
    cases = 0
    for recipe in {str(recipe.data): recipe for recipe in recipes}.values():
        training, _ = split_cases(training_cases(data, recipe), recipe.data)
        table, cases = recipe.data.table, max(cases, len(training))
        for key in table.keys:
            known = sum(table.value(key) in case.known for case in training)
            counts[key] = max(known, counts.get(key, 0))
    return counts, cases


def _over_seeds(
    seeds: list[dict[str, dict[str, float | None]]], counts: Mapping[str, int], cases: int
) -> dict[str, dict[str, list[float] | None]]:
    groups = {key: [key] for key in counts}
    groups["often"] = [key for key, count in counts.items() if count >= SELDOM * cases]
    groups["seldom"] = [key for key in counts if key not in groups["often"]]
    groups["mean"] = list(counts)
    result: dict[str, dict[str, list[float] | None]] = {}
    for metric in METRICS:
        result[metric] = {}
        for group, keys in groups.items():
            values = [
                fmean(known)
                for seed in seeds
                if (known := [value for key in keys if (value := seed[metric].get(key)) is not None])
            ]
            result[metric][group] = [median(values), min(values), max(values)] if values else None
    return result


def _cell(values: list[float] | None, digits: int) -> str:
    if values is None:
        return "–"
    middle, low, high = (f"{value:.{digits}f}" for value in values)
    return middle if low == high else f"{middle} ({low} – {high})"
