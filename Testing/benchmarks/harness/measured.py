"""Run a command as a child process of its own, watch its memory, and read what it recorded."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

GIB = 2**30
POLL_SECONDS = 0.05
SMALLEST_RESERVE = GIB // 2

FINISHED, KILLED, FAILED = "finished", "killed", "failed"


@dataclass(frozen=True)
class Limits:
    """What a child may use.

    Attributes:
        memory: Bytes of resident memory.
        seconds: Wall time.
        threads: Given to OpenMP, ITK and BLAS.
    """

    memory: int
    seconds: float
    threads: int


@dataclass(frozen=True)
class Measurement:
    """What was measured of one child.

    Attributes:
        outcome: `FINISHED`, `KILLED` by the watchdog or `FAILED` by itself.
        note: Why it did not finish.
        seconds: Wall seconds by stage, in order; "start" is the interpreter with its imports. A stage that
            was broken off counts up to that moment.
        peak_bytes: Largest resident memory.
        processor_seconds: Of the child itself until the end of its last stage, all threads together: other
            programs on the machine lengthen them less than the wall seconds.
        facts: What the child recorded beside times.
    """

    outcome: str
    note: str
    seconds: dict[str, float]
    peak_bytes: int
    processor_seconds: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """Wall seconds of all stages."""
        return sum(self.seconds.values())


def run_measured(command: Sequence[str], events: Path, limits: Limits) -> Measurement:
    """Run a command that records its stages in `events` (see `Recorder`) and wait for its end.

    Args:
        command: Program and arguments.
        events: File that the command appends to; what it held before is lost.
        limits: The child is killed, with its own children, when it passes one of them, or when the machine
            is about to run out of memory.
    """
    events.parent.mkdir(parents=True, exist_ok=True)
    events.write_text("", encoding="utf-8")
    threads = {f"{name}_NUM_THREADS": str(limits.threads) for name in ("OMP", "MKL", "OPENBLAS")}
    itk = {"ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": str(limits.threads)}
    log = events.with_suffix(".log")
    with log.open("wb") as output:
        launched = time.time()
        child = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **threads, **itk})
        try:
            peak, reason = _watch(child, limits)
        finally:
            _kill_tree(child)
    return _measurement(events, launched, time.time(), peak, reason, child.returncode, log)


def _watch(child: subprocess.Popen[bytes], limits: Limits) -> tuple[int, str]:
    process, peak, started = psutil.Process(child.pid), 0, time.monotonic()
    while child.poll() is None:
        try:
            resident = process.memory_info().rss
        except psutil.NoSuchProcess:
            break
        peak = max(peak, resident)
        if resident > limits.memory:
            return peak, f"killed at {limits.memory / GIB:.3g} GiB"
        if psutil.virtual_memory().available < SMALLEST_RESERVE:
            return peak, f"killed at {resident / GIB:.1f} GiB, the machine had no more"
        if time.monotonic() - started > limits.seconds:
            return peak, f"killed after {limits.seconds:.0f} s"
        time.sleep(POLL_SECONDS)
    return peak, ""


def _kill_tree(child: subprocess.Popen[bytes]) -> None:
    try:
        family = [*psutil.Process(child.pid).children(recursive=True), psutil.Process(child.pid)]
    except psutil.NoSuchProcess:
        family = []
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    child.wait()


def _measurement(
    path: Path, launched: float, ended: float, peak: int, reason: str, code: int, log: Path
) -> Measurement:
    events = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    seconds: dict[str, float] = {"start": (events[0]["time"] if events else ended) - launched}
    facts: dict[str, Any] = {}
    running: tuple[str, float] | None = None
    spent = 0.0
    for event in events:
        if event["event"] == "begin":
            running = event["stage"], event["time"]
        elif event["event"] == "end" and running:
            seconds[event["stage"]] = event["time"] - running[1]
            peak, running = max(peak, event["peak_bytes"]), None
            spent = round(event["processor_seconds"], 3)
        elif event["event"] == "split":
            whole = seconds.pop(event["stage"])
            seconds.update(event["seconds"], other=max(0.0, whole - sum(event["seconds"].values())))
        elif event["event"] == "facts":
            facts.update(event["facts"])
    if running:
        seconds[running[0]] = ended - running[1]
    where = f" in '{running[0]}'" if running else ""
    seconds = {name: round(value, 3) for name, value in seconds.items()}
    if reason:
        return Measurement(
            KILLED, f"{reason}{where} after {ended - launched:.0f} s", seconds, peak, spent, facts
        )
    if code:
        return Measurement(FAILED, f"failed{where}, see {log}", seconds, peak, spent, facts)
    return Measurement(FINISHED, "", seconds, peak, spent, facts)
