"""What the panel asks of `multiorganseg-train`: the arguments of each command in one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from multiorganseg.organs.catalogue import Organ

PRESETS = ("10m", "1h", "overnight")
BACKGROUND = "background"


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


def annotate(project: Path, case: str, labels: Path, organ: str, *, corrected: bool = False) -> list[str]:
    """Put the voxels above 0 of a label file into a case as an organ's annotation, drawn or corrected."""
    option = "--corrected" if corrected else "--organ"
    return ["project", "annotate", str(project), case, str(labels), option, organ]


def set_absent(project: Path, case: str, organ: str) -> list[str]:
    """Mark an organ as absent from the image of a case."""
    return ["project", "annotate", str(project), case, "--absent", organ]


def next_case(project: Path, model: str, organ: str, answer: Path) -> list[str]:
    """Rank the cases in which an organ is unknown, and write the ranking as JSON."""
    command = ["project", "next", str(project), "--model", model, "--organ", organ]
    return [*command, "--json", str(answer)]


def inspect(project: Path, dataset: Path, answer: Path) -> list[str]:
    """Write as JSON what a dataset of another tool holds, and which organs its labels seem to be."""
    return ["project", "inspect", str(project), str(dataset), "--json", str(answer)]


def import_cases(project: Path, dataset: Path, organs: Mapping[str, str]) -> list[str]:
    """Add the cases of a dataset; `organs` gives an organ key by label, empty to leave the label out."""
    rules = [f"--label={label}={organ or BACKGROUND}" for label, organ in organs.items()]
    return ["project", "import", str(project), str(dataset), *rules]


def export_nnunet(project: Path, target: Path) -> list[str]:
    """Write an nnU-Net v2 dataset; what a case does not know gets the ignore label."""
    command = ["project", "export-nnunet", str(project), "--output", str(target)]
    return [*command, "--partial", "ignore"]


def export_dicom_seg(project: Path, target: Path, series: Path) -> list[str]:
    """Write the annotations as DICOM SEG of the series below a folder."""
    command = ["project", "export-dicom-seg", str(project), "--output", str(target)]
    return [*command, "--series", str(series)]


def learning_curve(project: Path, answer: Path) -> list[str]:
    """Estimate how many more cases each organ needs; pictures lie beside the answer."""
    command = ["project", "learning-curve", str(project), "--json", str(answer)]
    return [*command, "--output", str(answer.parent)]


def train(project: Path, run: str, base: str, organs: Sequence[str], *, time: str, device: str) -> list[str]:
    """Train a model that knows further organs, or go on with a run; its acceptance check follows."""
    command = ["add-organ", "--project", str(project), "--base", base, "--run", run]
    for organ in organs:
        command += ["--organ", organ]
    return [*command, "--time", time, "--device", device]


def check_acceptance(project: Path, run: str) -> list[str]:
    """Compare old and new organs of a finished run again."""
    return ["acceptance", run, "--project", str(project)]


def publish(project: Path, run: str, reason: str = "") -> list[str]:
    """Publish a run and install it; with a reason although the acceptance check failed."""
    return ["project", "publish", str(project), run, *(["--force", reason] if reason else [])]


def rollback(project: Path, model: str) -> list[str]:
    """Remove the newest installed version of a model."""
    return ["project", "rollback", str(project), model]
