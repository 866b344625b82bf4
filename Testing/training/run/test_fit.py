from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from multiorganseg.errors import Cancelled, TrainingError
from multiorganseg.events import read_events
from multiorganseg.progress import CancelToken, Progress
from multiorganseg.projects.runs import LOCK_FILE, Paused, request_pause, withdraw_pause
from multiorganseg_training.cli.app import app
from multiorganseg_training.recipe.file import recipe_from_dict
from multiorganseg_training.run.checkpoint import load_checkpoint
from multiorganseg_training.run.fit import EVENTS_FILE, RECIPE_FILE, RESULT_FILE, fit

PACKAGES = [Path(__file__).parents[3] / name for name in ("MultiOrganSeg", "Training")]
PATIENCE_SECONDS = 300


def _strict(text: str) -> object:
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_two_organs_are_learnt(phantom_run):
    for name in ("last", "averaged"):
        assert phantom_run.scores[name]["liver"] > 0.75, name
        assert phantom_run.scores[name]["spleen"] > 0.75, name
    values = phantom_run.scores["averaged"]
    assert values["mean"] == pytest.approx((values["liver"] + values["spleen"]) / 2)


def test_the_events_tell_the_run(phantom_run):
    events, iterations = phantom_run.events, phantom_run.recipe.optimisation.iterations
    assert [event["event"] for event in events] == [
        "started",
        *["progress"] * 4,
        "metric",
        *["progress"] * 2,
        "metric",
        "metric",
        "finished",
    ]
    started = events[0]
    assert (started["recipe"], started["training"], started["validation"]) == ("phantom-ct", 2, 1)
    reported = [event for event in events if event["event"] == "progress"]
    assert [event["iteration"] for event in reported] == list(range(20, iterations + 1, 20))
    for event in reported:
        assert event["iterations"] == iterations
        assert event["loss"] == pytest.approx(event["cross_entropy"] + event["dice_loss"], abs=1e-4)
        assert event["seconds_per_iteration"] > 0
        left = event["seconds_per_iteration"] * (iterations - event["iteration"])
        assert event["eta_seconds"] == pytest.approx(left, abs=0.6)
    assert reported[-1]["eta_seconds"] == 0
    assert reported[-1]["loss"] < reported[0]["loss"]
    metrics = [event for event in events if event["event"] == "metric"]
    assert [(event["name"], event["iteration"]) for event in metrics] == [
        ("dice of averaged network", 80),
        ("dice of last network", iterations),
        ("dice of averaged network", iterations),
    ]
    assert metrics[-1]["values"]["liver"] == phantom_run.scores["averaged"]["liver"]
    assert events[-1]["averaged"] == phantom_run.scores["averaged"]["mean"]
    assert [event["time"] for event in events] == sorted(event["time"] for event in events)


def test_the_folder_of_a_run(phantom_run):
    run = phantom_run.place.run
    assert json.loads((run / RESULT_FILE).read_text(encoding="utf-8")) == phantom_run.scores
    assert recipe_from_dict(json.loads((run / RECIPE_FILE).read_text(encoding="utf-8"))) == phantom_run.recipe
    assert sorted(path.name for path in run.iterdir()) == [
        LOCK_FILE,
        "checkpoint.pt",
        EVENTS_FILE,
        RECIPE_FILE,
        RESULT_FILE,
    ]
    assert len(list(phantom_run.place.cache.iterdir())) == 3


def test_another_recipe_leaves_the_one_of_the_run(phantom_recipe, place):
    fit(phantom_recipe(optimisation={"iterations": 1}), place, Progress())
    before = (place.run / RECIPE_FILE).read_bytes()
    with pytest.raises(TrainingError, match="another recipe"):
        fit(phantom_recipe(optimisation={"iterations": 2}), place, Progress())
    assert (place.run / RECIPE_FILE).read_bytes() == before
    last = list(read_events(place.run / EVENTS_FILE))[-1]
    assert last["event"] == "failed"
    assert "recipe" in last["next_step"]


def test_a_failure_is_told_with_its_cause(phantom_recipe, place, tmp_path):
    with pytest.raises(TrainingError):
        fit(phantom_recipe(), replace(place, data=tmp_path / "nothing"), Progress())
    (event,) = read_events(place.run / EVENTS_FILE)
    assert event["event"] == "failed"
    assert "not complete" in event["problem"]
    assert event["cause"] == "It holds no image."
    assert "images/" in event["next_step"]


def test_an_unexpected_failure_is_told_too(phantom_recipe, place, monkeypatch):
    def fail(*arguments: object, **options: object) -> None:
        message = "out of luck"
        raise RuntimeError(message)

    monkeypatch.setattr("multiorganseg_training.run.fit.train", fail)
    with pytest.raises(RuntimeError):
        fit(phantom_recipe(), place, Progress())
    last = list(read_events(place.run / EVENTS_FILE))[-1]
    assert (last["event"], last["problem"], last["cause"]) == ("failed", "RuntimeError", "out of luck")


def test_cancel_keeps_a_checkpoint_and_the_run_goes_on(phantom_recipe, place):
    recipe = phantom_recipe(optimisation={"iterations": 6}, reporting={"log_every": 1, "checkpoint_every": 0})
    token = CancelToken()

    def cancel_in_the_middle(stage: str, fraction: float) -> None:
        if stage.startswith("training") and fraction >= 0.5:
            token.cancel()

    with pytest.raises(Cancelled):
        fit(recipe, place, Progress(cancel_in_the_middle, token))
    checkpoint = load_checkpoint(place.run)
    assert checkpoint is not None
    assert 3 <= checkpoint.iteration < 6
    assert not (place.run / RESULT_FILE).exists()
    fit(recipe, place, Progress())
    reported = [
        event["iteration"] for event in read_events(place.run / EVENTS_FILE) if event["event"] == "progress"
    ]
    assert reported == [1, 2, 3, 4, 5, 6]


def test_an_organ_that_is_nowhere_is_no_number(phantom_recipe, place):
    recipe = phantom_recipe(
        data={"labels": {"1": "spleen", "6": "liver", "9": "pancreas"}}, optimisation={"iterations": 1}
    )
    fit(recipe, place, Progress())
    for line in (place.run / EVENTS_FILE).read_text(encoding="utf-8").splitlines():
        _strict(line)
    _strict((place.run / RESULT_FILE).read_text(encoding="utf-8"))


def test_what_no_case_teaches_is_told_and_nothing_at_all_refused(phantom_recipe, place):
    def said(organs: dict[str, str], method: str = "partial", **known: list[str]) -> str:
        data = {"labels": organs, "known": known}
        fit(phantom_recipe(method=method, data=data, optimisation={"iterations": 1}), place, Progress())
        events = read_events(place.run / EVENTS_FILE)
        return " ".join(event["message"] for event in events if event["event"] == "warning")

    with pytest.raises(TrainingError, match="No organ of the recipe is annotated"):
        said({"11": "spleen", "66": "liver"})
    with pytest.raises(TrainingError, match="No organ of the recipe is annotated"):
        said({"1": "spleen", "6": "liver"}, case_a=[], case_b=[])
    with pytest.raises(TrainingError, match="'supervised' needs every organ") as caught:
        said({"1": "spleen", "6": "liver"}, "supervised", case_b=["liver"])
    assert "case_b" in caught.value.cause
    assert "has pancreas annotated" in said({"1": "spleen", "6": "liver", "9": "pancreas"})


def test_a_run_goes_on_when_what_it_started_from_is_gone(phantom_recipe, place, phantom_run, tmp_path):
    start = tmp_path / "start"
    shutil.copytree(phantom_run.place.run, start)
    recipe = phantom_recipe(
        network={"initial": str(start)}, optimisation={"iterations": 4}, reporting={"log_every": 1}
    )

    def pause(stage: str, fraction: float) -> None:
        if stage.startswith("training") and fraction >= 0.5:
            request_pause(place.run)

    with pytest.raises(Paused):
        fit(recipe, place, Progress(pause))
    shutil.rmtree(start)
    withdraw_pause(place.run, math.inf)
    assert fit(recipe, place, Progress())["last"].keys() == {"spleen", "liver", "mean"}


def test_without_a_fold_nothing_is_measured(phantom_recipe, place):
    recipe = phantom_recipe(
        data={"validation": []}, optimisation={"iterations": 2}, reporting={"validate_every": 0}
    )
    assert fit(recipe, place, Progress()) == {}
    kinds = [event["event"] for event in read_events(place.run / EVENTS_FILE)]
    assert kinds == ["started", "progress", "finished"]


@pytest.mark.slow
def test_a_killed_run_goes_on(phantom_recipe, save_recipe, place, tmp_path):
    recipe = phantom_recipe(
        optimisation={"iterations": 150, "batch_size": 1},
        reporting={"log_every": 1, "validate_every": 0, "checkpoint_every": 10},
    )
    path = save_recipe(tmp_path / "recipe.toml", recipe)
    arguments = ["fit", str(path), "--data", str(place.data), "--run", str(place.run), "--device", "cpu"]
    arguments += ["--cache", str(place.cache)]
    command = [sys.executable, "-m", "multiorganseg_training", *arguments]
    paths = os.pathsep.join(map(str, PACKAGES))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"}
    events = place.run / EVENTS_FILE

    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as child:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (events.is_file() and '"iteration": 25' in events.read_text(encoding="utf-8")):
            assert child.poll() is None, "the child ended by itself"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        child.kill()
        assert child.wait(PATIENCE_SECONDS) != 0
    checkpoint = load_checkpoint(place.run)
    assert checkpoint is not None
    assert 20 <= checkpoint.iteration < 150
    reached = [event["iteration"] for event in read_events(events) if event["event"] == "progress"]

    finished = CliRunner().invoke(app, arguments)
    assert finished.exit_code == 0, finished.output
    reported = list(read_events(events))
    again = [event["iteration"] for event in reported if event["event"] == "progress"][len(reached) :]
    assert again == list(range(checkpoint.iteration + 1, 151))
    assert [event["event"] for event in reported].count("started") == 2
    assert reported[-1]["event"] == "finished"
    assert (place.run / RESULT_FILE).is_file()


@pytest.mark.parametrize(
    "changes",
    [{"method": "magic"}, {"network": {"patch_shape": [16, 30, 32]}}, {"method_arguments": {"a": 1}}],
)
def test_a_bad_recipe_is_refused_before_a_case_is_prepared(phantom_recipe, place, tmp_path, changes):
    with pytest.raises(TrainingError):
        fit(phantom_recipe(**changes), replace(place, cache=tmp_path / "cache"), Progress())
    assert not (tmp_path / "cache").exists()
