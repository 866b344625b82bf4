"""Slicer is killed while the section Add organ saves or trains: no annotation and no training is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from add_organ_project import use_fake_trainer, write_project

GUI = Path(__file__).resolve().parents[1] / "gui_process.py"
CHECK = [sys.executable, "-m", "multiorganseg_training", "project", "check"]
NEW = "colon"
SECONDS = 240.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL"),
]


@pytest.fixture
def project(qt_host: Any, tmp_path: Path) -> Path:
    """One case is annotated, one absent, and of one nothing is known."""
    from multiorganseg.bundles import find_bundle

    organs = find_bundle("abdomen-ct").metadata.labels.keys
    statuses = {"case_1": {"annotated": [NEW, "liver"]}, "case_2": {"absent": [NEW]}, "case_3": {}}
    return write_project(tmp_path / "Prüfung 1", statuses, (*organs, NEW))


@pytest.fixture
def gui(project: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Start a Slicer that does something; what is left of it and of its children is ended."""
    started: list[subprocess.Popen[str]] = []

    def start(action: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(GUI), str(project), action], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()


def _told(process: subprocess.Popen[str], word: str) -> list[str]:
    """Wait for the line that begins with a word; gives its other words."""
    assert process.stdout
    for line in process.stdout:
        first, *rest = line.split() or [""]
        if first == word:
            return rest
    pytest.fail(f"the process ended before it told '{word}'")


def _kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(SECONDS)


def _wait(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _open(panel: Any, host: Any, project: Path) -> Any:
    panel.ui.addOrganSection.collapsed = False
    host.answers.add(str(project))
    panel.add_organ.ui.openProjectButton.click()
    return panel.add_organ


def _voxels(add_organ: Any, case: str) -> np.ndarray:
    from multiorganseg.volumes import read_labels

    project = add_organ.session.project
    return read_labels(project.labels_path(case)).voxels == project.table.value(NEW)


@pytest.mark.parametrize("with_its_child", [False, True], ids=["gui", "gui and command"])
def test_a_gui_killed_while_a_case_is_saved_loses_no_annotated_case(
    panel: Any,
    qt_host: Any,
    gui: Callable[[str], Any],
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    with_its_child: bool,
) -> None:
    """The command that saves is killed too, once it holds the project's lock."""
    use_fake_trainer(monkeypatch)
    before = (project / "labels" / "case_1.nii.gz").read_bytes()
    process = gui("save")
    pid = int(_told(process, "saving")[0])
    if with_its_child:
        _wait(lambda: (project / ".lock-holder").exists() or not _lives(pid))
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    _kill(process)
    _wait(lambda: not _lives(pid))
    add_organ = _open(panel, qt_host, project)
    status = add_organ.session.project.matrix.rows
    assert (project / "labels" / "case_1.nii.gz").read_bytes() == before
    assert (status["case_1"][NEW], status["case_2"][NEW]) == ("annotated", "absent")
    if status["case_3"][NEW] == "unknown":
        assert add_organ.session.project.labels_path("case_3") is None
    else:
        assert _voxels(add_organ, "case_3").sum() == 3 * 4 * 5
    add_organ.show_step("cases")
    add_organ.cases.open("case_2")
    add_organ.ui.absentButton.click()
    qt_host.process_events(lambda: not add_organ.session.queue.busy, SECONDS)
    assert "Saved" in add_organ.message.text, "a lock or a half-written file is left"
    check = subprocess.run(
        [*CHECK, str(project), "--delete-unused"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert check.returncode == 0, check.stdout + check.stderr


def test_a_gui_killed_while_a_training_runs_finds_it_again(
    panel: Any, qt_host: Any, gui: Callable[[str], Any], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = use_fake_trainer(monkeypatch)
    plan(iterations=60, seconds=0.05)
    process = gui("train")
    pid = int(_told(process, "training")[0])
    _kill(process)
    assert psutil.pid_exists(pid), "the training ended with the GUI"
    add_organ = _open(panel, qt_host, project)
    assert add_organ.train.run.orders().pid == pid
    assert add_organ.train.state in ("running", "finished")
    qt_host.process_events(lambda: add_organ.train.state == "finished" and not add_organ.train.busy, SECONDS)
    assert add_organ.train.log.iteration == 60
    assert len(add_organ.train.log.loss.points) == 60
    add_organ.show_step("report")
    assert "Passed" in add_organ.ui.reportLabel.text
    assert json.loads((add_organ.train.run.report).read_text(encoding="utf-8"))["passed"]
