"""Reading requests while one is answered: the queue, cancelling, and when the process ends."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TextIO

from multiorganseg import __version__
from multiorganseg.events import EventKind, EventStream
from multiorganseg.progress import CancelToken
from multiorganseg.resident.requests import (
    LONGEST_LINE,
    PROTOCOL,
    Ask,
    CancelRequest,
    RequestError,
    parse_request,
)
from multiorganseg.scratch import discard_scratch_folders

_CHUNK = 2**16
EXIT_CODE = 143
"""When the input ended, as of a process that was asked to terminate."""


@dataclass(frozen=True, eq=False)
class _Waiting:
    identity: str
    ask: Ask | RequestError
    token: CancelToken = field(default_factory=CancelToken)


class Answering(Protocol):
    """What answers requests: `Worker`, or `RemoteWorker` by a server."""

    def answer(self, identity: str, ask: Ask, token: CancelToken | None = None) -> bool:
        """Answer a request by events."""

    def close(self) -> None:
        """Let go of what is held elsewhere."""


def answer_requests(
    worker: Answering,
    source: int,
    sink: TextIO,
    *,
    idle_seconds: float,
    at_end: Callable[[], None] | None = None,
) -> None:
    """Answer the requests of a stream until nothing was asked for a while.

    When the stream ends, the process ends at once, whatever it does: who asked is gone.

    Args:
        worker: What answers.
        source: Descriptor that gives requests.
        sink: Gets events; the first is "started" with "protocol" and "version", the last "finished" with a
            "reason"; these two have no id.
        idle_seconds: So long without a request, and this returns.
        at_end: What is done instead when the stream ends; for tests.
    """
    waiting: queue.Queue[_Waiting] = queue.Queue()

    def leave() -> None:
        worker.close()
        (at_end or _end_process)()

    reader = _Reader(source, waiting, leave)
    stream = EventStream(sink)
    stream.emit(EventKind.STARTED, protocol=PROTOCOL, version=__version__)
    threading.Thread(target=reader.run, name="requests", daemon=True).start()
    while True:
        try:
            request = waiting.get(timeout=idle_seconds)
        except queue.Empty:
            worker.close()
            stream.emit(EventKind.FINISHED, reason="idle")
            return
        if isinstance(request.ask, RequestError):
            EventStream(sink, id=request.identity).fail(request.ask)
        else:
            worker.answer(request.identity, request.ask, request.token)
        reader.forget(request.identity)


class _Reader:
    """Puts requests into the queue, and carries out those that cancel others at once."""

    def __init__(self, source: int, waiting: queue.Queue[_Waiting], at_end: Callable[[], None]) -> None:
        self._source = source
        self._waiting = waiting
        self._at_end = at_end
        self._tokens: dict[str, CancelToken] = {}

    def run(self) -> None:
        """Read until the end; without Python's buffer, whose lock would be held when the interpreter ends."""
        line, too_long = bytearray(), False
        while chunk := os.read(self._source, _CHUNK):
            *ends, rest = chunk.split(b"\n")
            for end in ends:
                line += end
                if too_long or len(line) > LONGEST_LINE:
                    cause = f"A line has at most {LONGEST_LINE} bytes."
                    self._waiting.put(_Waiting("", RequestError("The request is too long.", cause=cause)))
                elif line.strip():
                    self._take(bytes(line))
                line, too_long = bytearray(), False
            line += rest
            if len(line) > LONGEST_LINE:
                line, too_long = bytearray(), True
        self._at_end()

    def forget(self, identity: str) -> None:
        """An answer has ended."""
        self._tokens.pop(identity, None)

    def _take(self, line: bytes) -> None:
        try:
            identity, ask = parse_request(line)
            if identity in self._tokens:
                msg = "A request of this id has not ended yet."
                raise RequestError(msg, identity)
        except RequestError as error:
            self._waiting.put(_Waiting(error.identity, error))
            return
        if isinstance(ask, CancelRequest):
            if token := self._tokens.get(ask.of):
                token.cancel()
            return
        request = _Waiting(identity, ask)
        self._tokens[identity] = request.token
        self._waiting.put(request)


def _end_process() -> None:
    discard_scratch_folders()
    os._exit(EXIT_CODE)
