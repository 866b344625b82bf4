"""How the trainings of a project stand, by their locks and events."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from multiorganseg.bundles.folders import visible_folders
from multiorganseg.bundles.json_text import read_json_object
from multiorganseg.events import read_events
from multiorganseg_training.locks import LOCK_FILE, is_running
from multiorganseg_training.pause import is_pause_requested

RUNS = "runs"
EVENTS = "events.jsonl"
GATE = "gate.json"
RUNNING, PAUSED, FINISHED, FAILED = "running", "paused", "finished", "failed"
_SILENT = {
    "problem": "The training ended without a word.",
    "cause": "It was killed, or the computer was switched off.",
    "next_step": "Start it again; it goes on from its last checkpoint.",
}


def run_states(folder: Path) -> list[dict[str, Any]]:
    """Describe each run of a project by name; see `project_state`.

    Args:
        folder: Of the project.
    """
    runs = visible_folders(folder / RUNS)
    return [_state(run) for run in runs if (run / EVENTS).is_file() or (run / LOCK_FILE).is_file()]


def _state(run: Path) -> dict[str, Any]:
    running = is_running(run)
    last: dict[str, dict[str, Any]] = {}
    for event in read_events(run / EVENTS) if (run / EVENTS).is_file() else ():
        kind = event.pop("event", "")
        if kind == "started":
            last.pop("end", None)
        last["end" if kind in (PAUSED, FINISHED, FAILED) else kind] = {**event, "state": kind}
    end = last.get("end", {"state": FAILED, **_SILENT})
    state = RUNNING if running else end["state"]
    return {
        "name": run.name,
        "folder": str(run.absolute()),
        "events": str((run / EVENTS).absolute()),
        "state": state,
        "pause_requested": running and is_pause_requested(run),
        "started": _content(last.get("started")),
        "progress": _content(last.get("progress")),
        "metric": _content(last.get("metric")),
        "failure": {key: str(end.get(key, "")) for key in _SILENT} if state == FAILED else None,
        "gate_passed": _gate_passed(run),
    }


def _content(event: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if event is None else {key: value for key, value in event.items() if key != "state"}


def _gate_passed(run: Path) -> bool | None:
    try:
        return bool(read_json_object(run / GATE)["passed"])
    except (OSError, ValueError, KeyError):
        return None
