"""Progress of commands for people and programs, and tables of the label-status matrix."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from multiorganseg.cli.progress_bar import progress_bar
from multiorganseg.events import EventStream, told_to
from multiorganseg.progress import Progress
from multiorganseg.projects.matrix import LabelStatus, LabelStatusMatrix

TellEvents = Annotated[
    bool, typer.Option("--events", help="Write progress as JSON lines to standard output too.")
]


@contextmanager
def told_progress(events: bool) -> Iterator[Progress]:
    """Show a progress bar, and write each step as an event where `events` says so."""
    with progress_bar() as bar:
        yield told_to(EventStream(sys.stdout if events else None), bar)


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
