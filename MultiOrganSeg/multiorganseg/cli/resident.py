"""`multiorganseg resident`: a process for programs that ask many things one after the other."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from multiorganseg.cli.errors import reported_errors
from multiorganseg.errors import OptionError

IDLE_SECONDS = 900.0


@reported_errors()
def resident(
    idle: Annotated[
        float, typer.Option(min=1.0, help="Seconds without a request after which the process ends.")
    ] = IDLE_SECONDS,
) -> None:
    """Answer requests on standard input by events on standard output, one JSON object a line.

    Networks stay loaded, and corrections are answered from what was kept of earlier runs. Requests are those
    of multiorganseg.resident.requests, such as {"request": "segment", "id": "1", "volume": "ct.nrrd",
    "output": "ct.seg.nrrd"}. Files are named relative to the working folder, and answers are written there.
    The process ends at once when standard input ends.
    """
    from multiorganseg.resident.loop import answer_requests

    if sys.stdin is None or sys.stdin.isatty():
        msg = "Requests come from another program, not from a terminal."
        raise OptionError(
            msg, next_step="For one volume at a time: multiorganseg segment, multiorganseg correct."
        )
    answer_requests(Path.cwd(), sys.stdin.fileno(), sys.stdout, idle_seconds=idle)
