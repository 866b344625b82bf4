from __future__ import annotations

import json
import math
import os

import pytest

from multiorganseg.bundles.metadata import CustomOrgan
from multiorganseg.errors import TrainingError
from multiorganseg.events import event_log
from multiorganseg.projects.runs import request_pause, run_lock, withdraw_pause
from multiorganseg_training.project import add_organ, project_state


@pytest.fixture
def project(make_project):
    project = make_project("Projekt ö", {1: "liver", 7: "spleen"}, {"a": (1, 7), "b": None})
    return add_organ(project.folder, "mass", CustomOrgan("Böse Masse", (200, 10, 0)))


@pytest.fixture
def run(project):
    folder = project.folder / "runs" / "abdomen-plus-mass"
    folder.mkdir(parents=True)
    return folder


def tell(run, *events):
    with event_log(run / "events.jsonl") as log:
        for kind, content in events:
            log.emit(kind, **content)


def state_of(project):
    state = json.loads(json.dumps(project_state(project), allow_nan=False))
    (run,) = state["runs"]
    return run


def test_organs_and_cases(project):
    state = project_state(project)
    folder = project.folder
    assert state["schema_version"] == 1
    assert state["project"] == {"name": "Projekt ö", "folder": str(folder), "modality": "CT"}
    assert [(organ["key"], organ["value"], organ["custom"]) for organ in state["organs"]] == [
        ("liver", 1, False),
        ("spleen", 7, False),
        ("mass", 8, True),
    ]
    assert state["organs"][0]["name"] == "Liver"
    assert state["organs"][0]["cases"] == {"annotated": 1, "absent": 0, "unknown": 1, "pseudo": 0}
    assert (state["organs"][2]["name"], state["organs"][2]["color"]) == ("Böse Masse", [200, 10, 0])
    assert state["cases"] == [
        {
            "name": "a",
            "image": str(folder / "images" / "a.nii.gz"),
            "labels": str(folder / "labels" / "a.nii.gz"),
            "source": "Projekt ö-data",
            "patient": "",
            "status": {"liver": "annotated", "spleen": "annotated", "mass": "unknown"},
        },
        {
            "name": "b",
            "image": str(folder / "images" / "b.nii.gz"),
            "labels": None,
            "source": "Projekt ö-data",
            "patient": "",
            "status": {"liver": "unknown", "spleen": "unknown", "mass": "unknown"},
        },
    ]
    assert state["runs"] == state["bundles"] == []


def test_a_run_from_its_start_to_its_end(project, run):
    assert project_state(project)["runs"] == [], "a folder without events is no run yet"
    with run_lock(run):
        tell(run, ("started", {"device": "cpu", "pid": os.getpid()}))
        reported = state_of(project)
        assert (reported["state"], reported["progress"], reported["pause_requested"]) == (
            "running",
            None,
            False,
        )
        assert reported["started"]["pid"] == os.getpid()
        assert reported["events"] == str(run / "events.jsonl")
        tell(run, ("progress", {"iteration": 5, "iterations": 30, "loss": 0.5, "eta_seconds": 9}))
        tell(run, ("progress", {"iteration": 10, "iterations": 30, "loss": 0.4, "eta_seconds": 8}))
        request_pause(run)
        reported = state_of(project)
        assert (reported["progress"]["iteration"], reported["progress"]["eta_seconds"]) == (10, 8)
        assert reported["pause_requested"]
        tell(run, ("paused", {}))
    assert state_of(project)["state"] == "paused"
    assert not state_of(project)["pause_requested"]
    with run_lock(run):
        withdraw_pause(run, math.inf)
        tell(run, ("started", {}), ("metric", {"name": "dice of averaged network", "mean": 0.7}))
        assert state_of(project)["state"] == "running"
        tell(run, ("finished", {}))
    (run / "acceptance.json").write_text('{"passed": false}', encoding="utf-8")
    reported = state_of(project)
    assert (reported["state"], reported["failure"], reported["accepted"]) == ("finished", None, False)
    assert reported["metric"]["mean"] == 0.7


def test_a_run_that_failed_or_was_killed(project, run):
    tell(run, ("started", {}), ("progress", {"iteration": 3}))
    reported = state_of(project)
    assert reported["state"] == "failed"
    assert "killed" in reported["failure"]["cause"]
    assert reported["progress"]["iteration"] == 3
    with event_log(run / "events.jsonl") as log:
        log.fail(TrainingError("The loss is nan.", cause="Why", next_step="Start anew."))
    reported = state_of(project)
    assert reported["failure"] == {"problem": "The loss is nan.", "cause": "Why", "next_step": "Start anew."}
    tell(run, ("started", {}))
    assert "killed" in state_of(project)["failure"]["cause"], "the previous failure is over"
    assert reported["accepted"] is None


def test_published_bundles(project, bundle):
    import shutil

    folder = project.folder / "bundles"
    folder.mkdir()
    shutil.copytree(bundle.folder, folder / "tiny-ct-0.1.0")
    (folder / "broken-1.0.0").mkdir()
    broken, whole = project_state(project)["bundles"]
    assert (whole["name"], whole["version"], whole["problem"]) == ("tiny-ct", "0.1.0", None)
    assert whole["organs"] == ["spleen", "liver", "kidney_left"]
    assert (broken["name"], broken["organs"]) == (None, [])
    assert "broken-1.0.0" in broken["problem"]
