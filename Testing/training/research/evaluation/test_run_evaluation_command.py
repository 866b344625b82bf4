from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from multiorganseg.errors import Cancelled
from multiorganseg.progress import CancelToken, Progress
from multiorganseg_training.run.checkpoint import load_checkpoint
from multiorganseg_training.run.fit import RESULT_FILE, fit
from multiorganseg_training.run.validate import Options, load_run
from research.cli import app
from research.evaluation.measure import evaluate_run


def _run(*arguments: object) -> Result:
    runner = CliRunner(env={"COLUMNS": "120", "TERM": "dumb", "NO_COLOR": "1"})
    return runner.invoke(app, ["evaluate", *map(str, arguments)])


def _places(place) -> tuple[object, ...]:
    return ("--data", place.data, "--cache", place.cache, "--device", "cpu")


def _strict(path: Path) -> dict:
    text = path.read_text(encoding="utf-8")
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@pytest.fixture
def finished(phantom_run, tmp_path) -> Path:
    """A copy of the phantom's run."""
    return Path(shutil.copytree(phantom_run.place.run, tmp_path / "Läufe" / "run"))


def test_without_components_the_dice_is_that_of_the_training(finished, phantom_run):
    for weights in ("averaged", "last"):
        result = _run(finished, *_places(phantom_run.place), "--no-components", "--weights", weights)
        assert result.exit_code == 0, result.output
        report = _strict(finished / "evaluation" / "evaluation.json")
        assert report["run"] == finished.name
        scores = _strict(finished / RESULT_FILE)[weights]
        for reading in ("ltuda", "full"):
            organs = report[reading]["organs"]
            assert {key: means["dice"]["mean"] for key, means in organs.items()} == pytest.approx(
                {key: value for key, value in scores.items() if key != "mean"}, abs=1e-6
            )
            assert report[reading]["mean"]["dice"]["mean"] == pytest.approx(scores["mean"], abs=1e-6)
        assert (report["weights"], report["classifier"], report["iteration"]) == (weights, "linear", 120)
        assert report["largest_components"] is False


def test_what_is_written_and_shown(finished, phantom_run, tmp_path):
    folder = tmp_path / "results"
    result = _run(finished, *_places(phantom_run.place), "-o", folder)
    assert result.exit_code == 0, result.output
    for text in (
        "phantom-ct, seed 0, iteration 120: averaged weights, linear classifier, largest components",
        "As LTUDA reads it: 1 validation case, on the network's grid",
        "network's grid of 2 × 1.5 × 1.5 mm",
        "HD of slices, pixels",
        "Slices skipped",
        "NSD 2 mm",
        "HD95 vox",
        "0 of 1",
        "2 of 2",
        f"Written: {folder}",
    ):
        assert text in result.stdout
    report = _strict(folder / "evaluation.json")
    assert report["grid"] == "the network's"
    assert report["spacing_mm"] == [2.0, 1.5, 1.5]
    assert list(report["cases"]) == ["case_c"]
    assert report["full"]["empty_predictions"] == {"spleen": 0, "liver": 0}
    liver = report["cases"]["case_c"]["liver"]
    assert liver["dice"] > 0.75
    assert liver["jaccard"] == pytest.approx(liver["dice"] / (2 - liver["dice"]), abs=1e-5)
    assert report["ltuda"]["slices"]["liver"] == 12
    with (folder / "evaluation.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], row["organ"]) for row in rows] == [("case_c", "spleen"), ("case_c", "liver")]
    for name, value in liver.items():
        assert rows[1][name] == str(value)


def test_the_training_cases_with_what_is_known_of_them(phantom_recipe, place):
    recipe = phantom_recipe(
        data={"known": {"case_a": ["liver"], "case_b": []}},
        method="partial",
        optimisation={"iterations": 1},
        reporting={"validate_every": 0},
    )
    fit(recipe, place, Progress())
    assert _run(place.run, *_places(place), "--split", "training").exit_code == 0
    report = _strict(place.run / "evaluation" / "evaluation.json")
    assert {name: list(organs) for name, organs in report["cases"].items()} == {"case_a": ["liver"]}


@pytest.fixture
def second_stage(phantom_recipe, place):
    """A short run that has prototypes."""
    recipe = phantom_recipe(
        data={"known": {"case_a": ["liver"], "case_b": ["spleen"]}},
        method="ltuda",
        method_arguments={"prototypes": True, "width": 8, "per_class": 2, "pixels_per_class": 64},
        network={
            "architecture": "slice_unet",
            "activation": "sigmoid",
            "arguments": {"filters": [8, 8, 8, 8, 8]},
            "patch_shape": [1, 64, 64],
        },
        optimisation={"iterations": 120, "batch_size": 4},
        reporting={"validate_every": 0},
    )
    fit(recipe, place, Progress())
    return place


def test_all_three_classifiers_of_a_second_stage(second_stage):
    found = {}
    for name in ("linear", "labelled", "unlabelled"):
        folder = second_stage.run / f"evaluation-{name}"
        result = _run(second_stage.run, *_places(second_stage), "--classifier", name, "-o", folder)
        assert result.exit_code == 0, result.output
        assert f"{name} classifier" in result.stdout
        found[name] = _strict(folder / "evaluation.json")
    assert [report["classifier"] for report in found.values()] == ["linear", "labelled", "unlabelled"]
    assert len({json.dumps(report["cases"]) for report in found.values()}) == 3
    dice = {name: report["cases"]["case_c"]["liver"]["dice"] for name, report in found.items()}
    assert dice["linear"] > 0.5, dice  # so short a run settles no prototypes: theirs is 0 to 0.99 by the seed


def test_averaged_prototypes_judge_the_averaged_network(second_stage):
    checkpoint = load_checkpoint(second_stage.run)
    assert checkpoint is not None
    averaged, last = (load_run(second_stage.run, weights).classifier for weights in ("averaged", "last"))
    for name, classifier in (("averaged", averaged), ("last", last)):
        assert classifier is not None
        known = checkpoint.method_average if name == "averaged" else checkpoint.method
        prefix = "" if name == "averaged" else "classifier."
        for key, tensor in classifier.state_dict().items():
            assert torch.equal(tensor, known[prefix + key])
    weight = "projection.layers.0.weight"
    assert not torch.equal(averaged.state_dict()[weight], last.state_dict()[weight])
    assert not torch.equal(averaged.unlabelled.prototypes, last.unlabelled.prototypes)


def test_a_run_without_prototypes(finished, phantom_run):
    result = _run(finished, *_places(phantom_run.place), "--classifier", "unlabelled")
    assert result.exit_code == 8
    assert "has no prototype classifier" in result.stderr
    assert "method 'supervised'" in result.stderr
    assert not (finished / "evaluation").exists()


def test_a_folder_without_a_checkpoint(place, tmp_path):
    result = _run(tmp_path, *_places(place))
    assert result.exit_code == 8
    assert "holds no checkpoint" in result.stderr


def test_a_recipe_without_a_fold(phantom_recipe, place):
    recipe = phantom_recipe(
        data={"validation": []}, optimisation={"iterations": 1}, reporting={"validate_every": 0}
    )
    fit(recipe, place, Progress())
    result = _run(place.run, *_places(place))
    assert result.exit_code == 8
    assert "hold nothing to measure" in result.stderr
    assert "data.validation is empty" in result.stderr


def test_an_unknown_classifier(finished, phantom_run):
    assert _run(finished, *_places(phantom_run.place), "--classifier", "oracle").exit_code == 2


def test_progress_rises_and_cancels(finished, phantom_run):
    place = phantom_run.place
    reported: list[tuple[str, float]] = []
    token = CancelToken()

    def report(stage: str, fraction: float) -> None:
        reported.append((stage, fraction))
        if stage.startswith("measuring") and 0.2 < fraction < 0.9:
            token.cancel()

    with pytest.raises(Cancelled):
        evaluate_run(finished, place.data, place.cache, place.device, Options(), Progress(report, token))
    assert reported[-1][0] == "measuring, case_c"
    fractions = [fraction for stage, fraction in reported if stage.startswith("measuring")]
    assert fractions == sorted(fractions)
    assert not (finished / "evaluation").exists()
