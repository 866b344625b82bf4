"""What commands report to people and, as events, to the program that started them; tables of the matrix.

With `multiorganseg-train --events COMMAND` progress, warnings and the failure are JSON lines on standard
output too, as `multiorganseg.events` describes them.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from multiorganseg.cli.console import out
from multiorganseg.cli.errors import reported_errors as shown_errors
from multiorganseg.cli.progress_bar import progress_bar
from multiorganseg.events import EventKind, EventStream, with_events
from multiorganseg.progress import Progress
from multiorganseg.projects.matrix import LabelStatus, LabelStatusMatrix
from multiorganseg.projects.project import Project

_stream: ContextVar[EventStream] = ContextVar("events")


def write_events(wanted: bool) -> bool:
    """Let this command write events where `wanted`; returns the same, as the callback of an option does."""
    if wanted:
        _stream.set(EventStream(sys.stdout))
    return wanted


def begin_events(wanted: bool) -> None:
    """Set what `write_events` says, for the whole program."""
    _stream.set(EventStream())
    write_events(wanted)


ReportEvents = Annotated[
    bool,
    typer.Option("--events", callback=write_events, help="As multiorganseg-train --events; for programs."),
]


def _events() -> EventStream:
    return _stream.get(EventStream())


@contextmanager
def reported_errors() -> Iterator[None]:
    """Show warnings and errors as those of the engine's commands, and write them as events.

    Use it as `@reported_errors()` above a command.

    Raises:
        typer.Exit: An error was shown.
    """
    with shown_errors():
        show = warnings.showwarning

        def report(message: Any, category: type[Warning], *place: Any, **options: Any) -> None:
            show(message, category, *place, **options)
            if category.__module__.startswith("multiorganseg"):
                _events().emit(EventKind.WARNING, message=str(message))

        warnings.showwarning = report
        try:
            yield
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            _events().fail(error)
            raise


@contextmanager
def reported_progress() -> Iterator[Progress]:
    """Show a progress bar, and write each step as an event."""
    with progress_bar() as bar:
        yield with_events(_events(), bar)


def warn(message: str, mark: str = "Warning") -> None:
    """Show something that the user should know, to people and as an event."""
    out.print(Text(f"{mark}: {message}", style="yellow"), soft_wrap=True)
    _events().emit(EventKind.WARNING, message=message)


def warn_of_doubled(project: Project, cases: Iterable[str]) -> None:
    """Warn of images among these cases that the project has twice."""
    from multiorganseg_training.project.add_case import doubled_images

    for case, twins in doubled_images(project, cases).items():
        warn(
            f"{case} has the very voxels of {', '.join(twins)}. Annotate only one of them: an image that is "
            "there twice counts double, and makes the comparison of old and new worthless."
        )


SYMBOLS = {
    LabelStatus.ANNOTATED: ("●", "green"),
    LabelStatus.ABSENT: ("–", "cyan"),
    LabelStatus.UNKNOWN: ("?", "dim"),
    LabelStatus.PSEUDO: ("~", "yellow"),
}
"""Character and style of each status; the characters alone tell the statuses apart."""

LEGEND = ", ".join(f"{SYMBOLS[status][0]} {status.value}" for status in LabelStatus)
"""What the characters mean."""


def counts_table(matrix: LabelStatusMatrix) -> Table:
    """Return one row an organ with the number of cases of each status."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("Organ")
    for status in LabelStatus:
        table.add_column(status.value, justify="right")
    for organ in matrix.organs:
        counts = [matrix.count(organ, status) for status in LabelStatus]
        table.add_row(organ, *(str(count) if count else "" for count in counts))
    return table


def cases_table(matrix: LabelStatusMatrix) -> Table:
    """Return one row a case with a character of `LEGEND` for the status of each organ."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("Case", overflow="fold")
    for organ in matrix.organs:
        table.add_column(organ, justify="center", overflow="fold")
    for case, row in matrix.rows.items():
        table.add_row(Text(case), *(Text(*SYMBOLS[row[organ]]) for organ in matrix.organs))
    return table
