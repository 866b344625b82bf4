from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from typer.testing import CliRunner, Result

from multiorganseg.errors import Cancelled, OptionError, TrainingError
from multiorganseg.progress import CancelToken, Progress
from multiorganseg_training.run.fit import Place, fit
from multiorganseg_training.run.validate import load_run
from research.cli import app
from research.features.study import Settings, Study, study_features

CPU = torch.device("cpu")
ONE_ORGAN_EACH = {"known": {"case_a": ["liver"], "case_b": ["spleen"]}}
ARGUMENTS = {"prototypes": True, "width": 6, "per_class": 2, "pixels_per_class": 200}


@pytest.fixture
def train(phantom_recipe, phantom_data, tmp_path) -> Callable[..., Path]:
    """Train a few steps on the phantom, in a network of strided stem, and give the run's folder."""

    def run(folder: str, **sections) -> Path:
        sections.setdefault("name", folder)
        sections.setdefault("data", ONE_ORGAN_EACH)
        recipe = phantom_recipe(
            network={"activation": "sigmoid"},
            optimisation={"iterations": 2, "batch_size": 2},
            **sections,
        )
        place = Place(phantom_data, tmp_path / folder, tmp_path / "cache", CPU)
        fit(replace(recipe, reporting=replace(recipe.reporting, validate_every=0)), place, Progress())
        return place.run

    return run


@pytest.fixture
def study(phantom_data, tmp_path) -> Callable[..., Study]:
    def run(folders: list[Path], progress: Progress | None = None, **settings) -> Study:
        chosen = Settings(**{"pixels": 60, **settings})
        return study_features(folders, phantom_data, tmp_path / "cache", CPU, chosen, progress or Progress())

    return run


@pytest.fixture
def aligned(train) -> Path:
    return train("aligned", method="ltuda", method_arguments=ARGUMENTS)


@pytest.fixture
def baseline(train) -> Path:
    return train("baseline", method="partial")


def test_the_prototypes_of_a_second_stage_with_a_strided_stem(aligned, study):
    (found,) = study([aligned], space="projected").runs
    bank = load_run(aligned).classifier.labelled.prototypes
    assert found.space == "projected"
    assert found.prototypes.shape == (2, 2, 2, 6)
    np.testing.assert_array_equal(found.prototypes[0], bank[1:].numpy())
    np.testing.assert_allclose(np.linalg.norm(found.features, axis=1), 1, atol=1e-5)
    assert found.features.shape[1] == 6


def test_runs_are_shown_the_same_pixels(aligned, baseline, study):
    alone = study([baseline])
    both = study([baseline, aligned], space="projected")
    np.testing.assert_array_equal(both.pixels.position, alone.pixels.position)
    np.testing.assert_array_equal(both.runs[0].features, alone.runs[0].features)
    assert [run.space for run in both.runs] == ["network", "projected"]
    assert both.runs[0].prototypes is None
    counts = [dict(organ.pixels) for organ in both.runs[0].spread.organs.values()]
    assert counts == [{"labelled": 60, "unlabelled": 60, "all": 120, "fold": 0}] * 2


def test_hidden_organs_are_read_from_the_files(baseline, study):
    """Liver is hidden in case_b and spleen in case_a, the first two cases."""
    pixels = study([baseline]).pixels
    for channel, labelled in ((1, 1), (2, 0)):
        assert set(pixels.case[pixels.of("labelled", channel=channel)]) == {labelled}
        assert set(pixels.case[pixels.of("unlabelled", channel=channel)]) == {1 - labelled}


def test_a_supervised_run_is_compared_by_the_split_of_the_first(baseline, train, study):
    supervised = train("supervised", method="partial", data={})
    runs = study([baseline, supervised]).runs
    assert all(np.isfinite(run.spread.gap) for run in runs)
    with pytest.raises(TrainingError, match="hides no organ"):
        study([supervised, baseline])


def test_the_last_weights_are_others_than_the_averaged_ones(baseline, study):
    last, averaged = (study([baseline], weights=name).runs[0].features for name in ("last", "averaged"))
    assert not np.allclose(last, averaged)


def test_runs_of_one_recipe_are_told_apart(train, study):
    folders = [train(f"seed-{seed}", name="twice", method="partial", seed=seed) for seed in (0, 1)]
    assert [run.name for run in study(folders).runs] == ["twice (seed-0)", "twice (seed-1)"]


def test_runs_on_other_grids_do_not_compare(baseline, train, study):
    other = train("coarse", method="partial", preprocessing={"spacing_mm": [3.0, 3.0, 3.0]})
    with pytest.raises(TrainingError, match="cannot be shown the same voxels"):
        study([baseline, other])


def test_a_run_without_checkpoint(study, tmp_path):
    with pytest.raises(TrainingError, match="holds no checkpoint"):
        study([tmp_path])


def test_a_checkpoint_of_another_network(baseline, study):
    state = torch.load(baseline / "checkpoint.pt", weights_only=True)
    del state["average"]["head.weight"]
    torch.save(state, baseline / "checkpoint.pt")
    with pytest.raises(TrainingError, match="does not fit"):
        study([baseline])


def test_projection_needs_prototypes(baseline, study):
    with pytest.raises(TrainingError, match="has prototypes"):
        study([baseline], space="projected")


def test_cancelling(baseline, study):
    token = CancelToken()
    stages: list[str] = []

    def report(stage: str, fraction: float) -> None:
        stages.append(stage)
        if stage.startswith("features"):
            token.cancel()

    with pytest.raises(Cancelled):
        study([baseline], Progress(report, token))
    assert len([stage for stage in stages if stage.startswith("features")]) == 1


@pytest.mark.parametrize("wrong", [{"space": "deep"}, {"weights": "best"}, {"method": "umap"}, {"pixels": 1}])
def test_choices_that_do_not_exist(wrong):
    with pytest.raises(OptionError):
        Settings(**wrong)


def _command(*arguments: object) -> Result:
    runner = CliRunner(env={"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"})
    return runner.invoke(app, ["features", *(str(argument) for argument in arguments)])


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_the_command(method, aligned, baseline, phantom_data, tmp_path):
    target = tmp_path / "Bilder 图"
    common = ("--data", phantom_data, "--cache", tmp_path / "cache", "--device", "cpu", "-o", target)
    result = _command(
        baseline, aligned, *common, "--method", method, "--space", "projected", "--pixels", 40, "--fold"
    )
    assert result.exit_code == 0, result.output
    for text in ("Liver", "Spleen", "baseline", "aligned", "intra-class", "inter-class", "relative gap"):
        assert text in result.stdout
    found = json.loads((target / "features.json").read_text(encoding="utf-8"))
    assert found["labelled_as_in"] == "baseline"
    assert found["settings"]["method"] == method
    first, second = found["runs"]
    assert (first["space"], second["space"]) == ("network", "projected")
    assert second["organs"]["liver"]["pixels"] == {"labelled": 40, "unlabelled": 40, "all": 80, "fold": 40}
    assert 0 <= second["intra"]["all"] <= 1
    assert f"{second['organs']['spleen']['gap']:.4f}" in result.stdout
    picture = imread(target / "features.png")
    assert picture.shape[1] > 1.5 * picture.shape[0]
    assert len(np.unique(picture[..., :3].reshape(-1, 3), axis=0)) > 100


def test_the_command_writes_into_the_first_run_and_null_for_what_is_missing(train, phantom_data, tmp_path):
    run = train("half", method="partial", data={"known": {"*": ["liver"], "case_a": []}})
    result = _command(run, "--data", phantom_data, "--cache", tmp_path / "cache", "--pixels", 20)
    assert result.exit_code == 0, result.output
    assert (run / "features.png").is_file()
    spleen = json.loads((run / "features.json").read_text(encoding="utf-8"))["runs"][0]["organs"]["spleen"]
    assert spleen["gap"] is None
    assert spleen["intra"]["labelled"] is None
    assert spleen["pixels"]["labelled"] == 0


def test_the_command_without_a_checkpoint(phantom_data, tmp_path):
    result = _command(tmp_path, "--data", phantom_data)
    assert result.exit_code == 8
    assert "`multiorganseg-train fit`" in result.stderr
