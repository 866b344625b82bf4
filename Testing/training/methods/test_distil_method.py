from __future__ import annotations

import pytest

from multiorganseg.errors import TrainingError
from multiorganseg_training.recipe.recipe import Recipe
from multiorganseg_training.run.build import recipe_method, recipe_network


@pytest.fixture
def recipe_of(make_bundle, phantom_recipe):
    teacher = make_bundle()
    said = teacher.metadata

    def make(**changed) -> Recipe:
        return phantom_recipe(
            method="distil",
            method_arguments={"teacher": str(teacher.folder)},
            data={"labels": {str(value): key for value, key in said.labels.organs.items()}, "validation": []}
            | changed.get("data", {}),
            preprocessing={"spacing_mm": said.preprocessing.spacing_mm, "window": said.preprocessing.window}
            | changed.get("preprocessing", {}),
            network={
                "architecture": said.architecture,
                "arguments": dict(said.arguments),
                "patch_shape": said.patch_shape,
            }
            | changed.get("network", {}),
        )

    return make


def test_a_teacher_of_the_same_organs_and_images(recipe_of):
    recipe = recipe_of()
    assert recipe_method(recipe, recipe_network(recipe)).organs == len(recipe.data.labels)


@pytest.mark.parametrize(
    ("changed", "differs"),
    [
        ({"data": {"labels": {"1": "liver", "2": "spleen"}}}, "data.labels"),
        ({"preprocessing": {"spacing_mm": (5.0, 2.0, 2.0)}}, "preprocessing"),
        ({"network": {"activation": "sigmoid"}}, "network.activation"),
    ],
)
def test_a_teacher_of_others_is_refused(recipe_of, changed, differs):
    if "data" in changed:
        organs = list(recipe_of().data.table.keys)
        changed = {"data": {"labels": {str(n): key for n, key in enumerate([*organs[1:], organs[0]], 1)}}}
    recipe = recipe_of(**changed)
    with pytest.raises(TrainingError, match=rf"they differ in {differs}\.") as caught:
        recipe_method(recipe, recipe_network(recipe))
    assert differs in caught.value.next_step
