from __future__ import annotations

import json
from io import StringIO

from multiorganseg.events import EventStream
from multiorganseg_training.acceptance.add_organ import PartEvents

PROGRESS = {"iteration": 10, "iterations": 40, "loss": 0.5, "seconds_per_iteration": 2.0, "eta_seconds": 60}


def _told(number: int, count: int) -> list[dict]:
    sink = StringIO()
    part = PartEvents(EventStream(sink), number, count, 40)
    part.emit("started", pid=1)
    part.emit("progress", **PROGRESS)
    part.emit("metric", name="dice", iteration=20, liver=0.5)
    part.emit("warning", message="Look")
    part.emit("finished")
    return [json.loads(line) for line in sink.getvalue().splitlines()]


def test_iterations_are_counted_over_all_trainings():
    progress, metric, warning = _told(1, 4)
    assert (progress["iteration"], progress["iterations"]) == (50, 160)
    assert progress["eta_seconds"] == 60 + 2 * 40 * 2
    assert progress["stage"] == "training without fold 2 of 3"
    assert metric["iteration"] == 60
    assert warning["message"] == "Look"


def test_the_last_training_is_named_so():
    progress, *_ = _told(3, 4)
    assert (progress["iteration"], progress["eta_seconds"], progress["stage"]) == (130, 60, "training")


def test_a_single_training_is_told_as_it_is():
    progress, metric, _ = _told(0, 1)
    assert {key: progress[key] for key in PROGRESS} == PROGRESS
    assert metric["iteration"] == 20
