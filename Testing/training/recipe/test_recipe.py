from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from multiorganseg.errors import TrainingError
from multiorganseg_training.recipe.file import load_recipe, recipe_from_dict, recipe_to_dict
from multiorganseg_training.recipe.recipe import OptimisationSpec, PreprocessingSpec, Recipe

ROOT = Path(__file__).parents[3]
FOLDERS = (ROOT / "Training" / "recipes", ROOT / "research" / "recipes")
RECIPES = sorted(path for folder in FOLDERS for path in folder.rglob("*.toml") if path.parent.name != "parts")
SMALLEST = {"name": "smallest", "data": {"labels": {"1": "liver"}}}


def test_defaults():
    recipe = recipe_from_dict(SMALLEST)
    assert recipe.method == "supervised"
    assert recipe.optimisation == OptimisationSpec()
    assert recipe.preprocessing == PreprocessingSpec()
    assert recipe.data.validation == ()
    assert recipe.data.table.organs == {1: "liver"}


def test_there_are_recipes():
    assert RECIPES


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_recipe_of_the_project_loads_and_is_named_after_its_file(path):
    recipe = load_recipe(path)
    folder = next(folder for folder in FOLDERS if folder in path.parents)
    assert "-".join(path.relative_to(folder).with_suffix("").parts).startswith(recipe.name)
    assert recipe.data.table.organs
    assert recipe.description


def test_dictionaries_and_json_give_the_recipe_back(phantom_recipe):
    recipe = phantom_recipe(method_arguments={"dice_weight": 0.5})
    assert recipe_from_dict(recipe_to_dict(recipe)) == recipe
    assert recipe_from_dict(json.loads(json.dumps(recipe_to_dict(recipe)))) == recipe


def test_toml_gives_the_recipe_back(phantom_recipe, save_recipe, tmp_path):
    recipe = phantom_recipe(description="Öl & 模型")
    assert load_recipe(save_recipe(tmp_path / "a.toml", recipe)) == recipe


def test_whole_numbers_stand_for_real_ones():
    recipe = recipe_from_dict({**SMALLEST, "preprocessing": {"spacing_mm": [3, 2, 2]}})
    assert recipe.preprocessing.spacing_mm == (3.0, 2.0, 2.0)
    assert all(isinstance(value, float) for value in recipe.preprocessing.spacing_mm)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"speed": 1}, "speed"),
        ({"optimisation": {"iteration": 5}}, "optimisation.iteration"),
        ({"optimisation": {"iterations": 5.5}}, "optimisation.iterations"),
        ({"optimisation": {"iterations": True}}, "optimisation.iterations"),
        ({"optimisation": {"learning_rate": "fast"}}, "optimisation.learning_rate"),
        ({"optimisation": [1]}, "optimisation"),
        ({"preprocessing": {"spacing_mm": [1.5, 1.5]}}, "preprocessing.spacing_mm"),
        ({"network": {"patch_shape": [16, 32, "32"]}}, "network.patch_shape"),
        ({"network": {"arguments": 3}}, "network.arguments"),
        ({"data": {"labels": {"1": "liver"}, "validation": "case_a"}}, "data.validation"),
        ({"data": {}}, "labels"),
        ({"seed": 1.5}, "seed"),
    ],
)
def test_unknown_missing_and_mistyped_fields_are_named(change, named):
    with pytest.raises(TrainingError) as caught:
        recipe_from_dict({**SMALLEST, **change})
    assert named in str(caught.value)
    assert caught.value.next_step


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("optimisation", "iterations", 0),
        ("optimisation", "batch_size", 0),
        ("optimisation", "labelled_per_batch", -1),
        ("optimisation", "labelled_per_batch", 3),
        ("optimisation", "learning_rate", 0.0),
        ("optimisation", "learning_rate", float("nan")),
        ("optimisation", "head_factor", 0.0),
        ("optimisation", "weight_decay", -0.1),
        ("optimisation", "warmup", 1.0),
        ("optimisation", "gradient_clip", 0.0),
        ("optimisation", "ema_decay", 1.0),
        ("optimisation", "precision", "fp16"),
        ("preprocessing", "spacing_mm", [3.0, 0.0, 1.5]),
        ("preprocessing", "window", [275.0, -125.0]),
        ("preprocessing", "intensity", "percentiles"),
        ("network", "patch_shape", [16, 0, 32]),
        ("augmentation", "scale", [0.0, 1.0]),
        ("augmentation", "scale", [1.2, 0.8]),
        ("augmentation", "anisotropy", 1.0),
        ("augmentation", "contrast", [1.2, 0.8]),
        ("augmentation", "brightness", -0.1),
        ("augmentation", "noise", -0.1),
        ("augmentation", "blur_probability", 1.1),
        ("augmentation", "organ_centred", -0.1),
        ("reporting", "log_every", -1),
        ("data", "modality", "PET"),
        ("data", "known", {"case_a": ["pancreas"]}),
        ("network", "activation", "tanh"),
        ("optimisation", "optimiser", "lion"),
        ("optimisation", "momentum", 1.0),
        ("optimisation", "schedule", "steps"),
        ("optimisation", "passes", 2),
        ("preprocessing", "spacing_mm", [0.001, 1.0, 1.0]),
        ("network", "arguments", {"out_channels": 3}),
    ],
)
def test_values_out_of_range_are_named(phantom_recipe, section, name, value):
    with pytest.raises(TrainingError) as caught:
        phantom_recipe(**{section: {name: value}})
    assert section in str(caught.value)
    assert name in str(caught.value) or section == "reporting"


@pytest.mark.parametrize("name", ["", "Abdomen", "../abdomen", "abdomen ct"])
def test_a_name_that_no_bundle_may_have_is_refused_before_the_training(name):
    with pytest.raises(TrainingError, match="'name' must be"):
        recipe_from_dict({**SMALLEST, "name": name})


@pytest.mark.parametrize("labels", [{"zero": "liver"}, {"0": "liver"}, {"70000": "liver"}])
def test_labels_that_are_no_label_values_are_refused(labels):
    with pytest.raises(TrainingError, match=r"data\.labels"):
        recipe_from_dict({**SMALLEST, "data": {"labels": labels}})


def test_label_values_of_one_organ_are_one_channel():
    labels = {"10": "liver", "2": "kidneys", "3": "kidneys"}
    data = recipe_from_dict({**SMALLEST, "data": {"labels": labels}}).data
    assert data.table.organs == {1: "kidneys", 2: "liver"}
    assert data.channels == {2: 1, 3: 1, 10: 2}


def test_what_is_annotated_in_a_case():
    spec = {"labels": {"1": "spleen", "6": "liver"}, "known": {"case_a": ["liver"], "case_b": []}}
    data = recipe_from_dict({**SMALLEST, "data": spec}).data
    assert [data.known_channels(f"case_{name}") for name in "abc"] == [{2}, set(), {1, 2}]


def test_organs_of_both_sides_are_not_mirrored(phantom_recipe):
    def turned(*organs: str) -> Recipe:
        labels = {str(value): key for value, key in enumerate(organs, 1)}
        return phantom_recipe(data={"labels": labels}, augmentation={"quarter_turns": True})

    for organs in (
        ("kidney_left", "kidney_right"),
        ("liver", "lung_lower_lobe_right", "lung_lower_lobe_left"),
    ):
        with pytest.raises(TrainingError, match="quarter_turns"):
            turned(*organs)
    assert turned("heart_left_atrium", "liver").augmentation.quarter_turns


def test_no_organ_is_refused():
    with pytest.raises(TrainingError, match=r"data\.labels"):
        recipe_from_dict({**SMALLEST, "data": {"labels": {}}})


def test_all_broken_values_are_told_at_once(phantom_recipe):
    with pytest.raises(TrainingError) as caught:
        phantom_recipe(optimisation={"iterations": 0, "batch_size": 0})
    assert "iterations" in caught.value.cause
    assert "batch_size" in caught.value.cause


@pytest.mark.parametrize("text", [b"name = ", b"\xff\xfe", None])
def test_a_file_that_cannot_be_read(tmp_path, text):
    path = tmp_path / "recipe.toml"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(TrainingError, match="Cannot read the recipe"):
        load_recipe(path)


def test_a_recipe_cannot_be_changed(phantom_recipe):
    with pytest.raises(dataclasses.FrozenInstanceError):
        phantom_recipe().seed = 3
