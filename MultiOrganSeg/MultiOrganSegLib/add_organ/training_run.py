"""Trainings of a project: whether one can begin, which there are, how each stands, and asking one to stop."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from multiorganseg.atomic import write_text_atomically
from multiorganseg.bundles.folders import visible_folders
from multiorganseg.earlier import existing
from multiorganseg.errors import TrainingError
from multiorganseg.guarded import check_inside, guarded_folder, make_folders
from multiorganseg.projects.matrix import LabelStatus
from multiorganseg.projects.project import Project
from multiorganseg.projects.runs import (
    ACCEPTANCE_FILE,
    EVENTS_FILE,
    RUNS_FOLDER,
    RunState,
    is_running,
    request_pause,
    run_state,
    withdraw_pause,
)
from MultiOrganSegLib.add_organ.trainer import PACKAGE

_ORDERS = ".orders.json"
_STARTING_SECONDS = 10.0


@dataclass(frozen=True)
class Orders:
    """What a training was started with, kept beside its folder so that it can go on with the same.

    Attributes:
        base: Name of the base bundle.
        organs: Keys of the organs that are added.
        time: A preset of `commands.PRESETS`.
        device: "auto", "cpu", "cuda" or "mps".
        pid: Number of the process that was started last.
    """

    base: str
    organs: tuple[str, ...]
    time: str
    device: str
    pid: int = 0


@dataclass(frozen=True)
class TrainingRun:
    """A folder in `runs/` of a project.

    Attributes:
        folder: Where it lies; it need not exist while its process starts.
    """

    folder: Path

    @property
    def name(self) -> str:
        """Of the run."""
        return self.folder.name

    @property
    def project(self) -> Path:
        """Folder of its project."""
        return self.folder.parent.parent

    @property
    def events(self) -> Path:
        """Its event log."""
        return self.folder / EVENTS_FILE

    @property
    def report(self) -> Path:
        """The report of its acceptance check."""
        return existing(self.folder / ACCEPTANCE_FILE)

    @property
    def log(self) -> Path:
        """What its process wrote, beside the folder."""
        return self.folder.with_name(f"{self.name}.log")

    @property
    def orders_file(self) -> Path:
        """Its orders, beside the folder."""
        return self.folder.with_name(f"{self.name}{_ORDERS}")

    def orders(self) -> Orders | None:
        """What it was started with; None when it was not started here."""
        try:
            data: Mapping[str, Any] = json.loads(self.orders_file.read_text(encoding="utf-8"))
            return Orders(**{**data, "organs": tuple(data["organs"])})
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def give_orders(self, orders: Orders) -> None:
        """Keep what it is started with.

        Raises:
            ResourceError: The project's folder cannot be written.
        """
        with guarded_folder(self.project):
            write_text_atomically(self.orders_file, json.dumps(asdict(orders), indent=1) + "\n")

    def is_alive(self) -> bool:
        """Whether a process works on it now: one that holds its lock, or that is just starting."""
        orders = self.orders()
        return is_running(self.folder) or (orders is not None and _is_trainer(orders.pid))

    def state(self, ended: str) -> RunState:
        """Its state, from the kind of the last event that ended it; empty before any."""
        return run_state(self.folder, ended, running=self.is_alive())

    def ask_to_stop(self) -> None:
        """Ask the process to save what it has learned and to end.

        Raises:
            OSError: The project's folder cannot be written.
            ResourceError: Likewise, or a link leads out of it.
        """
        with guarded_folder(self.project):
            make_folders(self.folder)
            request_pause(self.folder)

    def withdraw_stop(self) -> None:
        """Forget a request to stop that came before this start, and a link in place of the log.

        Raises:
            OSError: It cannot be deleted.
            ResourceError: Likewise, or a link leads out of the project.
        """
        with guarded_folder(self.project):
            withdraw_pause(self.folder, math.inf)
            if self.log.is_symlink():
                self.log.unlink()

    def kill(self) -> None:
        """End the process with all that it started, if it was started on this computer."""
        import psutil

        orders = self.orders()
        if orders is None or not _is_trainer(orders.pid):
            return
        with suppress(psutil.Error):
            root = psutil.Process(orders.pid)
            for member in [*root.children(recursive=True), root]:
                with suppress(psutil.Error):
                    member.kill()

    def delete(self) -> None:
        """Delete all of it.

        Raises:
            OSError: A file cannot be deleted.
            ResourceError: A link leads out of the project.
        """
        with guarded_folder(self.project):
            check_inside(self.folder)
            if self.folder.is_symlink():
                self.folder.unlink()
            elif self.folder.exists():
                shutil.rmtree(self.folder)
            for file in (self.orders_file, self.log):
                file.unlink(missing_ok=True)


def list_runs(project: Path) -> list[TrainingRun]:
    """Return the trainings of a project, that which began last first."""
    folder = project / RUNS_FOLDER
    names = {path.name: path for path in visible_folders(folder)}
    started = (path.name.removesuffix(_ORDERS) for path in folder.glob(f"*{_ORDERS}"))
    names |= {name: folder / name for name in started}
    return sorted((TrainingRun(path) for path in names.values()), key=_began, reverse=True)


def new_run(project: Path, base: str, organs: Sequence[str]) -> TrainingRun:
    """Return a run of a name that is free: base and organs, and a number where that was used before."""
    stem = f"{base}-plus-{'-'.join(organs)}"
    used = {run.name for run in list_runs(project)}
    names = (stem if number == 1 else f"{stem}-{number}" for number in range(1, len(used) + 2))
    return TrainingRun(project / RUNS_FOLDER / next(name for name in names if name not in used))


def _began(run: TrainingRun) -> tuple[float, str]:
    times = [file.stat().st_mtime for file in (run.orders_file, run.folder) if file.exists()]
    return (times[0] if times else 0.0), run.name


def _is_trainer(pid: int) -> bool:
    """Whether the process of a number is a living trainer: numbers are given again to other programs."""
    try:
        import psutil
    except ModuleNotFoundError:  # nothing can have been started without it
        return False
    if pid <= 0:
        return False
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        if command := process.cmdline():
            return PACKAGE in command
        # For a moment after its start a process has no arguments yet.
        return time.time() - process.create_time() < _STARTING_SECONDS
    except psutil.Error:
        return False


def readiness(project: Project, organs: tuple[str, ...], base: str) -> str:
    """Return as HTML how many cases there are to learn each organ from."""
    if not organs:
        return _("The base model {base} knows all organs of the project: add one in step 1.").format(
            base=base
        )
    parts = []
    for key in organs:
        counts = project.matrix.counts(key)
        parts.append(
            _("<b>{organ}</b>: {annotated} annotated, {absent} absent, {unknown} unknown").format(
                organ=escape(project.catalogue.get(key).name),
                annotated=counts[LabelStatus.ANNOTATED],
                absent=counts[LabelStatus.ABSENT],
                unknown=counts[LabelStatus.UNKNOWN] + counts[LabelStatus.PSEUDO],
            )
        )
    return "<br>".join(parts)


def require_annotated(project: Project, organs: tuple[str, ...]) -> None:
    """Refuse a training without an organ, or with one that is annotated nowhere.

    Raises:
        TrainingError: It is so.
    """
    if not organs:
        raise TrainingError(
            _("There is no organ to add."), next_step=_("Add one that the base model lacks, in step 1.")
        )
    for key in organs:
        if not project.matrix.count(key, LabelStatus.ANNOTATED):
            raise TrainingError(
                _("{organ} is annotated in no case.").format(organ=project.catalogue.get(key).name),
                next_step=_(
                    "Annotate it in step 2: three cases for a first try, five to ten for a good model."
                ),
            )


def not_started_here(run: TrainingRun) -> TrainingError:
    """The error for a training whose options are not known."""
    return TrainingError(
        _("{run} was not started in Slicer.").format(run=run.name),
        cause=_("The options that it was started with are not known here."),
        next_step=_("Go on with it by the command that started it, or discard it and train anew."),
    )
