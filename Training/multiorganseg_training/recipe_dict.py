"""Recipes as nested dictionaries, and as the TOML files that hold them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from multiorganseg.errors import TrainingError
from multiorganseg_training.recipe import Recipe
from multiorganseg_training.recipe_file import read_recipe_file


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe, with those that it builds on.

    Raises:
        TrainingError: A file is missing or is not TOML, or a field is unknown, missing or of a wrong type.
    """
    return recipe_from_dict(read_recipe_file(path))


def recipe_from_dict(data: Mapping[str, Any]) -> Recipe:
    """Build a recipe from nested dictionaries, as in the TOML file or in a checkpoint."""
    recipe = _build(Recipe, data, "")
    assert isinstance(recipe, Recipe)
    return recipe


def recipe_to_dict(recipe: Recipe) -> dict[str, Any]:
    """Give the nested dictionaries that `recipe_from_dict` reads, with every default written out."""
    return dataclasses.asdict(recipe)


def _build(kind: type, data: Mapping[str, Any], where: str) -> Any:
    hints = get_type_hints(kind)
    unknown = sorted(set(data) - set(hints))
    if unknown:
        msg = f"The recipe has unknown fields: {', '.join(where + name for name in unknown)}."
        raise TrainingError(msg, next_step=f"Known here are: {', '.join(hints)}.")
    values = {name: _convert(hints[name], value, where + name) for name, value in data.items()}
    try:
        return kind(**values)
    except TypeError as error:
        msg = "The recipe lacks a field."
        raise TrainingError(
            msg, cause=f"{where or 'top level'}: {error}", next_step="Add the field."
        ) from error


def _convert(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        if isinstance(value, Mapping):
            return _build(hint, value, f"{where}.")  # type: ignore[arg-type]
    elif get_origin(hint) is tuple:
        inner = get_args(hint)
        kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else list(inner)
        if isinstance(value, (list, tuple)) and len(value) == len(kinds):
            return tuple(_convert(kind, item, where) for kind, item in zip(kinds, value, strict=True))
    elif get_origin(hint) is dict:
        if isinstance(value, Mapping):
            return dict(value)
    elif hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    elif isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    msg = f"The recipe's field {where} has a wrong type: {value!r}."
    raise TrainingError(msg, next_step=f"It must be {hint}.")
