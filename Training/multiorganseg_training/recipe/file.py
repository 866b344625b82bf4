"""Recipes as TOML files that may build on others, and as nested dictionaries."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from multiorganseg.bundles.json_text import read_small_file
from multiorganseg.earlier import recipe_of_now
from multiorganseg.errors import TrainingError
from multiorganseg.schema import typed
from multiorganseg_training.recipe.recipe import NetworkSpec, Recipe

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BASE = "base"
_DEEPEST = 32


def read_recipe_file(path: Path) -> dict[str, Any]:
    """Read a recipe's tables, with those of the files that its field `base` names.

    `base` is a path or a list of paths, relative to the file it stands in; those files may have bases too.
    Tables are merged key by key; any other value replaces the one that was there. Only the arguments of a
    network are left out where another architecture takes its place. A later base goes over an earlier one,
    the file itself over all.

    Args:
        path: A TOML file; a base need not be a whole recipe.

    Returns:
        The merged tables, without `base`.

    Raises:
        TrainingError: A file is missing or is no TOML, `base` is no path, or a file builds on itself.
    """
    return _read(path, ())


def _read(path: Path, builders: tuple[Path, ...]) -> dict[str, Any]:
    resolved = Path(os.path.realpath(path)) if "\0" not in str(path) else path
    if resolved in builders:
        msg = f"The recipe {path} builds on itself."
        raise TrainingError(msg, next_step=f"Remove it from `{BASE}` in {builders[-1]}.")
    try:
        own = tomllib.loads(read_small_file(path).decode("utf-8-sig"))
        _require_shallow(own)
    except (OSError, ValueError, RecursionError) as error:
        msg = f"Cannot read the recipe {path}."
        named = f"Correct it, or `{BASE}` in {builders[-1]}." if builders else ""
        raise TrainingError(
            msg, cause=str(error), next_step=named or "Start from one in Training/recipes."
        ) from error
    merged: dict[str, Any] = {}
    for base in _bases(own.pop(BASE, []), path):
        merged = _merge(merged, _read(path.parent / base, (*builders, resolved)))
    return _merge(merged, own)


def _require_shallow(tables: Mapping[str, Any]) -> None:
    """Refuse what no recipe needs and no later step could walk through, such as a key of a thousand dots."""
    level: list[Any] = [tables]
    for _ in range(_DEEPEST):
        level = [
            inner
            for value in level
            if isinstance(value, (Mapping, list))
            for inner in (value.values() if isinstance(value, Mapping) else value)
        ]
    if level:
        message = "nested too deeply"
        raise ValueError(message)


def _bases(value: Any, path: Path) -> list[str]:
    bases = [value] if isinstance(value, str) else value
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        msg = f"The field `{BASE}` of the recipe {path} has a wrong type: {value!r}."
        raise TrainingError(msg, next_step="Give the path of another recipe, or a list of paths.")
    return bases


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    before = under.get("architecture", NetworkSpec.architecture)
    if over.get("architecture", before) != before:
        merged.pop("arguments", None)
    for key, value in over.items():
        known = merged.get(key)
        merged[key] = (
            _merge(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
        )
    return merged


def load_recipe(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe, with those that it builds on.

    Args:
        path: A TOML file.
        changes: Lines of TOML that go over it, such as "method_arguments.views = 1"; a later one over an
            earlier one.

    Raises:
        TrainingError: A file is missing, it or a change is not TOML, or a field is unknown, missing or of a
            wrong type.
    """
    said = read_recipe_file(path)
    for change in changes:
        try:
            said = _merge(said, _without_empty_tables(tomllib.loads(change)))
        except (ValueError, RecursionError) as error:
            msg = f"Cannot read the change {change!r} of the recipe."
            hint = "Write it as in a recipe: optimisation.iterations=300, or method_arguments.mixing='none'."
            raise TrainingError(msg, cause=str(error), next_step=hint) from error
    return recipe_from_dict(said)


def _without_empty_tables(change: dict[str, Any]) -> dict[str, Any]:
    """Return a change, if it holds no table without fields: tables are merged, so that it would do nothing.

    Raises:
        ValueError: It holds one.
    """
    for key, value in change.items():
        if value == {}:
            message = f"the table {key} is empty, which changes nothing"
            raise ValueError(message)
        if isinstance(value, dict):
            _without_empty_tables(value)
    return change


def recipe_from_dict(data: Mapping[str, Any]) -> Recipe:
    """Build a recipe from nested dictionaries, as in the TOML file or in a checkpoint.

    Raises:
        TrainingError: A field is unknown, missing, of a wrong type or out of range.
    """
    return typed(Recipe, recipe_of_now(data), "The recipe")


def recipe_to_dict(recipe: Recipe) -> dict[str, Any]:
    """Return the nested dictionaries that `recipe_from_dict` reads, with every default written out."""
    return dataclasses.asdict(recipe)
