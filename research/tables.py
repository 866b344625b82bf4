"""The table of a sweep: Dice and HD95 by organ and by how often it is labelled, medians over seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Labelled:
    """How often organs are labelled.

    Attributes:
        counts: Training cases by organ, for the recipe that sees most of it.
        cases: All training cases.
    """

    counts: Mapping[str, int]
    cases: int


def write_tables(runs: Path, jobs: Sequence[Job], labelled: Labelled) -> None:
    """Write RUNS/results.json and RUNS/results.md from what is measured so far."""
    rows: dict[str, dict[str, Any]] = {}
    for job in jobs:
        for classifier in job.classifiers:
            if job.is_measured(classifier) and not job.obstacle():
                file = job.evaluation(classifier) / "evaluation.json"
                name = job.recipe.name + ("" if classifier == "linear" else f" ({classifier} prototypes)")
                row = rows.setdefault(name, {"description": job.recipe.description, "seeds": {}})
                row["seeds"][job.seed] = _measured(json.loads(file.read_text(encoding="utf-8")))
    for row in rows.values():
        row["median"] = _over_seeds(list(row["seeds"].values()), labelled)
    result = {"training_cases": labelled.cases, "labelled": labelled.counts, "rows": rows}
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
            seeds = len(row["seeds"])
            cells = [_cell(row["median"][metric].get(column), digits, seeds) for column in columns]
            lines.append(f"| {name} | {seeds} | {' | '.join(cells)} |")
        texts.append("\n".join(lines))
    return "\n\n".join(texts) + "\n"


def _measured(evaluation: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    organs = evaluation["full"]["organs"]
    return {metric: {key: means[metric]["mean"] for key, means in organs.items()} for metric in METRICS}


def count_labelled(recipes: Sequence[Recipe], data: Path) -> Labelled:
    """Count in how many training cases each organ is labelled.

    Raises:
        TrainingError: A recipe does not fit the data.
    """
    counts: dict[str, int] = {}
    cases = 0
    for recipe in {str(recipe.data): recipe for recipe in recipes}.values():
        training, _ = split_cases(training_cases(data, recipe), recipe.data)
        table, cases = recipe.data.table, max(cases, len(training))
        for key in table.keys:
            known = sum(table.value(key) in case.known for case in training)
            counts[key] = max(known, counts.get(key, 0))
    return Labelled(counts, cases)


def _over_seeds(
    seeds: list[dict[str, dict[str, float | None]]], labelled: Labelled
) -> dict[str, dict[str, dict[str, float] | None]]:
    """Return median, lowest and highest of each organ and group, over the seeds in which it is defined.

    A group is the mean of those of its organs that a row knows, and defined where each of them is: the
    distance to an organ that was not found is not, and a mean without it would flatter the row.
    """
    often = [key for key, count in labelled.counts.items() if count >= SELDOM * labelled.cases]
    seldom = [key for key in labelled.counts if key not in often]
    groups = {key: [key] for key in labelled.counts}
    groups |= {"often": often, "seldom": seldom, "mean": list(labelled.counts)}
    result: dict[str, dict[str, dict[str, float] | None]] = {}
    for metric in METRICS:
        result[metric] = {}
        for group, keys in groups.items():
            each = [[seed[metric][key] for key in keys if key in seed[metric]] for seed in seeds]
            means = [_mean(values) for values in each]
            found = [mean for mean in means if mean is not None]
            result[metric][group] = (
                {"median": median(found), "lowest": min(found), "highest": max(found), "seeds": len(found)}
                if found
                else None
            )
    return result


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def _cell(values: Mapping[str, float] | None, digits: int, seeds: int) -> str:
    if values is None:
        return "–"
    middle, low, high = (f"{values[name]:.{digits}f}" for name in ("median", "lowest", "highest"))
    text = middle if low == high else f"{middle} ({low} – {high})"
    return text if values["seeds"] == seeds else f"{text}, {values['seeds']} of {seeds}"
