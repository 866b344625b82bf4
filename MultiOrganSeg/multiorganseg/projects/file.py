"""Load and save `project.json` and a matrix beside it; the lock that keeps programs apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from multiorganseg.atomic import write_text_atomically
from multiorganseg.bundles.custom_organs import with_custom_organs
from multiorganseg.bundles.json_text import format_json, parse_json_object, read_small_file
from multiorganseg.bundles.metadata import CustomOrgan
from multiorganseg.errors import OrganError, TrainingError
from multiorganseg.guarded import check_inside
from multiorganseg.organs.catalogue import Catalogue, load_catalogue
from multiorganseg.organs.labels import LabelTable
from multiorganseg.projects.matrix import LabelStatus, LabelStatusMatrix
from multiorganseg.projects.project import Project, ProjectCase
from multiorganseg.projects.runs import folder_lock
from multiorganseg.scratch import clean_up

SCHEMA_VERSION = 1
_MOST = 64 * 2**20


def matrix_to_json(matrix: LabelStatusMatrix) -> dict[str, Any]:
    """Return `{"organs": […], "cases": {"case": {"annotated": ["liver"], …}}}`, without unknown organs."""
    shown = [status for status in LabelStatus if status is not LabelStatus.UNKNOWN]
    cases = {}
    for case, row in matrix.rows.items():
        groups = {status.value: [organ for organ in row if row[organ] is status] for status in shown}
        cases[case] = {name: organs for name, organs in groups.items() if organs}
    return {"organs": list(matrix.organs), "cases": cases}


def matrix_from_json(data: Mapping[str, Any]) -> LabelStatusMatrix:
    """Read what `matrix_to_json` gives; a group "unknown" may be written out too.

    Raises:
        TrainingError: A key or status is unknown, an organ has two statuses, or the form is another.
    """
    try:
        organs = tuple(_text(organ) for organ in _list(data["organs"], "'organs'"))
        rows = {case: _row(case, groups) for case, groups in data["cases"].items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        msg = "This is not a label-status matrix."
        raise TrainingError(
            msg,
            cause=f"{type(error).__name__}: {error}",
            next_step='Write it as {"organs": ["liver"], "cases": {"case_1": {"annotated": ["liver"]}}}; '
            f"the statuses are {', '.join(LabelStatus)}.",
        ) from error
    return LabelStatusMatrix(organs, rows)


def save_matrix(matrix: LabelStatusMatrix, path: Path) -> None:
    """Write a matrix as a JSON file of its own, at once or not at all.

    Raises:
        ResourceError: The file cannot be written.
    """
    write_text_atomically(path, format_json({"schema_version": SCHEMA_VERSION, **matrix_to_json(matrix)}))


def load_matrix(path: Path) -> LabelStatusMatrix:
    """Read a file that `save_matrix` wrote or a person edited.

    Raises:
        TrainingError: The file cannot be read or is no label-status matrix of this version.
    """
    data = read_json(path, SCHEMA_VERSION)
    return matrix_from_json(data)


def read_json(path: Path, version: int | None = None) -> dict[str, Any]:
    """Read a JSON object in which no key is repeated.

    Args:
        path: The file.
        version: What its `schema_version` must be; None where it has none.

    Raises:
        TrainingError: The file cannot be read, is no JSON object or has another version.
    """
    try:
        data = parse_json_object(read_small_file(path, _MOST))
    except (OSError, ValueError) as error:
        msg = f"Cannot read {path}."
        raise TrainingError(
            msg, cause=str(error), next_step="Check the path, or correct the file's JSON."
        ) from error
    if version is not None and data.get("schema_version") != version:
        msg = f"{path} has schema version {data.get('schema_version')}, not {version}."
        raise TrainingError(msg, next_step="Use the release of MultiOrganSeg that wrote it.")
    return data


def _row(case: str, groups: Mapping[str, Any]) -> dict[str, LabelStatus]:
    row: dict[str, LabelStatus] = {}
    for name, organs in groups.items():
        for organ in _list(organs, f"'{name}' of the case '{case}'"):
            if row.setdefault(_text(organ), LabelStatus(name)) is not LabelStatus(name):
                problem = f"{organ} has two statuses in the case '{case}'"
                raise ValueError(problem)
    return row


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        problem = f"{what} is no list of organ keys"
        raise TypeError(problem)
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        problem = f"{value!r} is no text"
        raise TypeError(problem)
    return value


PROJECT_FILE = "project.json"
PROJECT_VERSION = 1


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
        "schema_version": PROJECT_VERSION,
        "name": project.name,
        "modality": project.modality,
        "labels": project.table.to_json(),
        "custom_organs": {
            key: {"name": organ.name, "color": list(organ.color)}
            for key, organ in project.custom_organs.items()
        },
        "sources": {name: dict(about) for name, about in project.sources.items()},
        **({"patient_key": project.patient_key} if project.patient_key else {}),
        "cases": {
            name: {
                "image": case.image,
                "labels": case.labels,
                "source": case.source,
                **({"patient": case.patient} if case.patient else {}),
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
    data = read_json(path, PROJECT_VERSION)
    try:
        project = _project(folder, data)
    except (KeyError, TypeError, ValueError, AttributeError, OrganError) as error:
        msg = f"{path} cannot be used."
        cause = str(error) if isinstance(error, OrganError) else f"{type(error).__name__}: {error}"
        raise TrainingError(msg, cause=cause, next_step="Correct the file.") from error
    project.matrix.check_organs(with_custom_organs(catalogue or load_catalogue(), project.custom_organs))
    return project


def is_project(folder: Path) -> bool:
    """Whether a folder holds a project."""
    return (folder / PROJECT_FILE).is_file()


def require_project(folder: Path) -> Path:
    """Return the path of a folder's `project.json`.

    Raises:
        TrainingError: There is none.
    """
    if not is_project(folder):
        msg = f"{folder} is no project."
        raise TrainingError(
            msg,
            cause=f"It holds no {PROJECT_FILE}.",
            next_step="Choose a project's folder, or create one: multiorganseg-train project --help",
        )
    return folder / PROJECT_FILE


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
            _text(entry.get("patient", "")),
        )
        for name, entry in entries.items()
    }
    sources = {
        name: {key: _text(value) for key, value in about.items()} for name, about in data["sources"].items()
    }
    custom = {key: _custom_organ(organ) for key, organ in data.get("custom_organs", {}).items()}
    return Project(
        folder,
        _text(data["name"]),
        table,
        cases,
        matrix,
        _text(data["modality"]),
        sources,
        custom,
        _text(data.get("patient_key", "")),
    )


def _custom_organ(entry: Mapping[str, Any]) -> CustomOrgan:
    red, green, blue = entry["color"]
    return CustomOrgan(_text(entry["name"]), (red, green, blue))


PROJECT_SECONDS = 10.0
FOLDERS = ("", "images", "labels", "bundles")
"""Where a project writes, beside its runs, which tidy up for themselves."""


@contextmanager
def project_lock(folder: Path) -> Iterator[None]:
    """Hold a project's lock while it is read, changed and saved; not reentrant.

    What killed programs left half-written in the project goes first.

    Whoever only reads needs no lock: `project.json` is replaced as a whole, after the files that it names.

    Raises:
        TrainingError: The folder is no project, or another program holds the lock for 10 s.
        ResourceError: The folder cannot be written, was renamed or deleted meanwhile, or has a link out.
    """
    require_project(folder)
    step = "Try again when it is done, or end it."
    with folder_lock(folder, f"The project {folder.absolute().name}", PROJECT_SECONDS, step):
        for place in FOLDERS:
            check_inside(folder / place / "any")
            clean_up(folder / place)
        yield
