"""The child process: events, log, and an end without leftovers."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

MODULE = Path(__file__).resolve().parents[3] / "MultiOrganSeg"
GRANDCHILD = "import time; time.sleep(600)"
CHILD = f"""
import subprocess, sys, time
print(subprocess.Popen([sys.executable, "-c", {GRANDCHILD!r}]).pid, flush=True)
time.sleep(600)
"""
FAMILY = f"""
import json, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}], stdout=subprocess.PIPE, text=True)
event = {{"event": "metric", "child": child.pid, "grandchild": int(child.stdout.readline())}}
print(json.dumps(event), flush=True)
time.sleep(600)
"""


@pytest.fixture
def make_job(host: Any, tmp_path: Path) -> Callable[..., Any]:
    from MultiOrganSegLib.job import Job

    def make(code: str, **options: Any) -> Any:
        folder = tmp_path / "Jürgens Ordner 腹部"
        folder.mkdir()
        return Job([sys.executable, "-c", code], folder, **options)

    return make


def collect(job: Any, until: Callable[[list[dict]], bool], seconds: float = 20.0) -> list[dict]:
    events: list[dict] = []
    end = time.monotonic() + seconds
    while not until(events):
        assert time.monotonic() < end, (events, job.log)
        events += job.poll()
        time.sleep(0.01)
    return events


def ended(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_events_and_log_are_told_apart(make_job: Callable[..., Any]) -> None:
    job = make_job(
        'import sys; print(\'{"event": "started", "case": "Bäuche"}\'); print(\'{no event}\');'
        "print('{\"other\": 1}'); print('plain ü'); sys.stderr.write('trouble'); sys.exit(4)",
        environment={**os.environ, "PYTHONUTF8": "1"},
    )
    job.start()
    events = collect(job, lambda seen: not job.running)
    assert events + job.poll() == [{"event": "started", "case": "Bäuche"}]
    assert set(job.log.splitlines()) == {"{no event}", '{"other": 1}', "plain ü", "trouble"}
    assert job.exit_code == 4
    job.close()
    assert not job.folder.exists()


def test_polling_never_blocks_while_the_child_is_silent(
    make_job: Callable[..., Any], slowness: float
) -> None:
    job = make_job("import time; time.sleep(600)")
    job.start()
    started = time.perf_counter()
    for _ in range(100):
        assert job.poll() == []
        assert job.running
    assert time.perf_counter() - started < slowness
    job.cancel()


def test_a_long_log_keeps_its_end(make_job: Callable[..., Any]) -> None:
    job = make_job("for n in range(100000): print('line', n)")
    job.start()
    collect(job, lambda seen: not job.running)
    assert len(job.log) <= 200_000
    assert job.log.endswith("line 99999\n")
    job.close()


def test_cancel_ends_children_and_grandchildren_and_removes_the_folder(make_job: Callable[..., Any]) -> None:
    job = make_job(FAMILY)
    job.start()
    (reported,) = collect(job, bool)
    (job.folder / "file").write_text("patient data")
    family = [job.pid, reported["child"], reported["grandchild"]]
    assert not any(map(ended, family))
    job.cancel()
    assert not psutil.pid_exists(job.pid), "a zombie is left"
    collect(job, lambda seen: all(map(ended, family)))
    assert not job.folder.exists()
    job.cancel()
    job.close()
    assert job.exit_code is not None


@pytest.mark.skipif(os.name != "posix", reason="process groups are POSIX")
def test_grandchildren_of_a_killed_child_end_too(make_job: Callable[..., Any]) -> None:
    job = make_job(FAMILY)
    job.start()
    (reported,) = collect(job, bool)
    os.kill(job.pid, 9)
    collect(job, lambda seen: not job.running)
    assert job.exit_code == -9
    collect(job, lambda seen: ended(reported["child"]) and ended(reported["grandchild"]))
    job.close()


def test_a_forgotten_job_ends_with_its_last_reference(make_job: Callable[..., Any]) -> None:
    job = make_job("import time; time.sleep(600)")
    job.start()
    pid, folder = job.pid, job.folder
    del job
    gc.collect()
    assert ended(pid)
    assert not folder.exists()


def test_the_end_of_the_interpreter_ends_the_job(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    code = (
        f"import sys; sys.path.insert(0, {str(MODULE)!r})\n"
        "from pathlib import Path\n"
        "from MultiOrganSegLib.job import Job\n"
        f"job = Job([sys.executable, '-c', 'import time; time.sleep(600)'], Path({str(folder)!r}))\n"
        "job.start(); print(job.pid)\n"
        "assert 'slicer' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert ended(int(done.stdout))
    assert not folder.exists()


def test_a_program_that_is_not_there_leaves_nothing(host: Any, tmp_path: Path) -> None:
    from MultiOrganSegLib.job import Job

    folder = tmp_path / "job"
    folder.mkdir()
    job = Job([str(tmp_path / "no such program")], folder)
    with pytest.raises(OSError, match="no such program"):
        job.start()
    assert not folder.exists()
    assert not job.running


def test_folders_of_processes_that_crashed_are_swept(host: Any, tmp_path: Path) -> None:
    from MultiOrganSegLib.folder import make_private_folder

    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    orphan, foreign = tmp_path / f"multiorganseg-{gone.pid}-abc", tmp_path / "multiorganseg-other"
    living, reused = (
        tmp_path / f"multiorganseg-{os.getpid()}-abc",
        tmp_path / f"multiorganseg-{os.getpid()}-old",
    )
    for folder in (orphan, foreign, living, reused):
        folder.mkdir()
        (folder / "input.nrrd").write_text("patient data")
    os.utime(reused, (0, 0))  # from before this process was there
    made = make_private_folder(tmp_path)
    assert not orphan.exists()
    assert not reused.exists()
    assert foreign.exists()
    assert living.exists()
    if os.name == "posix":
        assert made.stat().st_mode & 0o077 == 0
