"""The process itself: its queue, cancelling, bad lines, and when it ends."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from multiorganseg.bundles import Bundle
from multiorganseg.children import module_command, module_environment
from multiorganseg.refine import Prompt
from multiorganseg.resident.loop import EXIT_CODE
from multiorganseg.resident.requests import (
    REQUESTS,
    Ask,
    CancelRequest,
    CorrectRequest,
    OpenRequest,
    RequestError,
    SegmentRequest,
    format_request,
    parse_request,
)
from multiorganseg.volumes import Volume, write_volume

SLOW_CT = (60, 200, 200)


class Process:
    """The command `multiorganseg resident` in a folder."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.child = subprocess.Popen(
            module_command("multiorganseg", ["resident", *arguments]),
            cwd=folder,
            env=module_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def send(self, *lines: bytes) -> None:
        self.child.stdin.write(b"".join(lines))
        self.child.stdin.flush()

    def next(self) -> dict[str, Any]:
        line = self.child.stdout.readline()
        assert line, self.child.stderr.read().decode()
        return json.loads(line)

    def end_of(self, identity: str) -> dict[str, Any]:
        """Read to the end of an answer."""
        while True:
            event = self.next()
            if event.get("id") == identity and event["event"] in ("finished", "failed", "cancelled"):
                return event


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    started = []

    def run(*arguments: str) -> Process:
        started.append(Process(tmp_path, *arguments))
        assert started[-1].next()["protocol"] == 1
        return started[-1]

    yield run
    for process in started:
        process.child.kill()
        process.child.wait()
        for stream in (process.child.stdin, process.child.stdout, process.child.stderr):
            stream.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small CT `ct.nrrd` and a large one `slow.nrrd`."""
    k, j, i = np.indices((14, 40, 44))
    ball = ((k - 7) / 5) ** 2 + ((j - 20) / 11) ** 2 + ((i - 14) / 10) ** 2 < 1
    noise = np.random.default_rng(0)
    voxels = np.where(ball, 120, -80) + noise.normal(0, 8, ball.shape)
    affine = np.diag([1.5, 1.5, 3.0, 1.0])
    write_volume(Volume(voxels.astype(np.int16), affine), tmp_path / "ct.nrrd")
    slow = noise.normal(40, 30, SLOW_CT).astype(np.int16)
    write_volume(Volume(slow, affine), tmp_path / "slow.nrrd")
    return tmp_path


def correct(identity: str, k: int = 7) -> bytes:
    prompt = Prompt.click((k, 20, 14)).to_json()
    return format_request(identity, CorrectRequest("s", "liver", (prompt,), new=True))


OPEN = format_request("open", OpenRequest("s", "ct.nrrd", model="none"))


def test_two_hundred_clicks_at_once_are_answered_in_order(start, folder: Path) -> None:
    process = start()
    process.send(OPEN, *(correct(str(number)) for number in range(200)))
    ends: list[dict[str, Any]] = []
    while len(ends) < 201:
        event = process.next()
        ends += [event] if event["event"] in ("finished", "failed") else []
    assert [event["id"] for event in ends] == ["open", *map(str, range(200))]
    assert {event["event"] for event in ends} == {"finished"}
    assert ends[1]["voxels"] > 1000
    assert {event["voxels"] for event in ends[3:]} == {0}


def test_cancelling_stops_the_request_and_drops_those_that_wait(start, folder: Path, bundle: Bundle) -> None:
    process = start()
    slow = SegmentRequest("slow.nrrd", "slow.seg.nrrd", str(bundle.folder), quality="best", device="cpu")
    process.send(format_request("slow", slow), OPEN, format_request("dropped", slow), correct("last"))
    while process.next().get("stage") != "segmenting":
        pass
    process.send(*(format_request("any", CancelRequest(name)) for name in ("slow", "dropped", "unknown")))
    assert process.end_of("slow")["event"] == "cancelled"
    assert process.end_of("open")["event"] == "finished"
    assert process.end_of("dropped")["event"] == "cancelled"
    assert process.end_of("last")["event"] == "finished"
    assert not (folder / "slow.seg.nrrd").exists()


def test_lines_that_are_no_requests_are_told_and_the_process_goes_on(start, folder: Path) -> None:
    process = start()
    process.send(b"no json\n", b"\n", b'{"id": "a"}\n', b'{"id": "b", "request": "fly"}\n')
    process.send(b'{"id": "c", "request": "open", "volume": 3, "session": "s"}\n', b'{"request": "undo"}\n')
    failed = [process.next() for _ in range(5)]
    assert [(event["event"], event["kind"]) for event in failed] == [("failed", "OptionError")] * 5
    assert [event["id"] for event in failed] == ["", "a", "b", "c", ""]
    process.send(b"x" * (17 * 2**20) + b"\n")
    assert "too long" in process.next()["problem"]
    process.send(OPEN, correct("d"))
    assert process.end_of("d")["event"] == "finished"


def test_the_process_ends_with_its_input_whatever_it_does(start, folder: Path, bundle: Bundle) -> None:
    process = start()
    slow = SegmentRequest("slow.nrrd", "slow.seg.nrrd", str(bundle.folder), quality="best", device="cpu")
    process.send(format_request("slow", slow))
    while process.next().get("stage") != "segmenting":
        pass
    process.child.stdin.close()
    assert process.child.wait(20) == EXIT_CODE
    assert sorted(path.name for path in folder.iterdir()) == ["ct.nrrd", "slow.nrrd"]


def test_the_process_ends_when_nothing_is_asked(start, folder: Path) -> None:
    process = start("--idle", "1")
    process.send(OPEN)
    process.end_of("open")
    asked = time.monotonic()
    assert process.next()["reason"] == "idle"
    assert process.child.wait(20) == 0
    assert 0.8 < time.monotonic() - asked < 15
    assert process.child.stderr.read() == b""


def test_a_terminal_is_told_what_to_use(tmp_path: Path) -> None:
    pty = pytest.importorskip("pty")
    master, slave = pty.openpty()
    done = subprocess.run(
        module_command("multiorganseg", ["resident"]),
        env=module_environment(),
        stdin=slave,
        capture_output=True,
        text=True,
        check=False,
    )
    os.close(master)
    os.close(slave)
    assert done.returncode == 2
    assert "multiorganseg segment" in done.stderr


def test_every_request_is_read_as_it_was_written() -> None:
    examples: list[Ask] = [
        SegmentRequest("ü.nrrd", "o.seg.nrrd", organs=("liver",), keep_maps=True),
        OpenRequest("s", "ct", table={"1": "liver"}, steps={"version": 1, "steps": []}),
        CorrectRequest("s", "liver", (Prompt.click((1, 2, 3)).to_json(),), ("spleen",)),
        REQUESTS["put"]("s", "b.npy", ((0, 1), (2, 3), (4, 5))),
        REQUESTS["undo"]("s"),
        REQUESTS["save"]("s", "o.nii.gz", formats=("csv",)),
        REQUESTS["close"]("s"),
        REQUESTS["forget"](("s",), maps=True),
        CancelRequest("7"),
    ]
    assert {type(example) for example in examples} == set(REQUESTS.values())
    for example in examples:
        identity, read = parse_request(format_request("7", example))
        assert (identity, type(read)) == ("7", type(example))
        assert format_request("7", read) == format_request("7", example)


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(RequestError, match="unknown field 'speed'") as caught:
        parse_request(b'{"id": "a", "request": "undo", "session": "s", "speed": 3}')
    assert caught.value.identity == "a"
