"""What a run must say about itself so that its figures mean something."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

PACKAGES = ("torch", "monai", "SimpleITK", "numpy", "scipy", "openvino")


@dataclass(frozen=True)
class Machine:
    """The machine and the moment of a run.

    Attributes:
        processor: Model name.
        cores: Logical cores.
        memory_gib: Main memory.
        system: Operating system and Python.
        packages: Versions by package; packages that are not there are left out.
        load: Mean number of running processes in the last minute, before the run; NaN where unknown.
        date: Start, UTC.
        command: What was typed.
    """

    processor: str
    cores: int
    memory_gib: float
    system: str
    packages: dict[str, str]
    load: float
    date: str
    command: str

    def lines(self) -> list[str]:
        """Return the facts as short texts."""
        packages = ", ".join(f"{name} {number}" for name, number in self.packages.items())
        busy = " (other programs were running: do not trust the seconds)" if self.load > 0.7 else ""
        return [
            f"Machine: {self.processor}, {self.cores} cores, {self.memory_gib:.0f} GiB; {self.system}",
            f"Packages: {packages}",
            f"Date: {self.date}; load before the run {self.load:.1f}{busy}",
            f"Command: {self.command}",
        ]


def describe_machine() -> Machine:
    """Look at this machine; call it before the first measurement."""
    return Machine(
        processor=_processor(),
        cores=os.cpu_count() or 1,
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        system=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        packages=_versions(),
        load=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else float("nan"),
        date=f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        command=shlex.join(["python", *sys.argv]),
    )


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
