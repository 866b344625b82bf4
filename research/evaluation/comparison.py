"""Compare recipes over the seeds of their runs."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from research.evaluation.finished import MEAN, Dice, FinishedRun, RunGroup, group_runs

LAST, AVERAGED, BEST = "last", "averaged", "best on the fold"


@dataclass(frozen=True)
class Spread:
    """A value over seeds.

    Attributes:
        median: Over the runs.
        low: The smallest.
        high: The largest.
        count: Of how many runs.
    """

    median: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class RecipeRuns:
    """The runs of one recipe, and what they reached.

    Attributes:
        label: The recipe's name; see `RunGroup`.
        differing: See `RunGroup`; empty where no other recipe has its name.
        runs: One a seed.
        dice: For "last", "averaged", "best on the fold" and each kind of evaluation: the spread by organ key
            and "mean"; None where no run has a value.
        metrics: For each kind of evaluation, the spread of every metric's mean over organs, by "ltuda" or
            "full" and the metric's name, and of the number of empty predictions.
    """

    label: str
    differing: Mapping[str, Any]
    runs: tuple[FinishedRun, ...]
    dice: Mapping[str, Mapping[str, Spread | None]]
    metrics: Mapping[str, Mapping[str, Spread | None]]


@dataclass(frozen=True)
class Comparison:
    """All recipes.

    Attributes:
        organs: Keys of the columns, in the order of the recipes' labels.
        recipes: In the order of the runs.
    """

    organs: tuple[str, ...]
    recipes: tuple[RecipeRuns, ...]


def compare(runs: Iterable[FinishedRun]) -> Comparison:
    """Group runs by recipe and take medians and ranges over the seeds."""
    groups = group_runs(runs)
    organs: dict[str, None] = {}
    for group in groups:
        for run in group.runs:
            organs.update(dict.fromkeys(run.recipe["data"]["labels"].values()))
    columns = (*organs, MEAN)
    return Comparison(tuple(organs), tuple(_recipe_runs(group, columns) for group in groups))


def evaluation_name(content: Mapping[str, Any]) -> str:
    """Return in words which kind of evaluation an evaluation.json holds."""
    components = "largest components" if content["largest_components"] else "all components"
    parts = ["evaluated", content["weights"], content["classifier"], components]
    if content["split"] != "validation":
        parts.append(f"{content['split']} cases")
    return ", ".join(parts)


def _recipe_runs(group: RunGroup, columns: tuple[str, ...]) -> RecipeRuns:
    runs = group.runs
    dice = {
        LAST: _spreads([run.scores.get(LAST, {}) for run in runs], columns),
        AVERAGED: _spreads([run.scores.get(AVERAGED, {}) for run in runs], columns),
        BEST: _spreads([run.best_on_fold for run in runs], columns),
    }
    metrics = {}
    for name, contents in _evaluations(runs).items():
        dice[name] = _spreads([_evaluated_dice(content) for content in contents], columns)
        measured = [_evaluated_means(content) for content in contents]
        metrics[name] = _spreads(measured, tuple(dict.fromkeys(key for each in measured for key in each)))
    return RecipeRuns(group.label, group.differing, runs, dice, metrics)


def _evaluations(runs: Iterable[FinishedRun]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        for name, content in {evaluation_name(each): each for each in run.evaluations}.items():
            found.setdefault(name, []).append(content)
    return found


def _evaluated_dice(content: Mapping[str, Any]) -> Dice:
    full = content["full"]
    organs = {key: means["dice"]["mean"] for key, means in full["organs"].items()}
    return {**organs, MEAN: full["mean"]["dice"]["mean"]}


def _evaluated_means(content: Mapping[str, Any]) -> Dice:
    means = {
        f"{reading}.{name}": mean["mean"]
        for reading in ("ltuda", "full")
        for name, mean in content[reading]["mean"].items()
    }
    return {**means, "full.empty_predictions": float(sum(content["full"]["empty_predictions"].values()))}


def _spreads(values: list[Dice], columns: tuple[str, ...]) -> dict[str, Spread | None]:
    return {column: _spread([each.get(column) for each in values]) for column in columns}


def _spread(values: Iterable[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Spread(statistics.median(known), min(known), max(known), len(known))
