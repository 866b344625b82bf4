"""What Slicer starts for a project runs nothing that lies in the project."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

NAMES = ("typer", "rich", "numpy", "torch", "json", "pathlib", "psutil", "multiorganseg", "runpy")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder of someone else; a module of it that is run leaves a mark."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in NAMES:
        code = f"open({str(folder / 'mark')!r}, 'a').write(__name__ + ' ')"
        (folder / f"{name}.py").write_text(code, encoding="utf-8")
    return folder


def test_a_training_runs_nothing_of_its_project(host, project, monkeypatch) -> None:
    from MultiOrganSegLib.add_organ import commands
    from MultiOrganSegLib.add_organ.trainer import PACKAGE, start_detached

    monkeypatch.chdir(project)
    arguments = commands.train(project, "run", "abdomen-ct", ["spleen"], time="10m", device="cpu")
    process = start_detached(arguments, project / "runs" / "run.log")
    started = psutil.Process(process.pid)
    while not (command := started.cmdline()):
        time.sleep(0.01)  # Right after its start a process has no arguments yet.
    assert PACKAGE in command
    assert not Path(started.cwd()).is_relative_to(project)
    assert process.wait(120) == 8
    assert "Error: " in (project / "runs" / "run.log").read_text(encoding="utf-8")
    assert not (project / "mark").exists()


def test_short_commands_and_segmenting_run_in_private_folders(host, project, monkeypatch) -> None:
    import slicer

    from multiorganseg.errors import VolumeError
    from multiorganseg.resident.requests import SegmentRequest
    from MultiOrganSegLib.add_organ.trainer import start_command
    from MultiOrganSegLib.engine import Engine

    monkeypatch.chdir(project)
    engine = Engine()
    answer = engine.ask(SegmentRequest("no file", "out.seg.nrrd"))
    assert engine.folder.is_relative_to(slicer.app.temporaryPath)
    assert not Path(psutil.Process(engine.pid).cwd()).is_relative_to(project)
    while not answer.ended:
        answer.poll()
        time.sleep(0.05)
    assert isinstance(answer.error, VolumeError)
    engine.end()
    listing = start_command(["project", "check", str(project)])
    assert listing.folder.is_relative_to(slicer.app.temporaryPath)
    while listing.running:
        listing.poll()
    assert listing.exit_code == 8, listing.log
    listing.close()
    assert not (project / "mark").exists()
