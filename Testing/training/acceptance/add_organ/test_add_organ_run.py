from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from multiorganseg.bundles import Bundle, find_bundle, read_weights, write_bundle
from multiorganseg.errors import Cancelled, TrainingError
from multiorganseg.inference.backends import load_network
from multiorganseg.projects.acceptance import load_acceptance
from multiorganseg.projects.runs import Paused, is_running, request_pause, run_lock
from multiorganseg_training.acceptance import add_organ as add_organ_module
from multiorganseg_training.acceptance import budget
from multiorganseg_training.acceptance.budget import Pace
from multiorganseg_training.acceptance.plan import PLAN_FILE, load_plan
from multiorganseg_training.project import LabelStatus, set_status
from multiorganseg_training.run.checkpoint import FILE_NAME, load_checkpoint
from multiorganseg_training.run.fit import EVENTS_FILE, RESULT_FILE
from multiorganseg_training.run.loop import NotFiniteError

PACKAGES = [Path(__file__).parents[4] / name for name in ("MultiOrganSeg", "Training")]


class Killed(BaseException):
    """Ends a program as nothing in it expects."""


def _weights(run: Path) -> dict[str, torch.Tensor]:
    checkpoint = load_checkpoint(run)
    assert checkpoint is not None
    return {**checkpoint.average, **{f"last {name}": tensor for name, tensor in checkpoint.network.items()}}


def _assert_same_weights(first: Path, second: Path) -> None:
    one, other = _weights(first), _weights(second)
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def _start(ours: Any, iterations: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "multiorganseg_training", "add-organ", "--base", "liver-ct"]
    command += ["--organ", "spleen", "--project", str(ours.project), "--run", ours.name]
    command += ["--iterations", str(iterations), "--cache", str(ours.cache), "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, PACKAGES)), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _logged(ours: Any) -> int:
    """Return the last iteration that a run has told of."""
    if not (ours.run / EVENTS_FILE).is_file():
        return 0
    return max((event.get("iteration", 0) for event in ours.reported("progress")), default=0)


def _finish(process: subprocess.Popen[bytes]) -> None:
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 0, said.decode()


def _kill_when(is_now: Callable[..., bool]) -> Callable[..., None]:
    def kill(*arguments: Any) -> None:
        if is_now(*arguments):
            raise Killed

    return kill


@pytest.fixture
def unjudged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the acceptance check, which takes longer than so short a training."""
    judged = SimpleNamespace(passed=True, organs={}, how="not at all")
    monkeypatch.setattr(add_organ_module, "check_run", lambda *arguments, **options: judged)


def test_a_new_organ_is_learned_and_the_old_one_kept(added):
    ours = added(4)
    acceptance = ours(iterations=60)
    assert acceptance.how == "hold-out"
    assert acceptance.passed
    assert acceptance.organs["spleen"].dice_new > 0.6
    assert acceptance.organs["liver"].difference > -0.01
    assert load_acceptance(ours.run).passed
    kinds = [event["event"] for event in ours.events]
    assert kinds[0] == "started"
    assert kinds[-2:] == ["acceptance", "finished"]
    assert kinds.count("started") == kinds.count("finished") == 1
    assert ours.reported("started")[0]["pid"] == os.getpid()
    assert ours.reported("acceptance")[0]["organs"]["spleen"]["verdict"] == "pass"
    assert "Only 60 iterations" in ours.reported("warning")[0]["message"]
    assert [event["message"] for event in ours.reported("warning")] == ours.warnings
    assert ours.reported("progress")[-1]["stage"] == "judging"
    assert not is_running(ours.run)


def test_the_same_command_after_the_end_judges_again_and_trains_nothing(added):
    ours = added(4)
    first = ours()
    trained = (ours.run / FILE_NAME).stat().st_mtime_ns
    ours.stages.clear()
    assert ours() == first
    assert (ours.run / FILE_NAME).stat().st_mtime_ns == trained
    assert not [stage for stage in ours.stages if stage.startswith("training")]


def test_the_old_network_stays_as_it_is_where_nothing_is_annotated_of_it(added):
    ours = added(4)
    cases = [f"case_{number}" for number in range(4)]
    for case in cases:
        set_status(ours.project, case, "liver", LabelStatus.UNKNOWN)
    acceptance = ours(iterations=30)
    assert acceptance.organs["liver"].reference == "base"
    assert acceptance.organs["liver"].dice_new > 0.85, "agreement with the base"
    trained = load_checkpoint(ours.run)
    before = load_network(find_bundle("liver-ct")).state_dict()
    for state in (trained.network, trained.average):
        assert all(torch.equal(state[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("kept", [False, True])
def test_killed_anywhere_the_same_command_ends_in_the_same_result(added, unjudged, monkeypatch, kept):
    if kept:
        monkeypatch.setattr(budget, "FEWEST_BATCHES", 2)
    whole = added(4, name="whole")
    whole(iterations=6)
    assert load_plan(whole.run).recipe.optimisation.fixed_batches == (2 if kept else 0)
    assert not list(whole.run.glob(".*/*.safetensors")), "what was kept goes at the end"
    moments = {
        "plan": lambda stage, fraction: False,
        "early": lambda stage, fraction: stage.startswith("training, loss") and fraction == 4 / 6,
        "late": lambda stage, fraction: stage.startswith("training, loss") and fraction == 1,
        "validating": lambda stage, fraction: stage == "validating" and fraction == 0.5,
    }
    for name, is_now in moments.items():
        parts = whole.beside(name)
        parts.at_report = _kill_when(is_now)
        with monkeypatch.context() as patch:
            if name == "plan":
                patch.setattr(add_organ_module, "save_plan", _kill_when(lambda plan, run: True))
            with pytest.raises(Killed):
                parts(iterations=6)
        assert not is_running(parts.run)
        parts.at_report = lambda stage, fraction: None
        parts(iterations=6)
        _assert_same_weights(whole.run, parts.run)


def test_killed_while_judging(added):
    ours = added(4)
    ours.at_report = _kill_when(lambda stage, fraction: stage == "drawing")
    with pytest.raises(Killed):
        ours()
    ours.at_report = lambda stage, fraction: None
    assert ours().passed == load_acceptance(ours.run).passed


def test_a_process_that_is_killed(unjudged, added):
    ours = added(4, name="killed")
    process = _start(ours, iterations=400)
    try:
        until = time.monotonic() + 120
        while not (ours.run / FILE_NAME).is_file():
            assert process.poll() is None, process.stderr.read().decode()
            assert time.monotonic() < until
            time.sleep(0.05)
        assert is_running(ours.run)
        with pytest.raises(TrainingError, match="in use by another program"):
            ours(iterations=400)
        process.send_signal(signal.SIGKILL if os.name != "nt" else signal.SIGTERM)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    assert not is_running(ours.run)
    done = load_checkpoint(ours.run)
    assert done is not None
    assert 0 < done.iteration < 400
    request_pause(ours.run)
    ours.at_report = lambda stage, fraction: stage.startswith("training, loss") and request_pause(ours.run)
    with pytest.raises(Paused):
        ours(iterations=400)
    later = load_checkpoint(ours.run)
    assert later is not None
    assert done.iteration < later.iteration <= done.iteration + 3


@pytest.mark.slow
def test_killed_at_ten_random_moments_it_ends_in_the_same_weights(added):
    whole = added(4, name="whole")
    killed = whole.beside("killed")
    _finish(_start(whole, iterations=150))
    reached = []
    for iteration in sorted(np.random.default_rng().integers(1, 150, 10)):
        process = _start(killed, iterations=150)
        while process.poll() is None and _logged(killed) < iteration:
            time.sleep(0.005)
        process.kill()
        process.communicate()
        done = load_checkpoint(killed.run)
        reached.append(done.iteration if done else 0)
    _finish(_start(killed, iterations=150))
    assert reached == sorted(reached)
    assert any(0 < iteration < 150 for iteration in reached), reached
    _assert_same_weights(whole.run, killed.run)


def test_pause_and_go_on(added, unjudged):
    whole = added(4, name="whole")
    whole(iterations=6)
    parts = whole.beside("parts")
    wanted = [0]

    def ask(stage: str, fraction: float) -> None:
        if stage.startswith("training, loss") and round(6 * fraction) == wanted[0]:
            request_pause(parts.run)

    parts.at_report = ask
    for number in (1, 3, 4):
        wanted[0] = number
        with pytest.raises(Paused, match=f"after {number} of 6") as caught:
            parts(iterations=6)
        assert caught.value.exit_code == 0
        assert parts.events[-1]["event"] == "paused"
        assert not is_running(parts.run)
    wanted[0] = -1
    parts(iterations=6)
    _assert_same_weights(whole.run, parts.run)
    assert [event["event"] for event in parts.events].count("started") == 4


@pytest.mark.parametrize("stage", ["measuring the pace", "judging case"])
def test_a_pause_is_heeded_outside_the_training_too(added, stage, monkeypatch):
    ours = added(4)
    monkeypatch.setattr(Pace, "iterations", lambda *arguments: (3, 0))
    asked = []

    def ask(now: str, fraction: float) -> None:
        if now.startswith(stage) and not asked:
            asked.append(now)
            request_pause(ours.run)

    ours.at_report = ask
    with pytest.raises(Paused):
        ours(iterations=None)
    assert (ours.run / PLAN_FILE).exists() == (stage == "judging case")
    acceptance = ours(iterations=None)
    assert acceptance.how == "hold-out"


def test_cancelling_keeps_a_checkpoint(unjudged, added):
    ours = added(4)
    ours.at_report = lambda stage, fraction: stage.startswith("training, loss") and ours.token.cancel()
    with pytest.raises(Cancelled):
        ours(iterations=6)
    checkpoint = load_checkpoint(ours.run)
    assert checkpoint is not None
    assert checkpoint.iteration == 2
    assert ours.events[-1]["event"] == "paused"


def test_few_cases_are_cross_validated_and_the_last_network_trains_on_all(added):
    ours = added(2)
    wanted = []

    def ask(stage: str, fraction: float) -> None:
        if stage.startswith("training without fold 2 of 2: training, loss") and not wanted:
            wanted.append(stage)
            request_pause(ours.run)

    ours.at_report = ask
    with pytest.raises(Paused, match="after 5 of 12"):
        ours(iterations=4)
    acceptance = ours(iterations=4)
    assert acceptance.how == "cross-validation"
    assert set(acceptance.cases) == {"case_0", "case_1"}
    folds = [load_checkpoint(ours.run / "folds" / name) for name in ("1", "2")]
    assert sorted(fold.recipe["data"]["validation"] for fold in folds) == [("case_0",), ("case_1",)]
    assert load_checkpoint(ours.run).recipe["data"]["validation"] == ()
    progress = [event for event in ours.reported("progress") if "loss" in event]
    assert sorted({event["iteration"] for event in progress}) == list(range(1, 13))
    assert {event["iterations"] for event in progress} == {12}
    assert [event["stage"] for event in progress][-1] == "training"
    assert [event["event"] for event in ours.events].count("finished") == 1


def test_a_case_that_comes_later_does_not_change_what_is_held_out(unjudged, added):
    ours = added(4)
    set_status(ours.project, "case_3", "spleen", LabelStatus.UNKNOWN)
    ours.at_report = lambda stage, fraction: request_pause(ours.run) if "loss" in stage else None
    with pytest.raises(Paused):
        ours(iterations=4)
    plan = load_plan(ours.run)
    assert plan is not None
    assert len(plan.folds) == 3
    set_status(ours.project, "case_3", "spleen", LabelStatus.ANNOTATED)
    ours.at_report = lambda stage, fraction: None
    ours(iterations=4)
    assert sorted(path.name for path in (ours.run / "folds").iterdir()) == ["1", "2", "3"]


def test_one_case_is_learned_and_proves_nothing(added):
    ours = added(1)
    acceptance = ours(iterations=3)
    assert acceptance.how == "none"
    assert not acceptance.passed
    assert any("nothing will prove" in message for message in ours.warnings)


def test_a_time_becomes_iterations(unjudged, added, monkeypatch):
    ours = added(4)
    paces = []
    real = add_organ_module.measure_pace

    def measure(*arguments):
        paces.append(real(*arguments))
        return Pace(2.0, 1.0)

    monkeypatch.setattr(add_organ_module, "measure_pace", measure)
    ours(iterations=None, seconds=100.0)
    assert min(paces[0].new, paces[0].again) > 0
    plan = load_plan(ours.run)
    assert plan is not None
    optimisation = plan.recipe.optimisation
    assert (optimisation.iterations, optimisation.fixed_batches) == (79, 16)
    assert Pace(2.0, 1.0).seconds(79, 16) == 95
    said = "About 3 minutes of training to a first usable result, 20 to a good one."
    assert said in ours.infos
    assert said in [event["stage"] for event in ours.reported("progress") if "stage" in event]
    assert "They take about 3 minutes here" in ours.warnings[0]


def test_float32_where_bfloat16_fails(unjudged, added, monkeypatch):
    monkeypatch.setattr(budget, "computes_bf16", lambda device: True)
    ours = added(4)
    seen = []

    def pace(recipe, *arguments):
        seen.append(recipe.optimisation.precision)
        if seen == ["bf16"]:
            msg = "The loss is nan."
            raise NotFiniteError(msg)
        return Pace(10.0, 10.0)

    monkeypatch.setattr(add_organ_module, "measure_pace", pace)
    monkeypatch.setattr(Pace, "iterations", lambda *arguments: (2, 0))
    ours(iterations=None)
    assert seen == ["bf16", "fp32"]
    plan = load_plan(ours.run)
    assert plan is not None
    assert plan.recipe.optimisation.precision == "fp32"


def test_a_training_in_which_bfloat16_fails_begins_anew_in_float32(unjudged, added, monkeypatch):
    monkeypatch.setattr(budget, "computes_bf16", lambda device: True)
    ours = added(2)
    real = add_organ_module.fit_locked

    def fit(recipe, place, events, progress):
        real(recipe, place, events, progress)
        if place.run.name == "2" and recipe.optimisation.precision == "bf16":
            (place.run / RESULT_FILE).unlink()
            msg = "The norm of the gradient is inf at iteration 3."
            raise NotFiniteError(msg)

    monkeypatch.setattr(add_organ_module, "fit_locked", fit)
    ours(iterations=2)
    runs = [ours.run / "folds" / "1", ours.run / "folds" / "2", ours.run]
    precisions = [load_checkpoint(run).recipe["optimisation"]["precision"] for run in runs]
    assert precisions == ["bf16", "fp32", "fp32"]
    assert any("begins anew in float32" in message for message in ours.warnings)
    assert ours.reported("warning")[-1]["message"] == ours.warnings[-1]


def test_a_training_that_diverges_in_float32_too(unjudged, added, monkeypatch):
    ours = added(4)

    def fit(*arguments):
        msg = "The loss is nan at iteration 3."
        raise NotFiniteError(msg)

    monkeypatch.setattr(add_organ_module, "fit_locked", fit)
    for _ in range(2):
        with pytest.raises(TrainingError, match="does not converge") as caught:
            ours(iterations=2)
    assert "nan at iteration 3" in caught.value.cause
    assert "project check" in caught.value.next_step
    assert ours.events[-1]["event"] == "failed"


@pytest.mark.parametrize(
    ("option", "cause"),
    [
        ({"organs": ("pancreas",)}, "begun for spleen"),
        ({"iterations": 5}, "begun with 3 iterations"),
        ({"seed": 1}, "begun with the seed 0"),
    ],
)
def test_a_run_that_was_begun_otherwise(unjudged, added, monkeypatch, option, cause):
    ours = added(4)
    monkeypatch.setattr(add_organ_module, "check_options", lambda *arguments: None)
    ours.at_report = lambda stage, fraction: request_pause(ours.run) if "loss" in stage else None
    with pytest.raises(Paused):
        ours(iterations=3)
    option = {"iterations": 3, **option}
    with pytest.raises(TrainingError, match="cannot go on so") as caught:
        ours(*option.pop("organs", ()), **option)
    assert cause in caught.value.cause
    assert "--run NAME" in caught.value.next_step
    assert ours.events[-1]["event"] == "paused", "the run itself did not fail"


def test_a_base_that_has_changed(unjudged, added, models, base: Bundle):
    ours = added(4)
    ours.at_report = lambda stage, fraction: request_pause(ours.run) if "loss" in stage else None
    with pytest.raises(Paused):
        ours(iterations=3)
    weights = {name: np.array(array) for name, array in read_weights(base).items()}
    weights["head.bias"] += 1
    write_bundle(models / "liver-ct", base.metadata, weights, "# New", "Text", replace=True)
    with pytest.raises(TrainingError, match="cannot go on so") as caught:
        ours(iterations=3)
    assert "another version of liver-ct" in caught.value.cause


def test_a_training_of_another_kind(added, phantom_run):
    ours = added(4)
    shutil.copytree(phantom_run.place.run, ours.run)
    with pytest.raises(TrainingError, match="cannot go on so") as caught:
        ours()
    assert "another kind" in caught.value.cause


def test_a_run_in_another_program_is_left_alone(added):
    ours = added(4)
    with run_lock(ours.run):
        request_pause(ours.run)
        with pytest.raises(TrainingError, match="in use"):
            ours()
        assert (ours.run / "stop").exists(), "the request to pause is for the other program"
    assert not (ours.run / "events.jsonl").exists()


def test_a_failure_is_reported(added, monkeypatch):
    ours = added(4)
    monkeypatch.setattr(add_organ_module, "check_run", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ours()
    assert ours.events[-1]["event"] == "failed"
    assert json.dumps(ours.events[-1])
