"""What can be asked of the server, and how: the requests of a resident process, with files beside them.

| | |
|---|---|
| `GET /v1/status` | version, protocol, device, models, how many requests wait |
| `POST /v1/rooms` | a room for files, requests and sessions of one client: {"room": NAME} |
| `PUT /v1/rooms/ROOM/files/NAME` | send a volume or labels |
| `POST /v1/rooms/ROOM/requests` | one of `multiorganseg.resident.requests`; answered by events, a line each |
| `GET /v1/rooms/ROOM/files/NAME` | fetch a result, which is then deleted |
| `DELETE /v1/rooms/ROOM` | delete all that is there |
| `GET /v1/training` | how the runs of a project stand |

Every request brings `Authorization: Bearer TOKEN`. An error has "kind", "problem", "cause" and "next_step".
"""

from __future__ import annotations

import asyncio
import hmac
import itertools
import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from starlette.background import BackgroundTask
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from multiorganseg import __version__
from multiorganseg.bundles import Bundle, list_bundles
from multiorganseg.errors import MultiOrganSegError, OptionError, ResourceError, VolumeError
from multiorganseg.events import EventKind
from multiorganseg.projects.runs import run_states
from multiorganseg.resident.requests import (
    LONGEST_LINE,
    NO_MODEL,
    PROTOCOL,
    Ask,
    CancelRequest,
    ForgetRequest,
    OpenRequest,
    RequestError,
    parse_request,
)
from multiorganseg.serve.child import ENDS, Child
from multiorganseg.serve.rooms import NoRoomError, Room, Rooms, TooLargeError
from multiorganseg.unforeseen import as_typed

MOST_WAITING = 128
STALL_SECONDS = 20.0
"""Without a byte, after which one who sends or fetches is sent away."""

LEAST_BYTES_PER_SECOND = 32 * 1024
GRACE_SECONDS = 20.0
_SWEEP_SECONDS = 30.0


@dataclass(frozen=True)
class Service:
    """What the server offers.

    Attributes:
        folder: Private, for its files.
        token: What every request must bring.
        device: Where networks run: "auto", "cpu", "cuda" or "mps".
        most_bytes: That one client may send.
        project: Folder of a project whose trainings are shown; None for none.
    """

    folder: Path
    token: str
    device: str = "auto"
    most_bytes: int = 2 * 2**30
    project: Path | None = None


def build_app(service: Service) -> ASGIApp:
    """Return the server's application."""
    desk = _Desk(service)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(desk.sweep())
        yield
        sweeping.cancel()
        await desk.child.stop()

    app = FastAPI(lifespan=life, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_api_route("/v1/status", desk.status, methods=["GET"])
    app.add_api_route("/v1/training", desk.training, methods=["GET"])
    app.add_api_route("/v1/rooms", desk.open_room, methods=["POST"])
    app.add_api_route("/v1/rooms/{room}", desk.close_room, methods=["DELETE"])
    app.add_api_route("/v1/rooms/{room}/files/{name}", desk.take_file, methods=["PUT"])
    app.add_api_route("/v1/rooms/{room}/files/{name}", desk.give_file, methods=["GET"])
    app.add_api_route("/v1/rooms/{room}/requests", desk.answer, methods=["POST"])
    for kind in (MultiOrganSegError, Exception):
        app.add_exception_handler(kind, _told)
    return _Guard(app, service.token)


class _Guard:
    """Lets in who has the token, before a byte of the body is read, and leaves who does not take answers."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._wanted = b"Bearer " + token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        given = dict(scope["headers"]).get(b"authorization", b"")
        if not hmac.compare_digest(given, self._wanted):
            msg = "The server does not know this token."
            step = "Set MULTIORGANSEG_TOKEN to the token of the server."
            return await _error(OptionError(msg, next_step=step), 401)(scope, receive, send)

        async def patient(message: Message) -> None:
            await asyncio.wait_for(send(message), STALL_SECONDS)

        try:
            await self._app(scope, receive, patient)
        except asyncio.TimeoutError:
            return  # one who does not take the answer


class _Desk:
    """Where requests come in."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._rooms = Rooms(service.folder, service.most_bytes)
        self._models = _models()
        self.child = Child(service.folder)
        self._numbers = itertools.count(1)
        self._errands: set[asyncio.Task[None]] = set()

    async def status(self) -> dict[str, Any]:
        self._models = await asyncio.to_thread(_models)
        return {
            "version": __version__,
            "protocol": PROTOCOL,
            "device": self._service.device,
            "models": self._models,
            "waiting": self.child.waiting,
        }

    async def training(self) -> dict[str, Any]:
        if self._service.project is None:
            msg = "The server tells of no project."
            raise OptionError(msg, next_step="Start it with --project FOLDER.")
        runs = await asyncio.to_thread(run_states, self._service.project)
        return {"runs": [{k: v for k, v in run.items() if k not in ("folder", "events")} for run in runs]}

    async def open_room(self) -> dict[str, str]:
        return {"room": self._rooms.open().name}

    async def close_room(self, room: str) -> dict[str, str]:
        self._clear(self._rooms.find(room))
        return {}

    async def take_file(self, room: str, name: str, request: Request) -> dict[str, str]:
        place = self._rooms.find(room)
        await self._rooms.take(place, name, _paced(request, self._service.most_bytes))
        return {}

    async def give_file(self, room: str, name: str) -> Response:
        path = self._rooms.find(room).file(name)
        if not path.is_file():
            msg = f"There is no file {name}."
            raise NoRoomError(msg, next_step="Repeat the request that makes it.")
        fetched = BackgroundTask(path.unlink, missing_ok=True)
        return FileResponse(path, media_type="application/octet-stream", background=fetched)

    async def answer(self, room: str, request: Request) -> Response:
        place = self._rooms.find(room)
        body = b"".join([chunk async for chunk in _paced(request, LONGEST_LINE)])
        identity, ask = parse_request(body)
        if isinstance(ask, CancelRequest):
            if number := place.asked.get(ask.of):
                await self.child.cancel(number)
            return JSONResponse({})
        if identity in place.asked:
            msg = "A request of this id has not ended yet."
            raise RequestError(msg, identity)
        if self.child.waiting >= MOST_WAITING:
            msg = f"{MOST_WAITING} requests wait already."
            raise ResourceError(msg, next_step="Try again in a few minutes.")
        inside = self._inside(place, ask)
        place.asked[identity] = str(next(self._numbers))
        return StreamingResponse(
            self._events(place, identity, inside, request), media_type="application/jsonl"
        )

    async def sweep(self) -> None:
        """Clear what nobody uses any more."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            for room in self._rooms.idle():
                self._clear(room)
            if not self._rooms.count:
                await self.child.rest()

    def _inside(self, room: Room, ask: Ask) -> Ask:
        """Return what is asked with all names of files and sessions those of a room.

        Raises:
            OptionError: A name leads elsewhere, or what is asked for is not offered.
        """
        if isinstance(ask, ForgetRequest):
            msg = "The server forgets by itself."
            raise OptionError(msg, next_step="Close the session, or delete the room.")
        changes: dict[str, Any] = {}
        for field in ("volume", "labels", "output"):
            if name := getattr(ask, field, ""):
                changes[field] = f"{room.name}/{room.file(name).name}"
        if session := getattr(ask, "session", ""):
            changes["session"] = f"{room.name}.{session}"
        if hasattr(ask, "device"):
            changes["device"] = self._service.device
        if (model := getattr(ask, "model", NO_MODEL)) not in (NO_MODEL, *self._models):
            msg = f"The server has no model '{model}'."
            raise OptionError(msg, next_step=f"Choose among: {', '.join(self._models)}.")
        if "dcm" in getattr(ask, "formats", ()) or str(getattr(ask, "output", "")).lower().endswith(".dcm"):
            msg = "The server writes no DICOM."
            raise OptionError(msg, next_step="Ask for .seg.nrrd, and convert it where the DICOM series is.")
        return replace(ask, **changes)

    async def _events(self, room: Room, identity: str, ask: Ask, request: Request) -> AsyncIterator[bytes]:
        try:
            async with aclosing(self.child.ask(room.asked[identity], ask)) as events:
                async for event in events:
                    if await request.is_disconnected():
                        return
                    if event.get("event") == EventKind.FINISHED and event.get("file"):
                        (self._service.folder / event["file"]).replace(room.folder / event["file"])
                    if event.get("event") in ENDS:
                        self._tidy(room, ask)
                        room.asked.pop(identity, None)
                    yield json.dumps({**event, "id": identity}).encode() + b"\n" if event else b"\n"
        finally:
            room.asked.pop(identity, None)
            room.used = time.monotonic()

    def _tidy(self, room: Room, ask: Ask) -> None:
        """Keep what was sent only as long as a correction may need it."""
        if isinstance(ask, OpenRequest):
            room.sessions.add(ask.session)
        room.keeps = room.keeps or bool(room.sessions) or getattr(ask, "keep_maps", False)
        volume, labels = str(getattr(ask, "volume", "")), str(getattr(ask, "labels", ""))
        if labels:
            (self._service.folder / labels).unlink(missing_ok=True)
        if volume and not room.keeps:
            (self._service.folder / volume).unlink(missing_ok=True)
            self._forget(ForgetRequest())

    def _clear(self, room: Room) -> None:
        self._rooms.close(room)
        if room.keeps:
            self._forget(ForgetRequest(tuple(room.sessions), maps=True))

    def _forget(self, ask: ForgetRequest) -> None:
        async def say() -> None:
            async for _ in self.child.ask(str(next(self._numbers)), ask):
                pass

        task = asyncio.create_task(say())
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)


def _models() -> list[str]:
    return [each.folder.name for each in list_bundles() if isinstance(each, Bundle)]


def _paced(request: Request, most_bytes: int) -> AsyncIterator[bytes]:
    """Give the body of a request.

    Raises:
        TooSlowError: It comes too slowly.
        TooLargeError: It is larger than `most_bytes`.
    """

    async def chunks() -> AsyncIterator[bytes]:
        stream, started, taken = request.stream().__aiter__(), time.monotonic(), 0
        while True:
            try:
                chunk = await asyncio.wait_for(stream.__anext__(), STALL_SECONDS)
            except StopAsyncIteration:
                return
            except asyncio.TimeoutError as error:
                raise TooSlowError from error
            taken += len(chunk)
            if taken > most_bytes:
                raise TooLargeError(most_bytes)
            if taken < (time.monotonic() - started - GRACE_SECONDS) * LEAST_BYTES_PER_SECOND:
                raise TooSlowError
            yield chunk

    return chunks()


class TooSlowError(ResourceError):
    """Bytes come too slowly."""

    def __init__(self) -> None:
        super().__init__(
            "The connection is too slow.",
            cause=f"At least {LEAST_BYTES_PER_SECOND // 1024} kB must come in a second.",
            next_step="Crop the volume, or compute on this machine.",
        )


_STATUS = {
    NoRoomError: 404,
    TooSlowError: 408,
    TooLargeError: 413,
    OptionError: 400,
    VolumeError: 422,
    ResourceError: 503,
}


def _told(_request: Request, error: Exception) -> Response:
    refused = as_typed(error)
    return _error(refused, next((code for kind, code in _STATUS.items() if isinstance(refused, kind)), 500))


def _error(error: MultiOrganSegError, status: int) -> Response:
    """Return an error; the connection is closed, since the body may not have been read."""
    said = {"kind": type(error).__name__, "problem": error.problem}
    said |= {"cause": error.cause, "next_step": error.next_step}
    return JSONResponse(said, status, {"connection": "close"})
