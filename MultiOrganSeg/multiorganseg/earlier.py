"""Names that the version before this one wrote or took; files, scenes and commands with them work once more.

The one place for them: with the next version this module goes, and so do its uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

COMMANDS = {"extend": "add-organ", "gate": "acceptance"}
"""Commands of `multiorganseg-train`: what they are called now, by the earlier name."""

SLICER_NAMES = {
    "MultiOrganSeg/Project": "MultiOrganSeg/TeachProject",
    "MultiOrganSeg/BaseModels": "MultiOrganSeg/TeachBases",
    "MultiOrganSeg.ProjectCase": "MultiOrganSeg.TeachCase",
    "MultiOrganSeg.Project": "MultiOrganSeg.TeachProject",
}
"""Settings of 3D Slicer and attributes of its nodes: the earlier name by that of now."""

_FILES = {"acceptance.json": "gate.json"}
_EVENTS = {"gate": "acceptance"}
_METHODS = {"extend": "add_organ"}
_ARGUMENTS = {"claim_weight": "pseudo_label_weight", "sure_weight": "certain_weight"}
_FACTS = {"gate": "acceptance"}


def existing(path: Path) -> Path:
    """Return the path of a file, or that of its earlier name where there is only that."""
    named = path.with_name(_FILES.get(path.name, path.name))
    return named if named.is_file() and not path.exists() else path


def event_of_now(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event with the kind of this version."""
    kind = event.get("event")
    return {**event, "event": _EVENTS[kind]} if isinstance(kind, str) and kind in _EVENTS else event


def recipe_of_now(tables: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the tables of a recipe with the method and its arguments as this version calls them."""
    if not isinstance(tables, Mapping):
        return tables
    method, arguments = tables.get("method"), tables.get("method_arguments")
    changed = dict(tables)
    if isinstance(method, str) and method in _METHODS:
        changed["method"] = _METHODS[method]
    if isinstance(arguments, Mapping):
        changed["method_arguments"] = _renamed(arguments, _ARGUMENTS)
    return changed


def training_facts_of_now(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a bundle's metadata say of its training with the keys of this version."""
    return _renamed(facts, _FACTS)


def _renamed(table: Mapping[str, Any], names: Mapping[str, str]) -> Mapping[str, Any]:
    return {names.get(key, key): value for key, value in table.items()}
