"""What finished runs tell, and which of them differ in nothing but their seed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase
from typing import Any

from multiorganseg.bundles.json_text import read_small_file
from multiorganseg.errors import ResourceError, TrainingError
from multiorganseg.events import EventKind, metric_values, read_events
from multiorganseg_training.recipe.file import recipe_from_dict, recipe_to_dict
from multiorganseg_training.run.fit import EVENTS_FILE, RECIPE_FILE, RESULT_FILE
from research.evaluation.report import JSON_FILE

Dice = Mapping[str, float | None]

MEAN = "mean"
_MOST = 64 * 2**20
_METRIC = "dice of {} network"


@dataclass(frozen=True)
class FinishedRun:
    """A run that came to its end.

    Attributes:
        folder: Of the run.
        recipe: As `recipe_to_dict` gives it, with the defaults of this version for fields that it lacks.
        scores: Dice by organ key and "mean", for "last" and "averaged"; empty without a fold.
        losses: Logged training loss by iteration, ascending.
        series: For "averaged" and "last", Dice on the fold by iteration, ascending.
        evaluations: Content of each evaluation.json in the run's folders.
    """

    folder: Path
    recipe: Mapping[str, Any]
    scores: Mapping[str, Dice]
    losses: Mapping[int, float]
    series: Mapping[str, Mapping[int, Dice]]
    evaluations: tuple[Mapping[str, Any], ...]

    @property
    def seed(self) -> int:
        """Of the recipe."""
        return int(self.recipe["seed"])

    @property
    def best_on_fold(self) -> Dice:
        """Dice of the network with the best mean among all that the fold was asked for; may be empty.

        Optimistic: the cases that choose it also measure it.
        """
        points = [dice for series in self.series.values() for dice in series.values()]
        known = [(mean, dice) for dice in points if (mean := dice.get(MEAN)) is not None]
        return max(known, key=lambda pair: pair[0])[1] if known else {}


def read_runs(folders: Iterable[Path]) -> tuple[list[FinishedRun], list[Path]]:
    """Read runs.

    Returns:
        The finished ones, and the folders of those that are not finished.

    Raises:
        TrainingError: A folder holds no run, a file of it is damaged, or none is finished.
    """
    listed = list({folder.resolve(): folder for folder in folders}.values())
    for folder in listed:
        if not (folder / RECIPE_FILE).is_file():
            msg = f"{folder} holds no run."
            raise TrainingError(
                msg, cause=f"There is no {RECIPE_FILE}.", next_step="Give folders that `fit` wrote."
            )
    finished = [read_run(folder) for folder in listed if (folder / RESULT_FILE).is_file()]
    if not finished:
        msg = "None of the runs is finished."
        raise TrainingError(msg, next_step="Let `multiorganseg-train fit` come to its end.")
    return finished, [folder for folder in listed if not (folder / RESULT_FILE).is_file()]


def read_run(folder: Path) -> FinishedRun:
    """Read a finished run; where a resumed run logged an iteration twice, the later line counts.

    An evaluation of a checkpoint before the last iteration is left out.

    Raises:
        TrainingError: A file is missing or damaged.
    """
    losses: dict[int, float] = {}
    series: dict[str, dict[int, Dice]] = {"averaged": {}, "last": {}}
    names = {_METRIC.format(name): name for name in series}
    try:
        for event in read_events(folder / EVENTS_FILE):
            if not isinstance(event.get("iteration", 0), int):
                continue
            if event["event"] == EventKind.PROGRESS and isinstance(event.get("loss"), float):
                losses[event["iteration"]] = event["loss"]
            elif event["event"] == EventKind.METRIC and event.get("name") in tuple(names):
                series[names[event["name"]]][event["iteration"]] = metric_values(event)
    except (ResourceError, KeyError) as error:
        raise _damaged(folder / EVENTS_FILE, error) from error
    recipe = recipe_to_dict(recipe_from_dict(_read_json(folder / RECIPE_FILE)))
    evaluations = [_read_json(path) for path in sorted(folder.glob(f"*/{JSON_FILE}"))]
    last = recipe["optimisation"]["iterations"]
    return FinishedRun(
        folder,
        recipe,
        _read_json(folder / RESULT_FILE),
        dict(sorted(losses.items())),
        {name: dict(sorted(points.items())) for name, points in series.items()},
        tuple(each for each in evaluations if each.get("iteration") == last),
    )


def _read_json(path: Path) -> Any:
    try:
        return json.loads(read_small_file(path, _MOST))
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> TrainingError:
    msg = f"{path} cannot be read."
    return TrainingError(msg, cause=str(error), next_step="Leave this run away, or repeat it.")


IRRELEVANT = ("seed", "description", "reporting.log_every", "reporting.checkpoint_every")
INITIAL = "network.initial"


@dataclass(frozen=True)
class RunGroup:
    """Runs of one recipe.

    Attributes:
        label: The recipe's name, with a letter where other recipes have the same name.
        differing: What this recipe says where those of the same name differ, by dotted field name.
        runs: By seed.
    """

    label: str
    differing: Mapping[str, Any]
    runs: tuple[FinishedRun, ...]


def group_runs(runs: Iterable[FinishedRun]) -> list[RunGroup]:
    """Group runs by recipe, in the order in which they come.

    The seed, the description, how often the run logs and saves, and which run a second stage starts from may
    differ within a group; whether it starts from one may not.
    """
    groups: dict[str, list[FinishedRun]] = {}
    for run in runs:
        groups.setdefault(json.dumps(_essence(run), sort_keys=True), []).append(run)
    recipes = [_essence(group[0]) for group in groups.values()]
    return [
        RunGroup(
            _label(recipe, recipes),
            _differing(recipe, recipes),
            tuple(sorted(group, key=lambda run: run.seed)),
        )
        for recipe, group in zip(recipes, groups.values(), strict=True)
    ]


def _essence(run: FinishedRun) -> dict[str, Any]:
    """Return the recipe's fields by dotted name."""
    fields = {name: value for name, value in _flat(run.recipe) if name not in IRRELEVANT}
    fields[INITIAL] = "another run or bundle" if fields.get(INITIAL) else ""
    return fields


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _label(recipe: Mapping[str, Any], recipes: list[dict[str, Any]]) -> str:
    namesakes = _namesakes(recipe, recipes)
    name = str(recipe["name"])
    return name if len(namesakes) == 1 else f"{name} ({_letters(namesakes.index(dict(recipe)))})"


def _letters(number: int) -> str:
    """Return a…z, then aa, ab and so on."""
    letter = ascii_lowercase[number % 26]
    return letter if number < 26 else _letters(number // 26 - 1) + letter


def _differing(recipe: Mapping[str, Any], recipes: list[dict[str, Any]]) -> dict[str, Any]:
    namesakes = _namesakes(recipe, recipes)
    keys = dict.fromkeys(key for other in namesakes for key in other)
    return {
        key: recipe.get(key)
        for key in keys
        if any(other.get(key) != namesakes[0].get(key) for other in namesakes)
    }


def _namesakes(recipe: Mapping[str, Any], recipes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [other for other in recipes if other["name"] == recipe["name"]]
