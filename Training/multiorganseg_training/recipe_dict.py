"""Recipes as nested dictionaries, and as the TOML files that hold them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from multiorganseg_training.recipe import Recipe
from multiorganseg_training.recipe_file import read_recipe_file
from multiorganseg_training.typed_data import typed


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe, with those that it builds on.

    Raises:
        TrainingError: A file is missing or is not TOML, or a field is unknown, missing or of a wrong type.
    """
    return recipe_from_dict(read_recipe_file(path))


def recipe_from_dict(data: Mapping[str, Any]) -> Recipe:
    """Build a recipe from nested dictionaries, as in the TOML file or in a checkpoint.

    Raises:
        TrainingError: A field is unknown, missing, of a wrong type or out of range.
    """
    return typed(Recipe, data, "The recipe")


def recipe_to_dict(recipe: Recipe) -> dict[str, Any]:
    """Give the nested dictionaries that `recipe_from_dict` reads, with every default written out."""
    return dataclasses.asdict(recipe)
