"""Stages of a measured process, written as JSON lines that survive the process being killed.

Only the standard library is used, so that other environments can import this file.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def peak_memory() -> int:
    """Largest resident memory of this process so far, in bytes.

    On Linux it is read from VmHWM, since `ru_maxrss` of a child starts with the peak of its parent.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class Recorder:
    """Appends what happens in a process to a file.

    Args:
        path: Of the file; one JSON object a line.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Record when a stage begins and ends, and processor seconds and peak memory at its end."""
        self._write({"event": "begin", "stage": name})
        yield
        spent = {"peak_bytes": peak_memory(), "processor_seconds": time.process_time()}
        self._write({"event": "end", "stage": name, **spent})

    def split(self, stage: str, seconds: Mapping[str, float]) -> None:
        """Say of which parts a finished stage was made."""
        self._write({"event": "split", "stage": stage, "seconds": dict(seconds)})

    def facts(self, **facts: Any) -> None:
        """Record JSON values that are no times."""
        self._write({"event": "facts", "facts": facts})

    def _write(self, event: dict[str, Any]) -> None:
        self._file.write(json.dumps({**event, "time": time.time()}) + "\n")
        self._file.flush()
