"""One fraction over all stages, and the time left."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from multiorganseg.progress import Stage

ENGINE = Path(__file__).resolve().parents[3] / "MultiOrganSeg" / "multiorganseg"


@pytest.fixture
def stages(host: Any) -> Any:
    from MultiOrganSegLib import run as stages

    return stages


def test_the_weights_are_those_of_the_engines_stages(stages: Any) -> None:
    reported = set()
    for name in ("resident/worker.py", "inference/segment.py", "inference/stream.py"):
        for node in ast.walk(ast.parse((ENGINE / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "progress" and len(node.args) == 2:
                reported.add(ast.unparse(node.args[0]))
    assert reported == {f"Stage.{stage.name}" for stage in Stage}
    assert list(stages.WEIGHTS) == list(Stage)
    assert sum(stages.WEIGHTS.values()) == pytest.approx(1)


def test_the_time_left_follows_the_networks_pace(stages: Any) -> None:
    now = 0.0
    progress = stages.StageProgress(clock=lambda: now)
    progress.update("reading", 0.0)
    now = 30.0
    progress.update("loading the network", 1.0)
    assert progress.eta_seconds is None
    now = 31.0
    progress.update("segmenting", 0.0)
    assert progress.eta_seconds is None
    fraction = progress.fraction
    for step in range(1, 11):
        now = 31.0 + 10 * step
        progress.update("segmenting", step / 10)
        assert progress.fraction > fraction
        fraction = progress.fraction
        rest = 10 * (10 - step)
        assert rest <= progress.eta_seconds <= rest + 100 * 0.2
    now += 1.0
    before = progress.eta_seconds
    now += 2.0
    assert progress.eta_seconds == pytest.approx(before - 2)
    progress.complete()
    assert (progress.fraction, progress.eta_seconds) == (1.0, 0.0)


def test_it_never_falls_and_unknown_stages_move_nothing(stages: Any) -> None:
    progress = stages.StageProgress()
    progress.update("segmenting", 0.5)
    half = progress.fraction
    for stage, fraction in (("segmenting", 0.2), ("reading", 0.0), ("dreaming", 1.0)):
        progress.update(stage, fraction)
        assert (progress.stage, progress.fraction) == (stage, half)
