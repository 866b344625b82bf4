"""The label-status matrix as JSON that people can read and edit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from multiorganseg.atomic import write_text_atomically
from multiorganseg.bundles.json_text import format_json, parse_json_object, read_small_file
from multiorganseg.errors import TrainingError
from multiorganseg_training.project.matrix import LabelStatusMatrix
from multiorganseg_training.project.status import LabelStatus

SCHEMA_VERSION = 1
_MOST = 64 * 2**20


def matrix_to_json(matrix: LabelStatusMatrix) -> dict[str, Any]:
    """Give `{"organs": […], "cases": {"case": {"annotated": ["liver"], …}}}`; unknown organs are left out."""
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
        problem = f"{value!r} is no organ key"
        raise TypeError(problem)
    return value
