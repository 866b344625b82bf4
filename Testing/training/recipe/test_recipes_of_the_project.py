from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from multiorganseg_training.recipe.file import load_recipe, recipe_to_dict
from multiorganseg_training.run.build import recipe_method, recipe_network

ROOT = Path(__file__).parents[3]
SHIPPED, FOLDER = ROOT / "Training" / "recipes", ROOT / "research" / "recipes"
RECIPES = sorted(
    path for folder in (SHIPPED, FOLDER) for path in folder.rglob("*.toml") if path.parent.name != "parts"
)
SIZES = ("paper", "small")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_network_and_method_are_built(path):
    recipe = load_recipe(path)
    recipe = replace(recipe, network=replace(recipe.network, initial=""))
    on_meta = recipe.network.architecture != "monai_swin_unetr"  # MONAI reads values while it builds this one
    with torch.device("meta" if on_meta else "cpu"):
        network = recipe_network(recipe)
        recipe_method(recipe, network)


@pytest.mark.parametrize("size", SIZES)
def test_each_case_of_the_toy_protocol_has_one_organ_and_each_organ_five_cases(size):
    for row in ("baseline", "marginal", "cda-next", "cda", "cda-pda"):
        data = load_recipe(FOLDER / "ltuda" / f"{size}-{row}.toml").data
        assert len(data.known) == 20
        assert not set(data.known) & set(data.validation)
        organs = [organ for (organ,) in data.known.values()]
        assert Counter(organs) == dict.fromkeys(("liver", "spleen", "kidneys", "pancreas"), 5)
    assert load_recipe(FOLDER / "ltuda" / f"{size}-supervised.toml").data.known == {}


@pytest.mark.parametrize("size", SIZES)
def test_rows_of_the_experiment_differ_in_the_method_alone(size):
    def rest(row: str) -> dict:
        tables = recipe_to_dict(load_recipe(FOLDER / "ltuda" / f"{size}-{row}.toml"))
        for name in ("name", "description", "method", "method_arguments"):
            del tables[name]
        return tables

    first = rest("baseline")
    assert rest("cda") == rest("cda-next") == first
    second, softmax, supervised = rest("cda-pda"), rest("marginal"), rest("supervised")
    assert second["network"].pop("initial") == f"runs/ltuda-{size}-cda"
    assert softmax["network"].pop("activation") == "softmax"
    supervised["data"].pop("known")
    for changed, section, field in (
        (second, "network", "initial"),
        (softmax, "network", "activation"),
        (supervised, "data", "known"),
    ):
        changed[section][field] = first[section][field]
        assert changed == first


def test_rows_of_the_head_and_neck_have_as_many_iterations_and_differ_in_the_method_alone():
    def tables(row: str) -> dict:
        return recipe_to_dict(load_recipe(FOLDER / "openkbp" / f"small-{row}.toml"))

    rows = ("labelled", "marginal", "naive", "ltuda", "ltuda-prototypes", "ltuda-published", "fused")
    first = tables("labelled")
    assert first["optimisation"]["iterations"] == 1200
    assert first["network"]["initial"] == ""
    for row in rows:
        changed = tables(row)
        for name in ("name", "description", "method", "method_arguments"):
            changed[name] = first[name]
        changed["network"]["activation"] = "sigmoid"
        assert changed == first, row
    alone = tables("complete")["data"]
    assert len(set(alone["training"]) - set(alone["validation"])) == 20
