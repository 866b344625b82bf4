from __future__ import annotations

from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch

from multiorganseg.bundles import load_bundle
from multiorganseg.errors import Cancelled, TrainingError
from multiorganseg.events import EventStream
from multiorganseg.inference.prepare import prepare
from multiorganseg.inference.segment import Options, Segmenter
from multiorganseg.progress import CancelToken, Progress
from multiorganseg.volumes.read import read_volume
from multiorganseg_training.acceptance.publish import Publication, publish
from multiorganseg_training.data.batches import PatchSampler
from multiorganseg_training.data.cache import PreparedCase, prepare_cases
from multiorganseg_training.data.cases import find_cases
from multiorganseg_training.recipe.recipe import PreprocessingSpec, Recipe
from multiorganseg_training.run.fit import Place, fit
from multiorganseg_training.run.loop import Trained, train

CPU = torch.device("cpu")
NETWORK = {
    "architecture": "vnet",
    "arguments": {"n_filters": 4, "stages": 3},
    "patch_shape": [16, 32, 32],
}
OPTIMISATION = {
    "iterations": 6,
    "batch_size": 2,
    "labelled_per_batch": 1,
    "optimiser": "sgd",
    "nesterov": False,
}
SILENT = {"log_every": 0, "validate_every": 0, "checkpoint_every": 0}


@pytest.fixture
def cases(prepared) -> list[PreparedCase]:
    """One case with two organs annotated and one with nothing."""
    first, second = prepared
    return [first, second.hide_all_but(frozenset())]


@pytest.fixture
def mutual_recipe(phantom_recipe):
    def make(**sections: object) -> Recipe:
        chosen = {
            "method": "mutual",
            "method_arguments": {"ramp_every": 1, "ramp_steps": 3},
            "network": NETWORK,
            "optimisation": OPTIMISATION,
            "reporting": SILENT,
        }
        return phantom_recipe(**{**chosen, **sections})

    return make


def _train(recipe: Recipe, cases: list[PreparedCase], run: Path, stop: float = 2.0) -> Trained:
    token = CancelToken()

    def report(stage: str, fraction: float) -> None:
        if fraction >= stop:
            token.cancel()

    return train(
        recipe,
        cases,
        run,
        CPU,
        EventStream(StringIO()),
        Progress(report, token),
        lambda network, number: None,
    )


@pytest.mark.parametrize("labelled", [True, False])
def test_the_sampler_gives_cases_of_the_kind_asked_for(cases, labelled):
    sampler = PatchSampler([*cases, *cases], 0.5, np.random.default_rng(0))
    drawn = [sampler.draw(labelled)[0] for _ in range(20)]
    assert {bool(case.known) for case in drawn} == {labelled}
    assert {bool(sampler.draw()[0].known) for _ in range(20)} == {True, False}


def test_the_sampler_tells_when_there_is_no_such_case(prepared):
    sampler = PatchSampler(prepared, 0.5, np.random.default_rng(0))
    with pytest.raises(TrainingError, match="without annotations") as caught:
        sampler.draw(False)
    assert "labelled_per_batch" in caught.value.next_step


def test_each_batch_holds_as_many_labelled_patches_as_asked_for(mutual_recipe, cases, tmp_path, monkeypatch):
    seen = []
    draw = PatchSampler.draw
    monkeypatch.setattr(
        PatchSampler,
        "draw",
        lambda sampler, kind=None, generator=None: seen.append(kind) or draw(sampler, kind, generator),
    )
    optimisation = {**OPTIMISATION, "iterations": 2, "batch_size": 3, "labelled_per_batch": 2}
    _train(mutual_recipe(optimisation=optimisation), cases, tmp_path / "some")
    assert seen == [True, True, False] * 2
    seen.clear()
    _train(mutual_recipe(optimisation={**optimisation, "labelled_per_batch": 0}), cases, tmp_path / "any")
    assert seen == [None] * 6


@pytest.mark.parametrize("method", ["mutual", "mean_teacher"])
def test_a_stopped_run_with_dropout_and_a_ramp_ends_as_an_uninterrupted_one(
    mutual_recipe, cases, tmp_path, method
):
    recipe = mutual_recipe(method=method)
    whole = _train(recipe, cases, tmp_path / "whole").last.state_dict()
    with pytest.raises(Cancelled):
        _train(recipe, cases, tmp_path / "parts", stop=0.5)
    parts = _train(recipe, cases, tmp_path / "parts").last.state_dict()
    assert all(torch.equal(tensor, parts[name]) for name, tensor in whole.items())
    first, second = (torch.load(tmp_path / run / "checkpoint.pt") for run in ("whole", "parts"))
    assert int(first["method"]["iteration"]) == int(second["method"]["iteration"]) == 6


def test_batches_without_labels_can_be_trained_on(mutual_recipe, cases, tmp_path):
    recipe = mutual_recipe(
        optimisation={"iterations": 2, "batch_size": 2, "labelled_per_batch": 0},
        method_arguments={"ramp_steps": 0},
    )
    trained = _train(recipe, cases[1:], tmp_path / "run")
    assert all(torch.isfinite(tensor).all() for tensor in trained.last.state_dict().values())


def test_standardised_volumes_are_prepared_as_the_engine_does(phantom_data, tmp_path):
    window = PreprocessingSpec((3.0, 2.0, 2.0))
    standardised = PreprocessingSpec((3.0, 2.0, 2.0), intensity="zscore")
    chosen = find_cases(phantom_data)[:1]
    one, other = (prepare_cases(chosen, tmp_path, spec, Progress())[0] for spec in (window, standardised))
    assert len(list(tmp_path.iterdir())) == 2
    assert one.image.min() == -1
    _, image = prepare(read_volume(chosen[0].image), standardised.for_bundle())
    np.testing.assert_array_equal(other.image, image.astype(np.float16))
    assert float(other.image.astype(float).mean()) == pytest.approx(0, abs=0.01)
    assert float(other.image.astype(float).std()) == pytest.approx(1, abs=0.01)
    assert (window.air, standardised.air) == (-1, None)


def test_mutual_learning_of_standardised_volumes_becomes_a_bundle(
    mutual_recipe, phantom_data, tmp_path, monkeypatch
):
    monkeypatch.setenv("MULTIORGANSEG_CACHE", str(tmp_path / "engine"))
    recipe = mutual_recipe(
        data={"modality": "MR", "known": {"*": [], "case_a": ["liver", "spleen"]}},
        preprocessing={"intensity": "zscore"},
        augmentation={"quarter_turns": True},
    )
    scores = fit(recipe, Place(phantom_data, tmp_path / "run", tmp_path / "cases", CPU), Progress())
    assert set(scores["last"]) == {"spleen", "liver", "mean"}
    publication = Publication("1.0.0", "CC-BY-4.0", "The licence's text", "Notes", "fast")
    publish(tmp_path / "run", phantom_data, tmp_path / "phantom-mr", publication, Progress())
    bundle = load_bundle(tmp_path / "phantom-mr")
    assert bundle.metadata.preprocessing.intensity == "zscore"
    assert bundle.metadata.preprocessing.window is None
    volume = read_volume(phantom_data / "images" / "case_c.nii.gz")
    assert Segmenter(bundle, Options(quality="fast")).segment(volume).labels.shape == volume.voxels.shape


def test_a_case_that_is_named_is_not_one_of_the_others(phantom_recipe):
    data = phantom_recipe(data={"known": {"*": [], "case_a": ["liver"]}}).data
    assert [data.known_channels(name) for name in ("case_a", "case_b")] == [{2}, set()]
