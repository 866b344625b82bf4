"""`multiorganseg resident`: a process for programs that ask many things one after the other."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from multiorganseg.cli.console import out
from multiorganseg.cli.errors import reported_errors
from multiorganseg.errors import OptionError

if TYPE_CHECKING:
    from multiorganseg.resident.remote import Server

IDLE_SECONDS = 900.0


@reported_errors()
def resident(
    idle: Annotated[
        float, typer.Option(min=1.0, help="Seconds without a request after which the process ends.")
    ] = IDLE_SECONDS,
    server: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="Let another machine compute, on which multiorganseg serve runs, such as "
            "https://gpu.example.org:8711. Its token stands in the variable MULTIORGANSEG_TOKEN.",
        ),
    ] = "",
    server_certificate: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="PEM file by which the server's certificate is checked."
        ),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only ask the server what it is, and tell.")] = False,
) -> None:
    """Answer requests on standard input by events on standard output, one JSON object a line.

    Networks stay loaded, and corrections are answered from what was kept of earlier runs. Requests are those
    of multiorganseg.resident.requests, such as {"request": "segment", "id": "1", "volume": "ct.nrrd",
    "output": "ct.seg.nrrd"}. Files are named relative to the working folder, and answers are written there.
    The process ends at once when standard input ends.
    """
    from multiorganseg.resident.loop import Answering, answer_requests

    if check and not server:
        msg = "There is no server to ask."
        raise OptionError(msg, next_step="Give --server URL.")
    remote = _remote(server, server_certificate) if server else None
    if remote is not None and check:
        said = remote.status()
        models = ", ".join(said.get("models", []))
        out.print(f"MultiOrganSeg {said.get('version')}, device {said.get('device')}, models: {models}")
        return
    if sys.stdin is None or sys.stdin.isatty():
        msg = "Requests come from another program, not from a terminal."
        raise OptionError(
            msg, next_step="For one volume at a time: multiorganseg segment, multiorganseg correct."
        )
    worker: Answering
    if remote is not None:
        from multiorganseg.resident.remote import RemoteWorker

        worker = RemoteWorker(remote, Path.cwd(), sys.stdout)
    else:
        from multiorganseg.resident.worker import Worker

        worker = Worker(Path.cwd(), sys.stdout)
    answer_requests(worker, sys.stdin.fileno(), sys.stdout, idle_seconds=idle)


def _remote(url: str, certificate: Path | None) -> Server:
    from multiorganseg.resident.remote import Server
    from multiorganseg.resident.requests import TOKEN

    server = Server(url, os.environ.get(TOKEN, ""), certificate)
    server.status()
    return server
