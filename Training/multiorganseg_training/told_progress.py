"""Progress of a command for people and, where asked, as events for the program that started it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from multiorganseg.cli.progress_bar import progress_bar
from multiorganseg.events import EventStream, told_to
from multiorganseg.progress import Progress

TellEvents = Annotated[
    bool, typer.Option("--events", help="Write progress as JSON lines to standard output too.")
]


@contextmanager
def told_progress(events: bool) -> Iterator[Progress]:
    """Show a progress bar, and write each step as an event where `events` says so."""
    with progress_bar() as bar:
        yield told_to(EventStream(sys.stdout if events else None), bar)
