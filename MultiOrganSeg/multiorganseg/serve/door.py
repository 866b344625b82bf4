"""Listening for connections, with TLS where there is a certificate, until the program is ended."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from multiorganseg.errors import ResourceError

MOST_CONNECTIONS = 1000
HEADER_SECONDS = 10.0
"""Within which a request must have begun in full."""

_CLOSING_SECONDS = 5


class Protocol(H11Protocol):
    """HTTP/1.1 that leaves one who connects and sends no request, or one header a minute."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait."""
        super().connection_made(transport)
        self._idle_since: float | None = self.loop.time()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """End to wait."""
        self._watch.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        busy = self.cycle is not None and not self.cycle.response_complete
        now = self.loop.time()
        if busy:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now
        elif now - self._idle_since > HEADER_SECONDS:
            self.transport.close()
        self._watch = self.loop.call_later(HEADER_SECONDS / 5, self._look)


def listen(host: str, port: int) -> socket.socket:
    """Open the port.

    Raises:
        ResourceError: It is taken, or the address is not this machine's.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=MOST_CONNECTIONS)
    except OSError as error:
        msg = f"Cannot listen on {host}, port {port}."
        raise ResourceError(msg, cause=str(error), next_step="Choose another --port or --host.") from error


def serve(app: ASGIApp, door: socket.socket, certificate: Path | None, key: Path | None) -> None:
    """Answer until SIGINT or SIGTERM.

    Args:
        app: What answers.
        door: See `listen`.
        certificate: PEM file for TLS; None for plain HTTP.
        key: PEM file of its key.

    Raises:
        ResourceError: Certificate and key cannot be used.
    """
    tls: dict[str, Any] = {"ssl_certfile": certificate, "ssl_keyfile": key} if certificate else {}
    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=_CLOSING_SECONDS,
        **tls,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        msg = "The certificate or its key cannot be used."
        raise ResourceError(
            msg, cause=str(error), next_step="Give PEM files: --tls-certificate and --tls-key."
        ) from error
    uvicorn.Server(config).run(sockets=[door])
