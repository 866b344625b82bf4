"""Load and save `gate.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from multiorganseg.atomic import write_text_atomically
from multiorganseg.bundles.json_text import format_json
from multiorganseg.errors import TrainingError
from multiorganseg_training.gate.gate import Gate, OrganVerdict
from multiorganseg_training.project.matrix_json import read_json
from multiorganseg_training.typed_data import typed

GATE_FILE = "gate.json"
SCHEMA_VERSION = 1


def save_gate(gate: Gate, run: Path) -> None:
    """Write `gate.json` into a run's folder, at once or not at all.

    Raises:
        ResourceError: The file cannot be written.
    """
    write_text_atomically(run / GATE_FILE, format_json(gate_to_json(gate)))


def load_gate(run: Path) -> Gate | None:
    """Read the `gate.json` of a run; None when there is none yet.

    Raises:
        TrainingError: The file is damaged or of another version.
    """
    path = run / GATE_FILE
    if not path.is_file():
        return None
    data = read_json(path, SCHEMA_VERSION)
    try:
        return _gate(data, path.name)
    except TrainingError as error:
        msg = f"{path} cannot be used."
        raise TrainingError(
            msg, cause=error.problem, next_step="Repeat it: multiorganseg-train gate --help"
        ) from error


def gate_to_json(gate: Gate) -> dict[str, Any]:
    """Give the JSON object of `gate.json`."""
    return {
        "schema_version": SCHEMA_VERSION,
        "base": {"name": gate.base_name, "version": gate.base_version, "sha256": gate.base_sha256},
        "run": gate.run,
        "cases": list(gate.cases),
        "how": gate.how,
        "margin": gate.margin,
        "floor": gate.floor,
        "training_cases": dict(gate.training_cases),
        "organs": {key: _organ_to_json(organ) for key, organ in gate.organs.items()},
        "passed": gate.passed,
    }


def _organ_to_json(organ: OrganVerdict) -> dict[str, Any]:
    values = asdict(organ)
    interval = organ.confidence_interval
    values["confidence_interval"] = None if interval is None else [_rounded(end) for end in interval]
    values["verdict"] = organ.verdict.value
    return {name: _rounded(value) for name, value in values.items()}


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value


@dataclass(frozen=True)
class _Base:
    name: str
    version: str
    sha256: str


@dataclass(frozen=True)
class _GateFile:
    base: _Base
    run: str
    cases: tuple[str, ...]
    how: str
    margin: float
    floor: float
    organs: dict[str, OrganVerdict]
    training_cases: dict[str, int] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION
    passed: bool | None = None


def _gate(data: Mapping[str, Any], what: str) -> Gate:
    said = typed(_GateFile, data, what)
    return Gate(
        base_name=said.base.name,
        base_version=said.base.version,
        base_sha256=said.base.sha256,
        run=said.run,
        cases=said.cases,
        how=said.how,
        margin=said.margin,
        floor=said.floor,
        organs=said.organs,
        training_cases=said.training_cases,
    )
