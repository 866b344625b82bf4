from __future__ import annotations

import io
import json
import time
from pathlib import Path

from multiorganseg.errors import BundleError
from multiorganseg.events import EventStream, event_log, read_events


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
