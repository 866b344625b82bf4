from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest

from multiorganseg.errors import BundleError, Cancelled, MultiOrganSegError, ResourceError
from multiorganseg.events import (
    EventStream,
    EventTail,
    event_log,
    failure,
    metric_values,
    parse_event,
    read_events,
)


class Flushed(io.StringIO):
    def __init__(self) -> None:
        super().__init__()
        self.seen = ""

    def flush(self) -> None:
        self.seen = self.getvalue()


def test_every_event_is_one_line_and_seen_at_once() -> None:
    sink, before = Flushed(), time.time()
    stream = EventStream(sink)
    stream.emit("started", case="Bäuche\nzwei", organs=["liver"])
    stream.emit("metric", dice=0.91)
    first, second = map(json.loads, sink.seen.splitlines())
    assert first["event"] == "started"
    assert first["case"] == "Bäuche\nzwei"
    assert before - 1 <= first["time"] <= second["time"] <= time.time() + 1
    assert (second["event"], second["dice"]) == ("metric", 0.91)


def test_failures_say_cause_and_next_step() -> None:
    sink = io.StringIO()
    stream = EventStream(sink)
    stream.fail(BundleError("Broken.", cause="A bit flipped.", next_step="Install it again."))
    stream.fail(KeyError("liver"))
    known, unknown = map(json.loads, sink.getvalue().splitlines())
    assert known["event"] == unknown["event"] == "failed"
    assert (known["problem"], known["cause"]) == ("Broken.", "A bit flipped.")
    assert known["next_step"] == "Install it again."
    assert (unknown["problem"], unknown["cause"]) == ("KeyError", "'liver'")


def test_without_a_sink_events_are_dropped() -> None:
    EventStream().emit("progress", fraction=0.5)


def test_a_log_is_read_up_to_where_it_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with path.open("w", encoding="utf-8") as sink:
        stream = EventStream(sink)
        for step in range(3):
            stream.emit("progress", step=step)
    whole = path.read_text(encoding="utf-8")
    assert [event["step"] for event in read_events(path)] == [0, 1, 2]
    path.write_text(whole[:-9], encoding="utf-8")
    assert [event["step"] for event in read_events(path)] == [0, 1]
    path.write_text("", encoding="utf-8")
    assert list(read_events(path)) == []


def test_a_log_goes_on_after_a_line_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for step in range(2):
        with event_log(path) as stream:
            stream.emit("progress", step=step)
    path.write_text(path.read_text(encoding="utf-8")[:-9], encoding="utf-8")
    with event_log(path) as stream:
        stream.emit("progress", step=2)
    assert [event["step"] for event in read_events(path)] == [0, 2]


def test_a_failure_is_the_same_error_for_the_reader() -> None:
    class Special(BundleError):
        """Known here alone."""

    sink = io.StringIO()
    stream = EventStream(sink)
    stream.fail(Special("Broken.", cause="A bit flipped.", next_step="Install it again."))
    stream.fail(MemoryError())
    stream.fail(Cancelled())
    special, memory, cancelled = (failure(json.loads(line)) for line in sink.getvalue().splitlines())
    assert type(special) is BundleError
    assert (special.problem, special.cause, special.next_step) == (
        "Broken.",
        "A bit flipped.",
        "Install it again.",
    )
    assert type(memory) is ResourceError
    assert (type(cancelled), cancelled.problem) == (MultiOrganSegError, "Cancelled.")
    for kind in ("Path", "", "annotations", None, 7):
        assert type(failure({"event": "failed", "problem": "Odd.", "kind": kind})) is MultiOrganSegError


@pytest.mark.parametrize(
    "line", [b"", b"text", b"7", b"[1]", b"{}", b'{"event": 7}', b'{"event": "prog', b"\xff"]
)
def test_a_line_that_is_no_event(line: bytes) -> None:
    assert parse_event(line) is None


def test_a_kind_that_nobody_knows_is_never_written() -> None:
    with pytest.raises(ValueError, match="strange"):
        EventStream(io.StringIO()).emit("strange")


def test_organs_of_a_metric_share_no_names_with_its_fields() -> None:
    sink = io.StringIO()
    EventStream(sink).emit("metric", name="dice", iteration=3, values={"stage": 0.5, "time": None, "mean": 1})
    event = json.loads(sink.getvalue())
    assert metric_values(event) == {"stage": 0.5, "time": None, "mean": 1}
    previous = {"event": "metric", "time": 1.0, "name": "dice", "iteration": 3, "liver": 0.5, "mean": None}
    assert metric_values(previous) == {"liver": 0.5, "mean": None}


def test_events_come_in_parts_and_a_cut_line_waits(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    tail = EventTail(path)
    assert tail.poll() == []
    path.write_bytes(b'{"event": "started"}\nnonsense\n[1]\n{"event": "prog')
    assert [event["event"] for event in tail.poll()] == ["started"]
    with path.open("ab") as sink:
        sink.write(b'ress"}\n')
    assert [event["event"] for event in tail.poll()] == ["progress"]
    path.write_bytes(b'{"event": "finished"}\n')
    assert [event["event"] for event in tail.poll()] == ["finished"]
