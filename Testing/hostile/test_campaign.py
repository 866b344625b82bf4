"""A short campaign of spoilt files, and proof that the campaign notices what it looks for."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from random import Random

import pytest
from campaign import children
from campaign.kind import Kind
from campaign.mutate import spoil_bytes, spoil_json, spoil_lines

from multiorganseg.errors import VolumeError
from multiorganseg.volumes import VolumeWarning

RUN = Path(__file__).parent / "run.py"
FILES_OF_A_KIND, SEED = 10, 12

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What became of some files of every kind, read as `make hostile` does."""
    folder = tmp_path_factory.mktemp("hostile")
    command = [sys.executable, str(RUN), "--count", str(FILES_OF_A_KIND), "--seed", str(SEED), "--kills", "0"]
    command += ["--jobs", "2", "--keep", str(folder / "kept"), "--report", str(folder / "report.jsonl")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert (folder / "report.jsonl").is_file(), ended.stderr
    return [json.loads(line) for line in (folder / "report.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_every_valid_sample_is_read_rightly(outcomes):
    samples = {each["kind"]: each["outcome"] for each in outcomes if each["index"] == 0}
    assert len(samples) >= 18
    assert set(samples.values()) == {"accepted"}


@pytest.mark.slow
def test_no_spoilt_file_is_read_wrongly_or_ends_in_another_way_than_with_a_typed_error(outcomes):
    assert len(outcomes) == FILES_OF_A_KIND * len({each["kind"] for each in outcomes})
    assert [each for each in outcomes if each["outcome"] not in ("typed", "accepted")] == []
    assert {each["outcome"] for each in outcomes} == {"typed", "accepted"}


def nothing(folder: Path) -> None:
    (folder / "file").write_bytes(b"x")


def refuse(folder: Path) -> None:
    message = "Refused."
    raise VolumeError(message)


def fail(folder: Path) -> None:
    raise ValueError(folder)


def crash(folder: Path) -> None:
    faulthandler.disable()  # which pytest enabled: the log is to stay readable
    os.kill(os.getpid(), signal.SIGSEGV)


def hang(folder: Path) -> None:
    while True:
        pass


def sleep(folder: Path) -> None:
    time.sleep(60)


def use_memory(folder: Path) -> int:
    # Far more than the limit: where memory is short, the process gives up pages of libraries meanwhile.
    return len(b"x" * (512 << 20))


def use_all_memory(folder: Path) -> int:
    return len(bytes(1 << 40))


def warn(folder: Path) -> None:
    warnings.warn("left out", VolumeWarning, stacklevel=1)


def wrong(folder: Path, result: object) -> str:
    return "another value"


@pytest.mark.parametrize(
    ("read", "judge", "expected"),
    [
        (nothing, None, "accepted"),
        (refuse, None, "typed"),
        (fail, None, "untyped"),
        (crash, None, "crash"),
        (hang, None, "hang"),
        (sleep, None, "hang"),
        (use_memory, None, "memory"),
        (use_all_memory, None, "memory"),
        (nothing, wrong, "wrong"),
        (warn, wrong, "accepted"),
    ],
)
def test_each_way_to_fail_is_noticed_and_kept(read, judge, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(children, "PROCESSOR_SECONDS", 1)
    monkeypatch.setattr(children, "WALL_SECONDS", 1 if read is sleep else 30)
    monkeypatch.setattr(children, "RESIDENT", 64 << 20)
    kind = Kind(
        "made-up", nothing, lambda random, folder: "spoilt", read, **({"judge": judge} if judge else {})
    )
    samples = children.prepare_samples([kind], tmp_path / "samples")
    kept = tmp_path / "kept"
    (attempt,) = children.attempts([(kind, 3)], seed=7, samples=samples, work=tmp_path, keep=kept, jobs=1)
    assert (attempt.outcome, attempt.mutation, attempt.index) == (expected, "spoilt", 3)
    assert (kept / "made-up-7-3" / "file").is_file() == (expected not in ("typed", "accepted"))
    assert not (tmp_path / "made-up-3").exists()


def test_a_seed_gives_the_same_file_again(tmp_path):
    said = tmp_path / "a.json"
    results = set()
    for _ in range(2):
        said.write_text('{"a": [1, 2, {"b": "c"}], "d": null}', encoding="utf-8")
        random = Random(99)
        done = [spoil_json(random, said)]
        done += [str(spoil_bytes(random, b"0123456789")), str(spoil_lines(random, b"a: 1\nb: 2", b":"))]
        results.add((said.read_bytes(), *done))
    assert len(results) == 1


@pytest.mark.parametrize(("lost", "left", "whole"), [(0, 0, True), (1, 0, False), (0, 2, False)])
def test_what_a_kill_loses_or_leaves_fails_the_campaign(lost, left, whole, tmp_path, monkeypatch, capsys):
    import run

    (tmp_path / "kills.py").write_text(
        f"def main(count):\n    yield 'add a case', count, 0, 0\n    yield 'publish', 7, {lost}, {left}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "kills", raising=False)
    assert run.kill_runs(500) == whole
    del sys.modules["kills"]
    assert "500" in capsys.readouterr().out
