"""Recipes as TOML files that may build on others."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from multiorganseg.bundles.json_text import read_small_file
from multiorganseg.errors import TrainingError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BASE = "base"


def read_recipe_file(path: Path) -> dict[str, Any]:
    """Read a recipe's tables, with those of the files that its field `base` names.

    `base` is a path or a list of paths, relative to the file it stands in; those files may have bases too.
    Tables are merged key by key; any other value replaces the one that was there. A later base goes over an
    earlier one, the file itself over all.

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
        own = tomllib.loads(read_small_file(path).decode("utf-8"))
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


def _bases(value: Any, path: Path) -> list[str]:
    bases = [value] if isinstance(value, str) else value
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        msg = f"The field `{BASE}` of the recipe {path} has a wrong type: {value!r}."
        raise TrainingError(msg, next_step="Give the path of another recipe, or a list of paths.")
    return bases


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        known = merged.get(key)
        merged[key] = (
            _merge(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
        )
    return merged
