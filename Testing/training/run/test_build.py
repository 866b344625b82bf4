from __future__ import annotations

import pytest

from multiorganseg.bundles import Bundle
from multiorganseg.errors import TrainingError
from multiorganseg_training.run.build import recipe_method, recipe_network


def _arguments(full: Bundle, **further: object) -> dict:
    return {"arguments": {**full.metadata.arguments, **further}, "initial": str(full.folder)}


def test_other_arguments_are_refused(phantom_recipe, full):
    with pytest.raises(TrainingError, match="cannot start"):
        recipe_network(phantom_recipe(network=_arguments(full, filters=[4, 8, 16, 24])))


def test_sigmoids_cannot_tell_an_organ_from_one_inside_it(phantom_recipe):
    data = {"labels": {"1": "liver", "2": "liver_tumor"}}
    recipe = phantom_recipe(data=data, method="partial", network={"activation": "sigmoid"})
    with pytest.raises(TrainingError, match="tell liver_tumor from liver") as refusal:
        recipe_method(recipe, recipe_network(recipe))
    assert "softmax" in refusal.value.next_step
    recipe = phantom_recipe(data=data, method="partial")
    assert recipe_method(recipe, recipe_network(recipe)).within[1, 0]


@pytest.mark.parametrize(("mixing", "refused"), [("cutmix", True), ("colour", False)])
def test_a_batch_of_one_case_has_none_to_mix_it_with(phantom_recipe, mixing, refused):
    recipe = phantom_recipe(
        method="ltuda",
        method_arguments={"mixing": mixing},
        network={"activation": "sigmoid"},
        optimisation={"batch_size": 1},
    )
    network = recipe_network(recipe)
    if refused:
        with pytest.raises(TrainingError, match="mixes cases"):
            recipe_method(recipe, network)
    else:
        assert recipe_method(recipe, network).least_batch == 1
