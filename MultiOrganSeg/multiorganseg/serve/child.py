"""The resident process behind the server: started when it is needed, and again when it has ended."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from typing import Any

from multiorganseg.children import module_command, module_environment
from multiorganseg.events import EventKind, parse_event
from multiorganseg.resident.requests import LONGEST_LINE, Ask, CancelRequest, format_request

ENDS = frozenset({EventKind.FINISHED.value, EventKind.FAILED.value, EventKind.CANCELLED.value})
"""Kinds of events after which nothing comes of a request."""

_SILENCE_SECONDS = 2.0
_FOREVER_SECONDS = 10**8
_GONE = {
    "event": EventKind.FAILED.value,
    "kind": "ResourceError",
    "problem": "The process that computes has ended before it was done.",
    "cause": "It may have run out of memory. Sessions of correction are gone with it.",
    "next_step": "Repeat what you did. If it happens again, crop the volume.",
}


class Child:
    """One resident process; requests are answered one after the other, in the order of `ask`.

    Args:
        folder: Where it works.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._answers: dict[str, asyncio.Queue[dict[str, Any]]] = {}
        self._process: Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()

    @property
    def waiting(self) -> int:
        """How many requests have not been answered yet."""
        return len(self._answers)

    async def ask(self, identity: str, ask: Ask) -> AsyncGenerator[dict[str, Any], None]:
        """Ask, and give the events of the answer without their id; the last one is of `ENDS`.

        An empty event is given now and then while nothing happens. One who goes away before the end cancels.
        """
        events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        async with self._turn:
            await self._ready()
            self._answers[identity] = events
            self._tell_place(identity)
            await self._write(format_request(identity, ask))
        try:
            while True:
                try:
                    event = await asyncio.wait_for(events.get(), _SILENCE_SECONDS)
                except asyncio.TimeoutError:
                    event = {}
                yield event
                if event.get("event") in ENDS:
                    return
        finally:
            if identity in self._answers:
                await self.cancel(identity)

    async def cancel(self, identity: str) -> None:
        """Stop a request; its answer ends with "cancelled"."""
        async with self._turn:
            if identity in self._answers:
                await self._write(format_request(f"{identity} ends", CancelRequest(identity)))

    async def rest(self) -> None:
        """End the process where it has nothing to do, and free its memory; the next `ask` starts another."""
        async with self._turn:
            if not self._answers:
                await self.stop()

    async def stop(self) -> None:
        """End the process at once."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
        if self._reader is not None:
            await self._reader

    async def _write(self, line: bytes) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(BrokenPipeError, ConnectionResetError):  # the reader tells all who wait
            self._process.stdin.write(line)
            await self._process.stdin.drain()

    async def _ready(self) -> None:
        if self._reader is not None and not self._reader.done():
            return
        self._process = await asyncio.create_subprocess_exec(
            *module_command("multiorganseg", ["resident", "--idle", str(_FOREVER_SECONDS)]),
            cwd=self._folder,
            env=module_environment(),
            stdin=PIPE,
            stdout=PIPE,
            limit=LONGEST_LINE,
        )
        self._reader = asyncio.create_task(self._read(self._process))

    async def _read(self, process: Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            event = parse_event(line)
            if event is None or (identity := event.pop("id", None)) is None:
                continue
            ended = event["event"] in ENDS
            if identity in self._answers:
                self._answers[identity].put_nowait(event)
            if ended:
                self._answers.pop(identity, None)
                for other in self._answers:
                    self._tell_place(other)
        await process.wait()
        for events in self._answers.values():
            events.put_nowait(dict(_GONE))
        self._answers.clear()

    def _tell_place(self, identity: str) -> None:
        before = list(self._answers).index(identity)
        if before:
            stage = f"waiting for {before} other{'s' if before > 1 else ''}"
            self._answers[identity].put_nowait(
                {"event": EventKind.PROGRESS.value, "stage": stage, "fraction": 0.0}
            )
