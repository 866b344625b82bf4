"""Slicer is killed while the section Teach saves or trains: nothing that was annotated or learned is lost."""

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
from teach_project import use_fake_trainer, write_project

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
    panel.ui.teachSection.collapsed = False
    host.answers.add(str(project))
    panel.teach.ui.openProjectButton.click()
    return panel.teach


def _voxels(teach: Any, case: str) -> np.ndarray:
    from multiorganseg.volumes import read_labels

    project = teach.session.project
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
    teach = _open(panel, qt_host, project)
    status = teach.session.project.matrix.rows
    assert (project / "labels" / "case_1.nii.gz").read_bytes() == before
    assert (status["case_1"][NEW], status["case_2"][NEW]) == ("annotated", "absent")
    if status["case_3"][NEW] == "unknown":
        assert teach.session.project.labels_path("case_3") is None
    else:
        assert _voxels(teach, "case_3").sum() == 3 * 4 * 5
    teach.show_step("cases")
    teach.cases.open("case_2")
    teach.ui.absentButton.click()
    qt_host.process_events(lambda: not teach.session.queue.busy, SECONDS)
    assert "Saved" in teach.message.text, "a lock or a half-written file is left"
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
    teach = _open(panel, qt_host, project)
    assert teach.train.run.orders().pid == pid
    assert teach.train.state in ("running", "finished")
    qt_host.process_events(lambda: teach.train.state == "finished" and not teach.train.busy, SECONDS)
    assert teach.train.log.iteration == 60
    assert len(teach.train.log.loss.points) == 60
    teach.show_step("report")
    assert "Passed" in teach.ui.reportLabel.text
    assert json.loads((teach.train.run.report).read_text(encoding="utf-8"))["passed"]
