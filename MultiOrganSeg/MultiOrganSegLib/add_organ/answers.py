"""What commands of the training side have found and written."""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from slicer.i18n import tr as _

from multiorganseg.errors import TrainingError


def read_ranking(path: Path) -> list[tuple[str, str]]:
    """Return names of cases with the reason, best first.

    Raises:
        TrainingError: The file cannot be read.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return [(str(entry["case"]), str(entry.get("reason", ""))) for entry in data["cases"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            _("The ranking of the cases cannot be read."),
            cause=f"{type(error).__name__}: {error}",
            next_step=_("Choose a case yourself."),
        ) from error


@dataclass(frozen=True)
class Learned:
    """One organ.

    Attributes:
        organ: Organ key.
        points: Number of annotated cases and Dice on held-out cases, one pair a training.
        sentence: The estimate; empty when there are too few trainings for one.
        picture: The curve; None without an estimate.
    """

    organ: str
    points: tuple[tuple[int, float], ...]
    sentence: str
    picture: Path | None


def read_learned(path: Path) -> list[Learned]:
    """Read what `project learning-curve` wrote.

    Raises:
        TrainingError: The file cannot be read.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return [
            Learned(
                str(key),
                tuple((int(point["cases"]), float(point["dice"])) for point in entry["points"]),
                str(entry["sentence"]),
                Path(entry["picture"]) if entry["picture"] else None,
            )
            for key, entry in data["organs"].items()
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainingError(
            _("The learning curve cannot be read."),
            cause=f"{type(error).__name__}: {error}",
            next_step=_("Try again."),
        ) from error


_FIRST_NUMBER = 501
_LAST_NUMBER = 999


@dataclass(frozen=True)
class FoundDataset:
    """A dataset that can be imported.

    Attributes:
        folder: Of the dataset.
        name: Of the dataset.
        kind: "nnunet", "msd" or "dicom-seg".
        cases: Names of its cases.
        labels: By its own name of a label, the organ key that it seems to be; empty when that is not known.
    """

    folder: Path
    name: str
    kind: str
    cases: tuple[str, ...]
    labels: dict[str, str]


def read_found(folder: Path, answer: Path) -> FoundDataset:
    """Read what `project inspect` wrote.

    Args:
        folder: That was looked at.
        answer: The JSON file.

    Raises:
        TrainingError: The file cannot be read.
    """
    try:
        data = json.loads(answer.read_text(encoding="utf-8"))
        labels = {str(entry["name"]): str(entry["organ"]) for entry in data["labels"]}
        cases = tuple(str(name) for name in data["cases"])
        return FoundDataset(folder, str(data["name"]), str(data["format"]), cases, labels)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            _("What was found in {folder} cannot be read.").format(folder=folder),
            cause=f"{type(error).__name__}: {error}",
            next_step=_("Try again."),
        ) from error


def nnunet_folder(parent: Path, name: str) -> Path:
    """Return a folder for an nnU-Net dataset with a number that is free beside the others.

    Raises:
        TrainingError: No number is free.
    """
    taken = {path.name[:10] for path in parent.glob("Dataset*")}
    numbers = range(_FIRST_NUMBER, _LAST_NUMBER + 1)
    free = next((f"Dataset{number}" for number in numbers if f"Dataset{number}" not in taken), "")
    if not free:
        raise TrainingError(
            _("No dataset number is free in {folder}.").format(folder=parent),
            next_step=_("Choose another folder."),
        )
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    stem = "_".join(re.findall(r"[A-Za-z0-9]+", plain))
    return parent / f"{free}_{stem or 'Project'}"


def new_subfolder(parent: Path, name: str) -> Path:
    """Return a folder of a name that is free, with a number behind it where that is not."""
    names = (name if number == 1 else f"{name} {number}" for number in range(1, 10_000))
    return parent / next(each for each in names if not (parent / each).exists())


@dataclass(frozen=True)
class Published:
    """A published model.

    Attributes:
        name: Of the bundle.
        version: Three numbers.
    """

    name: str
    version: str


def newest_published(project: Path) -> Published | None:
    """Return the model that a project has published last; None when there is none."""
    folder = project / "bundles"
    found = [path for path in folder.iterdir() if path.name[0] != "."] if folder.is_dir() else []
    for path in sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        try:
            said = json.loads((path / "configs" / "metadata.json").read_text(encoding="utf-8"))
            return Published(str(said["name"]), str(said["version"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None
