"""`multiorganseg serve`: networks on a machine with a graphics card, for others."""

from __future__ import annotations

import ipaddress
import os
import secrets
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from multiorganseg.cli.console import out
from multiorganseg.cli.errors import reported_errors
from multiorganseg.errors import DependencyError, OptionError
from multiorganseg.resident.requests import TOKEN
from multiorganseg.scratch import work_folder

_SHORTEST_TOKEN = 16


@reported_errors()
def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; this machine alone by default.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any.")] = 8711,
    tls_certificate: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="PEM file with the certificate, for TLS.")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="PEM file with the certificate's key.")
    ] = None,
    plain: Annotated[
        bool,
        typer.Option("--plain", help="Listen for other machines without TLS: behind a proxy that adds it."),
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    most_mib: Annotated[int, typer.Option(min=1, help="MiB that a client may send.")] = 2048,
    project: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="Project whose trainings clients may see."),
    ] = None,
) -> None:
    """Answer 3D Slicer and other programs over HTTP: segment and correct on this machine.

    Clients must know the token, a text of at least 16 characters in the variable MULTIORGANSEG_TOKEN;
    without one, a token is made for this run and shown. Requests are answered one after the other. A volume
    is deleted with its answer; where corrections may follow, when its client ends or after 15 minutes without
    a request. To try it from another machine: multiorganseg resident --server URL --check
    """
    try:
        from multiorganseg.serve.app import Service, build_app
        from multiorganseg.serve.door import listen
        from multiorganseg.serve.door import serve as answer
    except ImportError as error:
        msg = "The server needs further packages."
        raise DependencyError(
            msg, cause=str(error), next_step="Install them: pip install 'multiorganseg[serve]'"
        ) from error
    if bool(tls_certificate) != bool(tls_key):
        msg = "TLS needs a certificate and its key."
        raise OptionError(msg, next_step="Give both --tls-certificate and --tls-key.")
    if not (tls_certificate or plain or _is_loopback(host)):
        msg = f"Images would cross the network to {host} in the clear."
        raise OptionError(msg, next_step="Give --tls-certificate and --tls-key, or --plain behind a proxy.")
    token = os.environ.get(TOKEN, "")
    if token and len(token) < _SHORTEST_TOKEN:
        msg = f"The token is too short: {_SHORTEST_TOKEN} characters are needed."
        raise OptionError(msg, next_step="Make one: python -c 'import secrets; print(secrets.token_hex(16))'")
    with work_folder() as folder:
        shown = "" if token else (token := secrets.token_hex(16))
        app = build_app(Service(folder, token, device, most_mib * 2**20, project))
        with listen(host, port) as door:
            scheme = "https" if tls_certificate else "http"
            name = f"[{host}]" if ":" in host else host
            out.print(Text(f"Serving at {scheme}://{name}:{door.getsockname()[1]}"), soft_wrap=True)
            if shown:
                out.print(Text(f"Token of this run: {shown}"), soft_wrap=True)
            answer(app, door, tls_certificate, tls_key)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
