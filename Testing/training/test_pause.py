from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from multiorganseg.errors import Cancelled, TrainingError
from multiorganseg.events import read_events
from multiorganseg.progress import CancelToken, Progress
from multiorganseg.projects.runs import STOP_FILE, Paused, is_running, request_pause, run_lock
from multiorganseg_training.cli.app import app
from multiorganseg_training.run.checkpoint import load_checkpoint
from multiorganseg_training.run.fit import EVENTS_FILE, RESULT_FILE, fit

PACKAGES = [Path(__file__).parents[2] / name for name in ("MultiOrganSeg", "Training")]
SIX = {"optimisation": {"iterations": 6}, "reporting": {"log_every": 1, "checkpoint_every": 0}}


def _pause_at(run: Path, iteration: int) -> Progress:
    def report(stage: str, fraction: float) -> None:
        if stage.startswith("training") and round(fraction * 6) == iteration:
            request_pause(run)

    return Progress(report)


def _kinds(run: Path) -> list[str]:
    return [event["event"] for event in read_events(run / EVENTS_FILE)]


def _kinds_since_start(run: Path, starts: int) -> list[str]:
    """Kinds of the events since the start that follows so many others."""
    kinds = _kinds(run) if (run / EVENTS_FILE).is_file() else []
    beginnings = [number for number, kind in enumerate(kinds) if kind == "started"]
    return kinds[beginnings[starts] :] if len(beginnings) > starts else []


def test_a_request_pauses_after_the_iteration_and_the_next_start_forgets_it(phantom_recipe, place):
    recipe = phantom_recipe(**SIX)
    with pytest.raises(Paused, match="Paused after 3 of 6") as caught:
        fit(recipe, place, _pause_at(place.run, 3))
    assert caught.value.exit_code == 0
    checkpoint = load_checkpoint(place.run)
    assert checkpoint is not None
    assert checkpoint.iteration == 3
    assert _kinds(place.run) == ["started", "progress", "progress", "progress", "paused"]
    assert (place.run / STOP_FILE).exists()
    assert not is_running(place.run)
    fit(recipe, place, Progress())
    assert not (place.run / STOP_FILE).exists()
    assert _kinds(place.run)[5:9] == ["started", "progress", "progress", "progress"]
    assert _kinds(place.run)[-1] == "finished"


def test_a_start_is_known_to_a_fraction_of_a_second():
    """Else a run that is paused and started again at once takes the request of before for its own."""
    tells = "from multiorganseg.projects.runs import process_start; print(process_start())"
    before = time.time()
    started = float(
        subprocess.run(
            [sys.executable, "-c", tells],
            env={**os.environ, "PYTHONPATH": str(PACKAGES[0])},
            capture_output=True,
            check=True,
        ).stdout
    )
    assert before - 0.05 < started < time.time(), "the system counts in hundredths"


def test_a_request_at_the_last_iteration_comes_too_late(phantom_recipe, place):
    fit(phantom_recipe(**SIX), place, _pause_at(place.run, 6))
    assert _kinds(place.run)[-1] == "finished"


def test_cancelling_is_told_as_a_pause(phantom_recipe, place):
    token = CancelToken()
    with pytest.raises(Cancelled):
        fit(phantom_recipe(**SIX), place, Progress(lambda *_: token.cancel(), token))
    assert _kinds(place.run) == ["paused"], "cancelled before the first iteration"


def test_a_second_start_is_refused_and_leaves_the_first_alone(phantom_recipe, place, monkeypatch):
    monkeypatch.setattr("multiorganseg.projects.runs.RUN_SECONDS", 0.1)
    with run_lock(place.run):
        request_pause(place.run)
        before = sorted(path.name for path in place.run.iterdir())
        with pytest.raises(TrainingError, match="run is in use by another program") as caught:
            fit(phantom_recipe(**SIX), place, Progress())
        assert f"process {os.getpid()}" in caught.value.cause
        assert sorted(path.name for path in place.run.iterdir()) == before, "the request is not its own"


def test_half_written_checkpoints_go_at_the_start(phantom_recipe, place):
    (place.run / ".partial-abc").mkdir(parents=True)
    (place.run / ".partial-abc" / "checkpoint.pt").write_bytes(b"half")
    fit(phantom_recipe(optimisation={"iterations": 1}), place, Progress())
    assert not list(place.run.glob(".partial-*"))


def test_the_command_ends_well_and_says_how_to_go_on(
    phantom_recipe, save_recipe, place, tmp_path, monkeypatch
):
    def pause(*arguments: object, **options: object) -> None:
        raise Paused(3, 6)

    monkeypatch.setattr("multiorganseg_training.run.fit.train", pause)
    path = save_recipe(tmp_path / "recipe.toml", phantom_recipe(**SIX))
    arguments = ["fit", str(path), "--data", str(place.data), "--run", str(place.run), "--device", "cpu"]
    result = CliRunner().invoke(app, [*arguments, "--cache", str(place.cache)])
    assert result.exit_code == 0, result.output
    assert "Paused after 3 of 6 iterations. The same command goes on from here." in result.stdout
    assert "Next" not in result.stdout


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_as_if_nothing_had_been(phantom_recipe, save_recipe, place, tmp_path):
    recipe = phantom_recipe(
        optimisation={"iterations": 100, "batch_size": 1},
        data={"validation": []},
        reporting={"log_every": 1, "validate_every": 0, "checkpoint_every": 1},
    )
    path = save_recipe(tmp_path / "recipe.toml", recipe)
    arguments = ["fit", str(path), "--data", str(place.data), "--run", str(place.run), "--device", "cpu"]
    command = [sys.executable, "-m", "multiorganseg_training", *arguments, "--cache", str(place.cache)]
    paths = os.pathsep.join(map(str, PACKAGES))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"}
    generator = random.Random(5)
    reached: list[int] = []
    for kills in range(4):
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as child:
            while "progress" not in _kinds_since_start(place.run, kills):
                assert child.poll() is None
                time.sleep(0.02)
            time.sleep(generator.uniform(0.0, 0.4))
            child.kill()
        checkpoint = load_checkpoint(place.run)
        reached.append(checkpoint.iteration if checkpoint else 0)
    assert 0 < reached[0] < reached[-1] < 100, "the kills fell into the training"
    assert reached == sorted(reached)
    fit(recipe, place, Progress())
    assert (place.run / RESULT_FILE).is_file()
    whole = tmp_path / "whole"
    fit(recipe, type(place)(place.data, whole, place.cache, place.device), Progress())
    ends = [load_checkpoint(run) for run in (place.run, whole)]
    assert all(end is not None and end.iteration == 100 for end in ends)
    for name, tensor in ends[0].network.items():
        assert torch.equal(tensor, ends[1].network[name]), name
