"""Every file is read in a forked child with a limit of memory, processor time and wall-clock time.

The parent has imported the product once, so that a child begins in milliseconds.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import selectors
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from campaign.kind import Kind
from campaign.outcome import Attempt

MIB = 1 << 20
ADDRESS_SPACE = 4096 * MIB
"""Beyond what the parent has: an allocation over this fails."""
RESIDENT, MAPPED = 512 * MIB, 1536 * MIB
"""Samples are some kB, at most a thousandfold compressed: whoever takes more believes a header that lies."""
PROCESSOR_SECONDS, WALL_SECONDS = 10, 90
PRODUCT = ("multiorganseg", "multiorganseg_training", "MultiOrganSegLib")


@dataclass
class _Child:
    pid: int
    kind: Kind
    index: int
    folder: Path
    started: float
    said: bytes = b""


def attempts(
    tasks: Iterable[tuple[Kind, int]],
    *,
    seed: int,
    samples: dict[str, Path],
    work: Path,
    keep: Path | None,
    jobs: int,
) -> Iterator[Attempt]:
    """Run tasks, `jobs` at a time, and give what became of each as it ends.

    Args:
        tasks: Kind and number of each file.
        seed: The same seed gives the same files.
        samples: Folder with the valid sample, by kind.
        work: Scratch folder.
        keep: Where failing files are kept; None to keep none.
        jobs: How many children at a time.
    """
    gc.freeze()
    waiting = iter(tasks)
    selector = selectors.DefaultSelector()
    children: dict[int, _Child] = {}
    try:
        while True:
            while len(children) < jobs and (task := next(waiting, None)):
                kind, index = task
                pipe, child = _start(kind, index, seed, samples[kind.name], work)
                children[pipe] = child
                selector.register(pipe, selectors.EVENT_READ)
            if not children:
                return
            for key, _ in selector.select(timeout=1.0):
                child, chunk = children[key.fd], os.read(key.fd, 1 << 16)
                child.said += chunk
                if not chunk:
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    del children[key.fd]
                    yield _ended(child, keep, seed)
            for child in children.values():
                if time.monotonic() - child.started > WALL_SECONDS:
                    os.kill(child.pid, signal.SIGKILL)
    finally:
        for child in children.values():
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)


def prepare_samples(kinds: Iterable[Kind], folder: Path) -> dict[str, Path]:
    """Make the valid sample of each kind, in children, so that the parent stays without threads.

    Raises:
        RuntimeError: A sample cannot be made.
    """
    samples = {}
    for kind in kinds:
        sample = folder / kind.name
        sample.mkdir(parents=True)
        pid = os.fork()
        if pid == 0:
            _leave(lambda sample=sample, kind=kind: kind.prepare(sample))
        if os.waitpid(pid, 0)[1]:
            message = f"The sample of {kind.name} cannot be made."
            raise RuntimeError(message)
        kind.warm(sample)
        samples[kind.name] = sample
    return samples


def _leave(work: Callable[[], None]) -> None:
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _start(kind: Kind, index: int, seed: int, sample: Path, work: Path) -> tuple[int, _Child]:
    folder = work / f"{kind.name}-{index}"
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _leave(lambda: _attempt(kind, index, seed, sample, folder, writing))
    os.close(writing)
    return reading, _Child(pid, kind, index, folder, time.monotonic())


def _attempt(kind: Kind, index: int, seed: int, sample: Path, folder: Path, pipe: int) -> None:
    def say(**content: str) -> None:
        os.write(pipe, json.dumps(content).encode() + b"\n")

    shutil.copytree(sample, folder)
    os.chdir(folder)
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(50_000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mutation = kind.mutate(Random(f"{seed} {kind.name} {index}"), folder) if index else "none"
    sys.setrecursionlimit(usual)
    say(mutation=mutation)
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    mapped, resident = _status("VmSize"), _status("VmRSS")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (mapped + ADDRESS_SPACE,) * 2)
    spent = int(time.process_time()) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (spent + PROCESSOR_SECONDS, spent + PROCESSOR_SECONDS + 2))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        result, said = _read(kind, folder)
    peak, grown = _status("VmPeak") - mapped, _status("VmHWM") - resident
    if grown > RESIDENT or peak > MAPPED:
        say(
            outcome="memory",
            detail=f"{grown // MIB} MiB used, {peak // MIB} MiB asked for",
            place=said["place"],
        )
        return
    say(**said)
    if said["outcome"] != "accepted":
        return
    warned = [each for each in warned if issubclass(each.category, UserWarning)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrong = kind.judge(folder, result)
    if wrong and not warned:
        say(outcome="wrong", detail=wrong)


def _read(kind: Kind, folder: Path) -> tuple[Any, dict[str, str]]:
    from multiorganseg.errors import MultiOrganSegError

    try:
        return kind.read(folder), {"outcome": "accepted", "detail": "", "place": ""}
    except MultiOrganSegError as error:
        outcome, raised = "typed", error
    except MemoryError as error:
        outcome, raised = "memory", error  # type: ignore[assignment]
    except BaseException as error:
        outcome, raised = "untyped", error  # type: ignore[assignment]
    detail = f"{type(raised).__name__}: {str(raised)[:300]}"
    return None, {"outcome": outcome, "detail": detail, "place": _place(raised)}


def _place(error: BaseException) -> str:
    """Last frame of the product in a traceback, without the folder that it is installed in."""
    frames = [
        (parts, frame)
        for frame in traceback.extract_tb(error.__traceback__)
        if set(parts := Path(frame.filename).parts) & set(PRODUCT)
    ]
    if not frames:
        return type(error).__name__
    parts, frame = frames[-1]
    first = max(index for index, part in enumerate(parts) if part in PRODUCT)
    return f"{type(error).__name__} {'/'.join(parts[first:])}:{frame.lineno}"


def _status(field: str) -> int:
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def _ended(child: _Child, keep: Path | None, seed: int) -> Attempt:
    _, status = os.waitpid(child.pid, 0)
    seconds = time.monotonic() - child.started
    said: dict[str, str] = {}
    for line in child.said.splitlines():
        said |= json.loads(line)
    if "mutation" not in said:
        message = f"The generator of {child.kind.name} number {child.index} failed; its traceback is above."
        raise RuntimeError(message)
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if "outcome" not in said:
        late = number == signal.SIGXCPU or (number == signal.SIGKILL and seconds >= WALL_SECONDS)
        said["outcome"] = "hang" if late else "memory" if number == signal.SIGKILL else "crash"
        how = signal.Signals(number).name if number else f"status {status}"
        said["detail"] = f"{how} after {seconds:.0f} s"
    attempt = Attempt(child.kind.name, child.index, seconds=seconds, **said)
    if keep and not attempt.good:
        kept = keep / f"{child.kind.name}-{seed}-{child.index}"
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(child.folder, kept, dirs_exist_ok=True)
        (kept / "outcome.txt").write_text(
            f"{attempt.outcome}\n{attempt.mutation}\n{attempt.detail}\n{attempt.place}\n", encoding="utf-8"
        )
    shutil.rmtree(child.folder, ignore_errors=True)
    return attempt
