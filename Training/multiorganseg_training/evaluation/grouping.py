"""Runs that differ in nothing but their seed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Any

from multiorganseg_training.evaluation.finished_run import FinishedRun

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
    """Give the recipe's fields by dotted name."""
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
    """Give a…z, then aa, ab and so on."""
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
