from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from multiorganseg.events import read_events
from multiorganseg.organs.labels import LabelTable
from multiorganseg.progress import CancelToken, Progress
from multiorganseg.projects.acceptance import AcceptanceReport
from multiorganseg_training.acceptance.add_organ import Workplace, add_organ
from multiorganseg_training.acceptance.plan import AddOrganOptions
from multiorganseg_training.project import Project, import_folder
from multiorganseg_training.run.fit import EVENTS_FILE

TABLE = {1: "spleen", 6: "liver"}


@dataclass
class AddedOrgan:
    """Adds organs to the phantom's liver network and remembers what was reported."""

    project: Path
    cache: Path
    name: str = "run"
    warnings: list[str] = field(default_factory=list)
    infos: list[str] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)
    token: CancelToken = field(default_factory=CancelToken)
    at_report: Callable[[str, float], None] = lambda stage, fraction: None

    @property
    def run(self) -> Path:
        return self.project / "runs" / self.name

    @property
    def events(self) -> list[dict[str, Any]]:
        return list(read_events(self.run / EVENTS_FILE))

    def reported(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == kind]

    def beside(self, name: str) -> AddedOrgan:
        """Return another run of the same project."""
        return AddedOrgan(self.project, self.cache, name)

    def __call__(
        self, *organs: str, iterations: int | None = 4, base: str = "liver-ct", **options: Any
    ) -> AcceptanceReport:
        place = Workplace(self.project, self.run, self.cache, torch.device("cpu"))
        progress = Progress(self._report, self.token)
        asked = AddOrganOptions(base, organs or ("spleen",), iterations=iterations, **options)
        return add_organ(asked, place, progress, self.warnings.append, tell=self.infos.append)

    def _report(self, stage: str, fraction: float) -> None:
        self.stages.append(stage)
        self.at_report(stage, fraction)


@pytest.fixture
def make_project(models: Path, add_case, tmp_path: Path) -> Callable[[int], Project]:
    """Make a project of so many phantom cases, liver and spleen annotated in each."""

    def make(count: int) -> Project:
        data = tmp_path / f"data {count}"
        for number in range(count):
            add_case(data, f"case_{number}", number)
        return import_folder(data, tmp_path / f"Projekt {count} 器官", LabelTable(TABLE), name="phantom")

    return make


@pytest.fixture
def added(make_project, tmp_path: Path) -> Callable[..., AddedOrgan]:
    """Make what adds to the base from a new project of so many cases."""

    def make(cases: int = 4, **options: Any) -> AddedOrgan:
        return AddedOrgan(make_project(cases).folder, tmp_path / "prepared", **options)

    return make
