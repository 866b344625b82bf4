"""Load and save `project.json` and a matrix beside it; the lock that keeps programs apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from multiorganseg.atomic import write_text_atomically
from multiorganseg.bundles.custom_organs import with_custom_organs
from multiorganseg.bundles.json_text import format_json, parse_json_object, read_small_file
from multiorganseg.bundles.metadata import CustomOrgan
from multiorganseg.errors import TrainingError
from multiorganseg.guarded import check_inside
from multiorganseg.organs.catalogue import Catalogue, load_catalogue
from multiorganseg.organs.labels import LabelTable
from multiorganseg.projects.matrix import LabelStatus, LabelStatusMatrix
from multiorganseg.projects.project import Project, ProjectCase
from multiorganseg.projects.runs import folder_lock
from multiorganseg.schema import typed
from multiorganseg.scratch import clean_up

SCHEMA_VERSION = 1
_MOST = 64 * 2**20
_MATRIX_STEP = (
    'Write it as {"organs": ["liver"], "cases": {"case_1": {"annotated": ["liver"]}}}; '
    f"the statuses are {', '.join(LabelStatus)}."
)


@dataclass(frozen=True)
class _MatrixFile:
    organs: tuple[str, ...]
    cases: Mapping[str, Mapping[LabelStatus, tuple[str, ...]]]
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class _CaseFile:
    image: str
    labels: str | None
    source: str
    status: Mapping[LabelStatus, tuple[str, ...]]
    patient: str = ""
    corrected: tuple[str, ...] = ()


@dataclass(frozen=True)
class _ProjectFile:
    name: str
    modality: str
    labels: LabelTable
    sources: Mapping[str, Mapping[str, str]]
    cases: Mapping[str, _CaseFile]
    custom_organs: Mapping[str, CustomOrgan] = field(default_factory=dict)
    patient_key: str = ""
    schema_version: int = SCHEMA_VERSION


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
    said = typed(_MatrixFile, data, "This label-status matrix", _MATRIX_STEP)
    return LabelStatusMatrix(said.organs, {case: _row(case, groups) for case, groups in said.cases.items()})


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


def _row(case: str, groups: Mapping[LabelStatus, tuple[str, ...]]) -> dict[str, LabelStatus]:
    row: dict[str, LabelStatus] = {}
    for status, organs in groups.items():
        for organ in organs:
            if row.setdefault(organ, status) is not status:
                msg = f"{organ} has two statuses in the case '{case}'."
                raise TrainingError(msg, next_step="Keep one of them in the file.")
    return row


PROJECT_FILE = "project.json"
PROJECT_VERSION = 1


def data_inputs(folder: Path) -> list[Path]:
    """Name what a training on a project or a data folder must never replace."""
    return [folder / PROJECT_FILE, folder / "images", folder / "labels", folder / "bundles"]


def project_inputs(folder: Path) -> list[Path]:
    """Name what a report on a project must never replace."""
    return [*data_inputs(folder), folder / "runs"]


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
        "custom_organs": {key: asdict(organ) for key, organ in project.custom_organs.items()},
        "sources": {name: dict(about) for name, about in project.sources.items()},
        **({"patient_key": project.patient_key} if project.patient_key else {}),
        "cases": {
            name: {
                **{part: getattr(case, part) for part in ("image", "labels", "source")},
                **({"patient": case.patient} if case.patient else {}),
                "status": status["cases"][name],
                **({"corrected": case.corrected} if case.corrected else {}),
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
    said = typed(_ProjectFile, read_json(path, PROJECT_VERSION), str(path))
    rows = {name: _row(name, case.status) for name, case in said.cases.items()}
    cases = {
        name: ProjectCase(name, case.image, case.labels, case.source, case.patient, case.corrected)
        for name, case in said.cases.items()
    }
    matrix = LabelStatusMatrix(said.labels.keys, rows)
    about = (said.modality, said.sources, said.custom_organs, said.patient_key)
    project = Project(folder, said.name, said.labels, cases, matrix, *about)
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
