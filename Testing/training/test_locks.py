from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from multiorganseg.errors import ResourceError, TrainingError
from multiorganseg.projects.runs import HOLDER_FILE, LOCK_FILE, folder_lock, is_running, run_lock

PACKAGES = [Path(__file__).parents[2] / name for name in ("MultiOrganSeg", "Training")]
HOLD = """
import sys, time
from pathlib import Path
from multiorganseg.projects.runs import run_lock
with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_run_is_running_as_long_as_its_lock_is_held(tmp_path):
    run = tmp_path / "läuft" / "run"
    assert not is_running(run)
    with run_lock(run):
        assert is_running(run)
        assert f"process {os.getpid()} on " in (run / HOLDER_FILE).read_text(encoding="utf-8")
    assert not is_running(run)
    assert not (run / HOLDER_FILE).exists()


def test_a_look_leaves_no_file(tmp_path):
    assert not is_running(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_who_comes_second_is_told_by_whom(tmp_path):
    started = time.monotonic()
    with (
        folder_lock(tmp_path, "The drawer", 0.2, "Wait."),
        pytest.raises(TrainingError, match="The drawer is in use") as caught,
        folder_lock(tmp_path, "The drawer", 0.2, "Wait."),
    ):
        pytest.fail("held twice")
    assert 0.2 <= time.monotonic() - started < 5
    assert f"process {os.getpid()}" in caught.value.cause
    assert caught.value.next_step == "Wait."


def test_a_holder_that_says_nothing(tmp_path):
    with folder_lock(tmp_path, "It", 0, "Wait."):
        (tmp_path / HOLDER_FILE).unlink()
        with (
            pytest.raises(TrainingError, match="does not say by which"),
            folder_lock(tmp_path, "It", 0, "Wait."),
        ):
            pytest.fail("held twice")


def test_an_error_in_the_block_frees_the_lock(tmp_path):
    with pytest.raises(ZeroDivisionError), run_lock(tmp_path):
        raise ZeroDivisionError
    assert not is_running(tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="Cannot write"), run_lock(tmp_path / "file" / "run"):
        pytest.fail("held")
    (tmp_path / LOCK_FILE).mkdir()
    with pytest.raises(ResourceError, match="Cannot lock"), folder_lock(tmp_path, "It", 0, "Wait."):
        pytest.fail("held")


def test_the_lock_of_a_killed_program_is_free(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, PACKAGES))}
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, encoding="utf-8") as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        assert is_running(tmp_path)
        child.kill()
    assert not is_running(tmp_path)
    assert (tmp_path / HOLDER_FILE).exists(), "nobody tidied up"
    with run_lock(tmp_path):
        assert str(os.getpid()) in (tmp_path / HOLDER_FILE).read_text(encoding="utf-8")
