"""The plan of an extension, kept in the folder of its run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from multiorganseg.atomic import write_text_atomically
from multiorganseg.bundles.json_text import read_json_object
from multiorganseg.errors import TrainingError
from multiorganseg_training.recipe import Recipe
from multiorganseg_training.recipe_dict import recipe_to_dict
from multiorganseg_training.typed_data import typed

PLAN_FILE = "plan.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Plan:
    """What is trained, decided once.

    Attributes:
        recipe: Of the training whose network will be published.
        folds: Held-out cases of each training that comes before it; empty without cross-validation.
        base_sha256: Digest of the bundle that is extended.
    """

    recipe: Recipe
    folds: tuple[tuple[str, ...], ...]
    base_sha256: str

    @property
    def new_organs(self) -> tuple[str, ...]:
        """Keys of the organs that are learned."""
        return self.recipe.data.table.keys[-self.recipe.network.arguments["branches"][-1] :]


@dataclass(frozen=True)
class _PlanFile:
    recipe: Recipe
    folds: tuple[tuple[str, ...], ...]
    base_sha256: str
    schema_version: int = SCHEMA_VERSION


def save_plan(plan: Plan, run: Path) -> None:
    """Write the plan of a run atomically."""
    content = {
        "schema_version": SCHEMA_VERSION,
        "base_sha256": plan.base_sha256,
        "folds": plan.folds,
        "recipe": recipe_to_dict(plan.recipe),
    }
    write_text_atomically(run / PLAN_FILE, json.dumps(content, indent=2) + "\n")


def load_plan(run: Path) -> Plan | None:
    """Read the plan of a run; None when it has none yet.

    Raises:
        TrainingError: The file is damaged.
    """
    path = run / PLAN_FILE
    if not path.is_file():
        return None
    try:
        content = read_json_object(path)
        said = typed(_PlanFile, content, path.name)
        plan = Plan(said.recipe, said.folds, said.base_sha256)
        if plan.new_organs:
            return plan
        cause = "It names no new organ."
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, TrainingError) as error:
        cause = str(error)
    msg = f"The plan {path} cannot be read."
    raise TrainingError(
        msg, cause=cause, next_step="Delete the run's folder, or name another run: --run NAME"
    )
