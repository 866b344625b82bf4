from __future__ import annotations

import dataclasses
import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from multiorganseg.bundles import load_bundle, read_weights
from multiorganseg.bundles.bundle import Bundle
from multiorganseg.errors import BundleError, TrainingError
from multiorganseg.inference.backends import load_network
from multiorganseg.metrics.scores import evaluate
from multiorganseg.organs.labels import LabelTable
from multiorganseg.progress import Progress
from multiorganseg.volumes.volume import Grid
from multiorganseg_training.acceptance.card import model_card
from multiorganseg_training.acceptance.publish import Publication, draft_bundle, publish
from multiorganseg_training.recipe.file import recipe_from_dict, recipe_to_dict
from multiorganseg_training.recipe.recipe import NAMES_OF_CASES, DataSpec
from multiorganseg_training.run.checkpoint import load_checkpoint, save_checkpoint

PUBLICATION = Publication("1.2.0", "CC-BY-4.0", "The licence's text", "## Data\n\nBlocks, see [here](x).")


@pytest.fixture(scope="module")
def bundle(phantom_run, tmp_path_factory) -> Bundle:
    folder = tmp_path_factory.mktemp("Modèles") / "phantom-ct"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MULTIORGANSEG_CACHE", str(folder.parent / "cache"))
        return publish(phantom_run.place.run, phantom_run.place.data, folder, PUBLICATION, Progress())


def test_the_bundle_loads_and_says_what_was_trained(bundle, phantom_run):
    metadata, recipe = load_bundle(bundle.folder).metadata, phantom_run.recipe
    assert (metadata.name, metadata.version, metadata.license) == ("phantom-ct", "1.2.0", "CC-BY-4.0")
    assert metadata.labels.organs == {1: "spleen", 2: "liver"}, "channels, not the values of the files"
    assert metadata.patch_shape == recipe.network.patch_shape
    assert metadata.preprocessing.spacing_mm == recipe.preprocessing.spacing_mm
    assert metadata.preprocessing.window == recipe.preprocessing.window
    assert metadata.training["iterations"] == recipe.optimisation.iterations
    assert metadata.training["recipe"]["seed"] == recipe.seed
    assert metadata.feature_channels == 8


def test_metrics_are_finite_and_good(bundle, phantom_run):
    metrics = bundle.metadata.metrics
    assert set(metrics) == {"spleen", "liver"}
    for key, measured in metrics.items():
        assert set(measured) == {"dice", "nsd", "hd95"}
        assert all(math.isfinite(value) for value in measured.values())
        assert measured["dice"] > 0.75
        assert measured["dice"] == pytest.approx(phantom_run.scores["averaged"][key], abs=0.1)


def test_the_weights_are_the_averaged_ones(bundle, phantom_run):
    checkpoint = load_checkpoint(phantom_run.place.run)
    assert checkpoint is not None
    weights = read_weights(bundle)
    assert weights.keys() == checkpoint.average.keys()
    for name, tensor in checkpoint.average.items():
        assert np.allclose(weights[name], tensor.numpy(), atol=1e-3, rtol=1e-3)
    features = load_network(bundle)(torch.zeros(1, 1, *phantom_run.recipe.network.patch_shape)).features
    assert features.shape[1] == bundle.metadata.feature_channels


def test_the_card_has_the_table(bundle):
    card = bundle.card_path.read_text(encoding="utf-8")
    assert card.startswith("# phantom-ct 1.2.0\n")
    assert "120 of 120 iterations" in card
    assert "Blocks, see [here](x)." in card
    assert "validation fold of 1 case\n" in card
    assert "case_" not in card
    rows = {
        cells[1]: cells[2:-1]
        for line in card.splitlines()
        if line.startswith("|") and len(cells := [cell.strip() for cell in line.split("|")]) == 7
    }
    for key in ("spleen", "liver"):
        dice, nsd, hd95, worst = rows[key]
        measured = bundle.metadata.metrics[key]
        assert float(dice) == pytest.approx(measured["dice"], abs=1e-3)
        assert float(nsd) == pytest.approx(measured["nsd"], abs=1e-3)
        assert float(hd95) == pytest.approx(measured["hd95"], abs=0.1)
        assert worst == dice
    mean = np.mean([values["dice"] for values in bundle.metadata.metrics.values()])
    assert rows["**mean of organs**"][0] == f"**{mean:.3f}**"
    assert "nan" not in card


def test_a_bundle_names_no_case_and_no_folder(bundle, phantom_run, tmp_path):
    said = json.dumps(bundle.metadata.training)
    assert "case_" not in said
    assert bundle.metadata.training["recipe"]["data"]["validation"] == "1 case"
    fields = {field.name for field in dataclasses.fields(DataSpec)}
    assert fields == {"labels", "modality", *NAMES_OF_CASES}, "does the further one name cases?"
    run = tmp_path / "run"
    shutil.copytree(phantom_run.place.run, run)
    checkpoint = load_checkpoint(run)
    for initial, kept in ((str(tmp_path / "Doe"), False), ("liver-ct", True)):
        recipe = recipe_from_dict(checkpoint.recipe)
        recipe = replace(recipe, network=replace(recipe.network, initial=initial))
        data = replace(recipe.data, training=("Doe_*",), validation=("Doe_1",), known={"Doe_2": ["liver"]})
        recipe = replace(recipe, data=data)
        save_checkpoint(replace(checkpoint, recipe=recipe_to_dict(recipe)), run)
        draft = draft_bundle(run, bundle, tmp_path / f"draft-{kept}")
        assert ("initial" in draft.metadata.training["recipe"]["network"]) == kept
        assert "Doe" not in json.dumps(draft.metadata.training)


def test_the_card_shows_an_organ_that_is_nowhere_and_the_worst_case(bundle, phantom_run):
    table, grid = LabelTable({1: "spleen", 2: "liver"}), Grid((4, 8, 8), np.eye(4))
    good, bad = np.zeros(grid.shape, np.uint8), np.zeros(grid.shape, np.uint8)
    good[1:3, 2:6, 2:6] = 2
    bad[1:3, 2:6, 2:4] = 2
    scores = {name: evaluate(found, table, good, table, grid) for name, found in (("a", good), ("b", bad))}
    card = model_card(bundle.metadata, phantom_run.recipe, scores, "Notes")
    assert "| spleen | – | – | – | – |" in card
    assert "| liver | 0.833 |" in card
    assert "| 0.667 |" in card


def test_the_card_says_when_nothing_was_measured(bundle, phantom_run):
    card = model_card(bundle.metadata, phantom_run.recipe, {}, "Notes")
    assert "## Not measured" in card
    assert "|" not in card


def test_a_run_without_a_checkpoint(phantom_run, tmp_path):
    with pytest.raises(TrainingError, match="holds no checkpoint") as caught:
        publish(tmp_path, phantom_run.place.data, tmp_path / "bundle", PUBLICATION, Progress())
    assert "fit" in caught.value.next_step


def test_a_folder_that_is_no_bundle_stays(phantom_run, tmp_path):
    (tmp_path / "phantom-ct").mkdir()
    (tmp_path / "phantom-ct" / "letter.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(BundleError, match="Cannot write a bundle"):
        publish(
            phantom_run.place.run, phantom_run.place.data, tmp_path / "phantom-ct", PUBLICATION, Progress()
        )
    assert (tmp_path / "phantom-ct" / "letter.txt").is_file()


def test_a_mixture_with_the_bundle_that_it_started_from_says_so(bundle, phantom_run, tmp_path):
    said = replace(PUBLICATION, mixed_with=bundle, share=0.5, version="2.0.0")
    mixed = publish(phantom_run.place.run, phantom_run.place.data, tmp_path / "mixed", said, Progress())
    reported = mixed.metadata.training["mixed_with"]
    assert reported == {
        "name": "phantom-ct",
        "version": "1.2.0",
        "sha256": bundle.digest,
        "share_of_this_run": 0.5,
    }
    old = read_weights(bundle)
    for name, array in read_weights(mixed).items():
        assert np.allclose(array, old[name], atol=1e-3, rtol=1e-3)
    assert mixed.metadata.domain == bundle.metadata.domain is not None
