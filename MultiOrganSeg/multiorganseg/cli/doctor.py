"""`multiorganseg doctor`: what works here, what is missing, and the command that mends it."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import typer
from rich.table import Table
from rich.text import Text

from multiorganseg import __version__
from multiorganseg.cli.console import out
from multiorganseg.errors import MultiOrganSegError
from multiorganseg.memory import available_memory
from multiorganseg.needs import NEEDS, PICTURES, SEGMENT

GIB = 2**30
ENOUGH_RAM_GIB = 4.0
REQUIRED = ("numpy", "scipy", "SimpleITK", *NEEDS[SEGMENT], *PICTURES)
OPTIONAL = {
    "openvino": ("faster on CPUs without bfloat16", "pip install openvino"),
    "highdicom": ("DICOM SEG", "pip install highdicom"),
    "vtk": ("3D picture in the preview", "pip install vtk"),
}


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        subject: What was looked at.
        state: "ok", "optional" (missing, not needed) or "broken".
        detail: What was found.
        mend: The command or step that mends it.
    """

    subject: str
    state: str
    detail: str
    mend: str = ""


def doctor() -> None:
    """Check Python, packages, devices, memory and models. Exit code 1 when something is broken."""
    findings = [*_system(), *_packages(), *_devices(), *_models()]
    table = Table("", "what", "found", "mend", title=f"MultiOrganSeg {__version__}")
    marks = {"ok": Text("✓", "green"), "optional": Text("–", "yellow"), "broken": Text("✗", "red")}
    for finding in findings:
        table.add_row(marks[finding.state], finding.subject, finding.detail, finding.mend)
    out.print(table)
    if any(finding.state == "broken" for finding in findings):
        raise typer.Exit(1)


def _system() -> Iterator[Finding]:
    yield Finding("Python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    free, total = available_memory(), psutil.virtual_memory().total
    enough = free >= ENOUGH_RAM_GIB * GIB
    yield Finding(
        "memory",
        "ok" if enough else "broken",
        f"{free / GIB:.1f} of {total / GIB:.1f} GiB free",
        "" if enough else f"free at least {ENOUGH_RAM_GIB:.0f} GiB for a thorax and abdomen CT",
    )


def _packages() -> Iterator[Finding]:
    for name in REQUIRED:
        version = _version(name)
        yield Finding(
            name,
            "ok" if version else "broken",
            version or "missing",
            "" if version else f"pip install {name}",
        )
    for name, (purpose, mend) in OPTIONAL.items():
        version = _version(name)
        yield Finding(
            name, "ok" if version else "optional", version or f"missing: {purpose}", "" if version else mend
        )


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _devices() -> Iterator[Finding]:
    if not _version("torch"):
        return
    import torch

    from multiorganseg.inference.backends import has_bf16

    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(number)
            name = torch.cuda.get_device_name(number)
            yield Finding("graphics card", "ok", f"{name}, {free / GIB:.1f} of {total / GIB:.1f} GiB free")
    elif torch.backends.mps.is_available():
        yield Finding("graphics card", "ok", "Apple GPU (mps)")
    else:
        yield Finding("graphics card", "optional", "none that PyTorch can use: the CPU is used")
    bf16 = "used" if has_bf16() else "not used, float32 is faster"
    detail = f"{psutil.cpu_count(logical=False) or psutil.cpu_count()} cores, bfloat16: {bf16}"
    yield Finding("processor", "ok", detail)


def _models() -> Iterator[Finding]:
    from multiorganseg.bundles import Bundle, list_bundles

    try:
        listed = list_bundles()
    except MultiOrganSegError as error:
        yield Finding("models", "broken", error.problem, error.next_step)
        return
    if not listed:
        yield Finding("models", "broken", "none", "multiorganseg models install FILE.zip")
    for entry in listed:
        if isinstance(entry, Bundle):
            metadata = entry.metadata
            organs = len(metadata.labels.organs)
            yield Finding(f"model {metadata.name}", "ok", f"{metadata.version}, {organs} organs, verified")
        else:
            yield Finding(
                f"model {entry.folder.name}",
                "broken",
                entry.error.cause or entry.error.problem,
                entry.error.next_step,
            )
