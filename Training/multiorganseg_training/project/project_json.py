"""Load and save `project.json`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from multiorganseg.atomic import write_text_atomically
from multiorganseg.bundles.custom_organs import with_custom_organs
from multiorganseg.bundles.json_text import format_json
from multiorganseg.bundles.metadata import CustomOrgan
from multiorganseg.errors import OrganError, TrainingError
from multiorganseg.organs.catalogue import Catalogue, load_catalogue
from multiorganseg.organs.labels import LabelTable
from multiorganseg_training.project.matrix_json import matrix_from_json, matrix_to_json, read_json
from multiorganseg_training.project.project import Project, ProjectCase

PROJECT_FILE = "project.json"
SCHEMA_VERSION = 1


def project_inputs(folder: Path) -> list[Path]:
    """Name what a report on a project must never replace."""
    return [folder / PROJECT_FILE, folder / "images", folder / "labels", folder / "runs", folder / "bundles"]


def save_project(project: Project) -> None:
    """Write `project.json` into the project's folder, at once or not at all.

    Raises:
        ResourceError: The file cannot be written.
    """
    status = matrix_to_json(project.matrix)
    data = {
        "schema_version": SCHEMA_VERSION,
        "name": project.name,
        "modality": project.modality,
        "labels": project.table.to_json(),
        "custom_organs": {
            key: {"name": organ.name, "color": list(organ.color)}
            for key, organ in project.custom_organs.items()
        },
        "sources": {name: dict(about) for name, about in project.sources.items()},
        "cases": {
            name: {
                "image": case.image,
                "labels": case.labels,
                "source": case.source,
                "status": status["cases"][name],
            }
            for name, case in project.cases.items()
        },
    }
    write_text_atomically(project.folder / PROJECT_FILE, format_json(data))


def load_project(folder: Path, catalogue: Catalogue | None = None) -> Project:
    """Read and check a project; images and label files are not opened.

    Args:
        folder: Holds `project.json`.
        catalogue: Must know every organ but the project's own ones; by default MultiOrganSeg's.

    Raises:
        TrainingError: The file is missing, damaged, of another version, or contradicts itself.
        OrganError: The catalogue lacks an organ, or an own one is not valid.
    """
    path = require_project(folder)
    data = read_json(path, SCHEMA_VERSION)
    try:
        project = _project(folder, data)
    except (KeyError, TypeError, ValueError, AttributeError, OrganError) as error:
        msg = f"{path} cannot be used."
        cause = str(error) if isinstance(error, OrganError) else f"{type(error).__name__}: {error}"
        raise TrainingError(msg, cause=cause, next_step="Correct the file.") from error
    project.matrix.check_organs(with_custom_organs(catalogue or load_catalogue(), project.custom_organs))
    return project


def require_project(folder: Path) -> Path:
    """Give the path of a folder's `project.json`.

    Raises:
        TrainingError: There is none.
    """
    path = folder / PROJECT_FILE
    if not path.is_file():
        msg = f"{folder} is no project."
        raise TrainingError(
            msg,
            cause=f"It holds no {PROJECT_FILE}.",
            next_step="Name a project's folder, or make one: multiorganseg-train project --help",
        )
    return path


def _project(folder: Path, data: Mapping[str, Any]) -> Project:
    table = LabelTable.from_json(data["labels"])
    entries = data["cases"]
    matrix = matrix_from_json(
        {"organs": list(table.keys), "cases": {name: entry["status"] for name, entry in entries.items()}}
    )
    cases = {
        name: ProjectCase(
            name,
            _text(entry["image"]),
            None if entry["labels"] is None else _text(entry["labels"]),
            _text(entry["source"]),
        )
        for name, entry in entries.items()
    }
    sources = {
        name: {key: _text(value) for key, value in about.items()} for name, about in data["sources"].items()
    }
    custom = {key: _custom_organ(organ) for key, organ in data.get("custom_organs", {}).items()}
    return Project(
        folder, _text(data["name"]), table, cases, matrix, _text(data["modality"]), sources, custom
    )


def _custom_organ(entry: Mapping[str, Any]) -> CustomOrgan:
    red, green, blue = entry["color"]
    return CustomOrgan(_text(entry["name"]), (red, green, blue))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        problem = f"{value!r} is no text"
        raise TypeError(problem)
    return value
