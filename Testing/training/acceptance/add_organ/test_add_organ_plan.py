from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from multiorganseg.bundles import Bundle
from multiorganseg.bundles.metadata import Preprocessing
from multiorganseg.errors import TrainingError
from multiorganseg.organs.labels import LabelTable
from multiorganseg_training.acceptance.check import Split
from multiorganseg_training.acceptance.plan import (
    ANNOTATED_SHARE,
    PLAN_FILE,
    AddOrganOptions,
    Plan,
    add_organ_recipe,
    check_options,
    load_plan,
    plan_warnings,
    run_name,
    save_plan,
    with_annotated_first,
    with_iterations,
)
from multiorganseg_training.project import LabelStatus, create_project, load_project, set_status
from multiorganseg_training.recipe.file import load_recipe

HELD_OUT = Split(("a", "b", "c"), ("d",), "hold-out")


def _changed(base: Bundle, **metadata) -> Bundle:
    return SimpleNamespace(metadata=replace(base.metadata, **metadata), folder=base.folder, digest="")


def test_the_recipe_takes_what_the_base_says(base):
    recipe = add_organ_recipe(base, HELD_OUT, AddOrganOptions("liver-ct", ("spleen", "pancreas"), seed=3))
    said = base.metadata
    assert recipe.data.table.keys == ("liver", "spleen", "pancreas")
    assert recipe.data.validation == ("d",)
    assert recipe.data.modality == said.modality == "CT"
    assert recipe.preprocessing.for_bundle() == said.preprocessing
    assert recipe.network.architecture == said.architecture
    assert recipe.network.arguments == {**said.arguments, "branches": [2]}
    assert recipe.network.activation == said.activation == "softmax"
    assert recipe.network.patch_shape == said.patch_shape
    assert recipe.network.initial == "liver-ct"
    assert recipe.augmentation.favoured == ("spleen", "pancreas")
    assert recipe.seed == 3


def test_a_base_with_a_branch_gets_another(base):
    branched = _changed(base, arguments={**base.metadata.arguments, "branches": [3]})
    recipe = add_organ_recipe(branched, HELD_OUT, AddOrganOptions("liver-ct", ("spleen",)))
    assert recipe.network.arguments["branches"] == [3, 1]


def test_a_base_that_is_named_by_its_folder_is_found_there(base):
    recipe = add_organ_recipe(base, HELD_OUT, AddOrganOptions(str(base.folder), ("spleen",)))
    assert Path(recipe.network.initial) == base.folder


def test_mr_and_sigmoids_are_kept(base):
    preprocessing = Preprocessing((4.0, 1.0, 1.0), "zscore", None)
    mr = _changed(base, modality="MR", preprocessing=preprocessing, activation="sigmoid")
    recipe = add_organ_recipe(mr, HELD_OUT, AddOrganOptions("liver-ct", ("spleen",)))
    assert (recipe.data.modality, recipe.network.activation) == ("MR", "sigmoid")
    assert recipe.preprocessing.for_bundle() == preprocessing
    assert recipe.preprocessing.air is None


@pytest.mark.parametrize("how", ["cross-validation", "none"])
def test_without_a_hold_out_all_cases_train(base, how):
    recipe = add_organ_recipe(
        base, Split(("a", "b"), ("a", "b"), how), AddOrganOptions("liver-ct", ("spleen",))
    )
    assert recipe.data.validation == ()


@pytest.mark.parametrize("size", ["small", "volume"])
def test_the_command_trains_as_the_recipe_of_the_experiment(base, size):
    """What docs/results/add-organ.md measured is what users get."""
    parts = Path(__file__).parents[4] / "Training" / "recipes" / "add-organ" / "parts"
    measured = load_recipe(parts / f"{size}-ours.toml")
    planned = add_organ_recipe(base, HELD_OUT, AddOrganOptions("liver-ct", ("spleen",)))
    for field in ("optimiser", "learning_rate", "schedule", "head_factor", "trunk_factor", "head_alone"):
        assert getattr(planned.optimisation, field) == getattr(measured.optimisation, field), field
    assert measured.optimisation.labelled_per_batch == int(ANNOTATED_SHARE * measured.optimisation.batch_size)
    assert planned.augmentation.organ_centred == measured.augmentation.organ_centred
    assert planned.augmentation.favoured_share == pytest.approx(
        measured.augmentation.favoured_share, abs=0.01
    )
    assert planned.method_arguments.keys() == measured.method_arguments.keys()


def test_annotated_cases_come_first_where_there_are_others(base, make_project):
    project = make_project(4)
    wanted = add_organ_recipe(base, HELD_OUT, AddOrganOptions("liver-ct", ("spleen",)))
    wanted = replace(wanted, optimisation=replace(wanted.optimisation, batch_size=8))
    assert with_annotated_first(wanted, project).optimisation.labelled_per_batch == 0
    for organ in ("spleen", "liver"):
        set_status(project.folder, "case_3", organ, LabelStatus.UNKNOWN)
    project = load_project(project.folder)
    assert with_annotated_first(wanted, project).optimisation.labelled_per_batch == 6
    held_out = replace(wanted, data=replace(wanted.data, validation=("case_3",)))
    assert with_annotated_first(held_out, project).optimisation.labelled_per_batch == 0


def test_names_of_runs(base):
    assert run_name(base, ("spleen", "pancreas")) == "liver-ct-plus-spleen-pancreas"
    many = ("adrenal_gland_left", "adrenal_gland_right", "inferior_vena_cava")
    assert (
        add_organ_recipe(base, HELD_OUT, AddOrganOptions("liver-ct", many)).name == "liver-ct-plus-3-organs"
    )


@pytest.mark.parametrize(
    ("iterations", "points", "every"),
    [(1000, 5, (5, 200, 50)), (1000, 0, (5, 0, 50)), (30, 5, (1, 6, 3)), (1, 5, (1, 1, 1))],
)
def test_reports_in_proportion_to_the_length(base, iterations, points, every):
    recipe = add_organ_recipe(base, HELD_OUT, AddOrganOptions("liver-ct", ("spleen",)))
    reporting = with_iterations(recipe, iterations, points).reporting
    assert (reporting.log_every, reporting.validate_every, reporting.checkpoint_every) == every


def test_warnings(base):
    wanted = with_iterations(
        add_organ_recipe(base, HELD_OUT, AddOrganOptions("liver-ct", ("spleen",))), 150, 5
    )
    assert plan_warnings(wanted, wanted, HELD_OUT) == []
    small = replace(
        wanted,
        network=replace(wanted.network, patch_shape=(8, 16, 16)),
        optimisation=replace(wanted.optimisation, iterations=149, batch_size=1),
    )
    reported = " ".join(plan_warnings(wanted, small, Split(("a",), (), "none")))
    for said in ("nothing will prove", "Only 149 iterations", "8 × 16 × 16", "one patch a step"):
        assert said in reported


@pytest.mark.parametrize(
    ("organs", "cause", "step"),
    [
        ((), "No organ is named", "--organ"),
        (("spleen", "spleen"), "named twice", "--organ"),
        (("liver",), "liver-ct knows liver already", "--organ"),
        (("pancreas",), "The project has no organ pancreas", "add-organ"),
    ],
)
def test_options_that_cannot_be_met(base, make_project, organs, cause, step):
    with pytest.raises(TrainingError) as caught:
        check_options(base, make_project(1), AddOrganOptions("liver-ct", organs))
    assert cause in caught.value.cause
    assert step in caught.value.next_step


def test_an_organ_that_nobody_annotated(base, make_project):
    project = make_project(1)
    set_status(project.folder, "case_0", "spleen", LabelStatus.UNKNOWN)
    with pytest.raises(TrainingError) as caught:
        check_options(base, load_project(project.folder), AddOrganOptions("liver-ct", ("spleen",)))
    assert "In no case" in caught.value.cause
    assert "annotate" in caught.value.next_step


def test_a_project_of_another_modality(base, tmp_path):
    project = create_project(tmp_path / "MR", "mr", LabelTable({1: "spleen"}), modality="MR")
    with pytest.raises(TrainingError) as caught:
        check_options(base, project, AddOrganOptions("liver-ct", ("spleen",)))
    assert "holds MR, the model segments CT" in caught.value.cause


def test_a_plan_is_read_as_it_was_written(base, tmp_path):
    recipe = add_organ_recipe(base, HELD_OUT, AddOrganOptions("liver-ct", ("spleen",)))
    plan = Plan(recipe, (("a",), ("b", "c")), base.digest)
    assert load_plan(tmp_path) is None
    save_plan(plan, tmp_path)
    assert load_plan(tmp_path) == plan
    assert plan.new_organs == ("spleen",)


@pytest.mark.parametrize("spoil", ["", "{}", "[1]", '{"folds": 3, "recipe": {}, "base_sha256": ""}'])
def test_a_damaged_plan_is_refused(tmp_path, spoil):
    (tmp_path / PLAN_FILE).write_text(spoil, encoding="utf-8")
    with pytest.raises(TrainingError, match="cannot be read") as caught:
        load_plan(tmp_path)
    assert caught.value.cause
    assert "--run NAME" in caught.value.next_step


def test_a_plan_without_new_organs_is_refused(base, tmp_path):
    recipe = add_organ_recipe(base, HELD_OUT, AddOrganOptions("liver-ct", ("spleen",)))
    network = replace(recipe.network, arguments=dict(base.metadata.arguments))
    save_plan(Plan(replace(recipe, network=network), (), ""), tmp_path)
    with pytest.raises(TrainingError, match="cannot be read"):
        load_plan(tmp_path)
    text = json.loads((tmp_path / PLAN_FILE).read_text(encoding="utf-8"))
    assert text["schema_version"] == 1
