from __future__ import annotations

import pytest

from multiorganseg.bundles import Bundle
from multiorganseg.errors import TrainingError
from multiorganseg_training.run.build import recipe_network


def _arguments(full: Bundle, **further: object) -> dict:
    return {"arguments": {**full.metadata.arguments, **further}, "initial": str(full.folder)}


def test_other_arguments_are_refused(phantom_recipe, full):
    with pytest.raises(TrainingError, match="cannot start"):
        recipe_network(phantom_recipe(network=_arguments(full, filters=[4, 8, 16, 24])))
