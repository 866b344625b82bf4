"""What a project's `project.json` says, for showing it; the command line alone writes it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from multiorganseg.errors import OrganError, TrainingError
from multiorganseg.organs.catalogue import Catalogue, Organ, load_catalogue

PROJECT_FILE = "project.json"
STATUSES = ("annotated", "absent", "pseudo", "unknown")
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Case:
    """One image of a project.

    Attributes:
        name: Of the case.
        image: Its image file.
        labels: Its label file; None when nothing is labelled.
        status: By organ key, one of `STATUSES`.
    """

    name: str
    image: Path
    labels: Path | None
    status: Mapping[str, str]


@dataclass(frozen=True)
class Project:
    """A project as it is on disk now.

    Attributes:
        folder: Where it lies.
        name: For people.
        modality: "CT" or "MR".
        organs: Organ keys by label value.
        cases: By name, in the project's order.
        catalogue: Knows all its organs, its own ones included.
    """

    folder: Path
    name: str
    modality: str
    organs: Mapping[int, str]
    cases: Mapping[str, Case]
    catalogue: Catalogue

    @property
    def keys(self) -> tuple[str, ...]:
        """Organ keys in the order of their label values."""
        return tuple(self.organs[value] for value in sorted(self.organs))

    def taught(self, known: Mapping[str, Any] | tuple[str, ...]) -> tuple[str, ...]:
        """Organs of the project that a model with the organs `known` lacks."""
        return tuple(key for key in self.keys if key not in known)

    def count(self, organ: str) -> Counter[str]:
        """Number of cases by status of an organ."""
        return Counter(case.status.get(organ, UNKNOWN) for case in self.cases.values())


def is_project(folder: Path) -> bool:
    """Whether a folder holds a project."""
    return (folder / PROJECT_FILE).is_file()


def read_project(folder: Path) -> Project:
    """Read a project; no image is opened.

    Raises:
        TrainingError: The folder holds no project, or its file is damaged or of a later version.
    """
    path = folder / PROJECT_FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["schema_version"] not in (1, 2):
            raise ValueError(_("schema version {version}").format(version=data["schema_version"]))
        organs = {int(value): str(key) for value, key in data["labels"].items()}
        keys = tuple(organs.values())
        cases = {name: _case(folder, name, entry, keys) for name, entry in data["cases"].items()}
        catalogue = _catalogue(data.get("custom_organs", {}))
        return Project(folder, str(data["name"]), str(data["modality"]), organs, cases, catalogue)
    except FileNotFoundError as error:
        raise TrainingError(
            _("{folder} is no project.").format(folder=folder),
            cause=_("It holds no {file}.").format(file=PROJECT_FILE),
            next_step=_("Open the folder of a project, or create a new one."),
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OrganError) as error:
        raise TrainingError(
            _("{path} cannot be used.").format(path=path),
            cause=f"{type(error).__name__}: {error}",
            next_step=_("Take the file from a backup, or update MultiOrganSeg if it is of a later version."),
        ) from error


def _case(folder: Path, name: str, entry: Mapping[str, Any], keys: tuple[str, ...]) -> Case:
    said = {organ: status for status, organs in entry["status"].items() for organ in organs}
    labels = entry["labels"]
    return Case(
        name,
        folder / str(entry["image"]),
        None if labels is None else folder / str(labels),
        {key: said.get(key, UNKNOWN) for key in keys},
    )


def _catalogue(custom: Mapping[str, Any]) -> Catalogue:
    known = load_catalogue()
    own = {
        key: own_organ(key, str(entry["name"]), tuple(entry["color"]))
        for key, entry in custom.items()
        if key not in known.organs
    }
    return Catalogue({**known.organs, **own}) if own else known


def own_organ(key: str, name: str, color: tuple[int, int, int]) -> Organ:
    """An organ without codes that the catalogue lacks.

    Raises:
        OrganError: The key is not valid.
    """
    side = next((side for side in ("left", "right") if side in key.split("_")), None)
    return Organ(key, name, None, None, None, color, side, None, None, None)
