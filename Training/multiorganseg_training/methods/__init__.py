"""Methods by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from multiorganseg.errors import TrainingError
from multiorganseg.schema import argument_problems
from multiorganseg_training.data.batches import Batch
from multiorganseg_training.losses.known import require_choice
from multiorganseg_training.methods.add_organ import AddOrgan
from multiorganseg_training.methods.distil import Distil
from multiorganseg_training.methods.fused import FusedMethod
from multiorganseg_training.methods.ltuda import LTUDA
from multiorganseg_training.methods.mean_teacher import MeanTeacher
from multiorganseg_training.methods.method import Method, Setting, Step
from multiorganseg_training.methods.mutual import Mutual
from multiorganseg_training.methods.supervised import Partial, Supervised

METHODS: Mapping[str, type[Method]] = {
    "supervised": Supervised,
    "partial": Partial,
    "ltuda": LTUDA,
    "mean_teacher": MeanTeacher,
    "mutual": Mutual,
    "fused": FusedMethod,
    "add_organ": AddOrgan,
    "distil": Distil,
}

__all__ = [
    "LTUDA",
    "METHODS",
    "AddOrgan",
    "Batch",
    "Distil",
    "FusedMethod",
    "MeanTeacher",
    "Method",
    "Mutual",
    "Partial",
    "Setting",
    "Step",
    "Supervised",
    "build_method",
]


def build_method(name: str, arguments: Mapping[str, Any], setting: Setting) -> Method:
    """Build a method from a recipe.

    Raises:
        TrainingError: The name is unknown or the arguments do not fit.
    """
    require_choice("method", name, METHODS)
    msg = f"The arguments of the method '{name}' do not fit."
    next_step = "Correct method_arguments in the recipe."
    problems = argument_problems(METHODS[name].__init__, arguments)
    if problems:
        raise TrainingError(msg, cause=f"{'; '.join(problems)}.", next_step=next_step)
    try:
        return METHODS[name](setting, **arguments)
    except TypeError as error:
        raise TrainingError(msg, cause=str(error), next_step=next_step) from error
