"""What the panel asks of `multiorganseg-train`: the arguments of each command in one place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from multiorganseg.organs.catalogue import Organ

PRESETS = ("10m", "1h", "overnight")


def create(folder: Path, name: str, modality: str, base: str) -> list[str]:
    """Create an empty project that has the organs of its base model."""
    return ["project", "create", str(folder), "--name", name, "--modality", modality, "--base", base]


def add_case(project: Path, image: Path, name: str) -> list[str]:
    """Copy an image into a project; all organs are unknown in it."""
    return ["project", "add", str(project), str(image), "--name", name]


def add_organ(project: Path, organ: Organ, *, is_own: bool) -> list[str]:
    """Add an organ, unknown in every case; an own one with its name and colour."""
    command = ["project", "add-organ", str(project), organ.key]
    if is_own:
        color = "#" + "".join(f"{part:02x}" for part in organ.color)
        command += ["--name", organ.name, "--color", color]
    return command


def annotate(project: Path, case: str, labels: Path, organ: str) -> list[str]:
    """Put the voxels above 0 of a label file into a case as the annotation of an organ."""
    return ["project", "annotate", str(project), case, str(labels), "--organ", organ]


def set_absent(project: Path, case: str, organ: str) -> list[str]:
    """Say that the image of a case does not hold an organ."""
    return ["project", "annotate", str(project), case, "--absent", organ]


def next_case(project: Path, model: str, organ: str, answer: Path) -> list[str]:
    """Rank the cases in which an organ is unknown, and write the ranking as JSON."""
    command = ["project", "next", str(project), "--model", model, "--organ", organ]
    return [*command, "--json", str(answer)]


def extend(project: Path, run: str, base: str, organs: Sequence[str], *, time: str, device: str) -> list[str]:
    """Train a model that knows further organs, or go on with a run; the gate follows by itself."""
    command = ["extend", "--project", str(project), "--base", base, "--run", run]
    for organ in organs:
        command += ["--organ", organ]
    return [*command, "--time", time, "--device", device]


def gate(project: Path, run: str) -> list[str]:
    """Compare old and new organs of a finished run again."""
    return ["gate", run, "--project", str(project)]


def publish(project: Path, run: str, reason: str = "") -> list[str]:
    """Publish a run and install it; with a reason although the gate failed."""
    return ["project", "publish", str(project), run, *(["--force", reason] if reason else [])]


def rollback(project: Path, model: str) -> list[str]:
    """Remove the newest installed version of a model."""
    return ["project", "rollback", str(project), model]
