"""Requests of a resident process, answered by a server: files are sent, and what it writes is fetched."""

from __future__ import annotations

import http.client
import json
import shutil
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote, urlsplit

from multiorganseg.errors import Cancelled, MultiOrganSegError, OptionError, ResourceError, VolumeError
from multiorganseg.events import ENDS, EventKind, EventStream, failure, parse_event
from multiorganseg.privacy import folders_of
from multiorganseg.progress import CancelToken
from multiorganseg.resident.requests import (
    PROTOCOL,
    Ask,
    CancelRequest,
    OpenRequest,
    SegmentRequest,
    format_request,
)
from multiorganseg.results.write import FOLDER_SUFFIXES
from multiorganseg.scratch import work_folder
from multiorganseg.volumes import read_volume, write_volume
from multiorganseg.volumes.names import case_name, volume_suffix

SENT_AS_THEY_ARE = (".nii", ".nii.gz", ".nrrd", ".mha", ".npy")
"""Files that hold their voxels themselves; all other volumes are sent as .nrrd."""

_LONGEST_LINE = 16 * 2**20
_LONGEST_ERROR = 2**16


@dataclass(frozen=True)
class Server:
    """Where the server is.

    Attributes:
        url: Such as https://gpu.example.org:8711.
        token: That it knows.
        certificate: PEM file by which its certificate is checked; None for those that the system trusts.
        patience_seconds: Without a byte, after which it does not answer.

    Raises:
        OptionError: The URL is none.
    """

    url: str
    token: str
    certificate: Path | None = None
    patience_seconds: float = 30.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
            msg = f"'{self.url}' is no address of a server."
            raise OptionError(msg, next_step="Give such as https://gpu.example.org:8711")

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection, not opened yet."""
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        if parts.scheme == "http":
            return http.client.HTTPConnection(parts.hostname, parts.port, timeout=self.patience_seconds)
        context = ssl.create_default_context(cafile=self.certificate)
        return http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=self.patience_seconds, context=context
        )

    @contextmanager
    def asked(
        self, method: str, path: str, body: Any = None, length: int | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """Ask the server, and give its answer, which is well.

        Args:
            method: Of HTTP.
            path: Below /v1.
            body: Bytes, or an open binary file.
            length: Bytes of the body, when it is a file.

        Raises:
            MultiOrganSegError: What the server says is wrong.
            ResourceError: It does not answer, or its certificate is not trusted.
        """
        connection = self.connect()
        try:
            headers = {"Authorization": f"Bearer {self.token}"}
            if length is not None:
                headers["Content-Length"] = str(length)
            with suppress(BrokenPipeError, ConnectionResetError):  # it may have said why
                connection.request(method, f"/v1{path}", body, headers)
            answer = connection.getresponse()
            if answer.status >= 400:
                raise _refusal(answer)
            yield answer
        except ssl.SSLCertVerificationError as error:
            msg = f"The certificate of {self.url} is not trusted."
            raise ResourceError(
                msg,
                cause=error.verify_message,
                next_step="Ask for the server's certificate, and name it: --server-certificate FILE, or "
                "SSL_CERT_FILE in the environment. The URL must name the host as it does.",
            ) from error
        except (OSError, http.client.HTTPException) as error:
            msg = f"The server {self.url} does not answer."
            raise ResourceError(
                msg,
                cause=str(error) or type(error).__name__,
                next_step="It may be starting anew: try again in a minute, or compute on this machine.",
            ) from error
        finally:
            connection.close()

    def status(self) -> dict[str, Any]:
        """Return what the server says of itself.

        Raises:
            ResourceError: It does not answer, or is another version's.
            OptionError: It does not know the token.
        """
        with self.asked("GET", "/status") as answer:
            said = _object(answer.read(_LONGEST_ERROR))
        if said.get("protocol") != PROTOCOL:
            msg = f"The server {self.url} is of another version."
            raise ResourceError(
                msg,
                cause=f"It speaks {said.get('protocol')}, not {PROTOCOL}.",
                next_step="Install the same MultiOrganSeg there and here.",
            )
        return said


class RemoteWorker:
    """Answers requests as a `Worker` does, by a server.

    Args:
        server: Where it is.
        folder: Relative names of files start here, and answers are written here.
        sink: Gets the events.
    """

    def __init__(self, server: Server, folder: Path, sink: TextIO) -> None:
        self._server = server
        self._folder = folder.absolute()
        self._sink = sink
        self._room = ""
        self._sent: dict[Path, tuple[int, int]] = {}
        self._keeps = False

    def answer(self, identity: str, ask: Ask, token: CancelToken | None = None) -> bool:
        """Answer a request by events; see `Worker.answer`."""
        token = token or CancelToken()
        stream = EventStream(self._sink, folders_of(self._folder / "x"), id=identity)
        try:
            try:
                end = self._answer(identity, ask, stream, token)
            except _GoneError as error:
                self._room, self._sent, self._keeps = "", {}, False
                if not isinstance(ask, SegmentRequest | OpenRequest):
                    raise failure(vars(error)) from error
                end = self._answer(identity, ask, stream, token)
        except Cancelled:
            stream.emit(EventKind.CANCELLED)
            return False
        except Exception as error:
            stream.fail(error)
            return False
        finally:  # as the server does: it keeps a volume only for corrections
            self._keeps = self._keeps or isinstance(ask, OpenRequest) or getattr(ask, "keep_maps", False)
            if not self._keeps:
                self._sent = {}
        stream.emit(EventKind.FINISHED, **end)
        return True

    def close(self) -> None:
        """Let the server delete what it holds."""
        if self._room:
            with suppress(MultiOrganSegError), self._server.asked("DELETE", f"/rooms/{self._room}"):
                self._room = ""

    def _answer(self, identity: str, ask: Ask, stream: EventStream, token: CancelToken) -> dict[str, Any]:
        if not self._room:
            with self._server.asked("POST", "/rooms") as answer:
                self._room = str(_object(answer.read(_LONGEST_ERROR))["room"])
        changes: dict[str, Any] = {}
        for field in ("volume", "labels"):
            if name := getattr(ask, field, ""):
                changes[field] = self._send(self._folder / name, field == "volume", stream, token)
        place = self._folder / getattr(ask, "output", "")
        if getattr(ask, "output", ""):
            place, changes["output"] = _output(place, ask)
        end: dict[str, Any] | None = None
        line = format_request(identity, replace(ask, **changes))
        with self._server.asked("POST", f"/rooms/{self._room}/requests", line) as answer:
            asked = False
            while line := answer.readline(_LONGEST_LINE):
                if token.cancelled and not asked:
                    asked = True
                    cancel = format_request(f"{identity} ends", CancelRequest(identity))
                    with self._server.asked("POST", f"/rooms/{self._room}/requests", cancel):
                        pass
                event = parse_event(line)
                if event is None:
                    continue
                kind, content = event.pop("event"), _content(event)
                if kind == EventKind.CANCELLED:
                    raise Cancelled
                if kind == EventKind.FAILED:
                    raise failure(content)
                if kind == EventKind.FINISHED:
                    end = content
                elif kind not in ENDS:
                    stream.emit(EventKind(kind), **content)
        if end is None:
            msg = "The server has ended before it was done."
            raise ResourceError(msg, next_step="It may be starting anew: try again in a minute.")
        for name in end.get("files", []):
            self._fetch(name, place)
        if end.get("file"):
            self._fetch(end["file"], self._folder)
        return end

    def _send(self, path: Path, lasting: bool, stream: EventStream, token: CancelToken) -> str:
        """Send a file unless it is `lasting` and the room has it; returns its name there."""
        suffix = volume_suffix(path.name).lower() or path.suffix.lower()
        name = path.name if suffix in SENT_AS_THEY_ARE else f"{case_name(path.name)}.nrrd"
        state = _state(path)
        if self._sent.get(path) == state:
            return name
        with work_folder() as folder:
            whole = path
            if name != path.name:
                whole = folder / name
                write_volume(read_volume(path), whole)
            with whole.open("rb") as source:
                size = whole.stat().st_size
                reader = _Told(source, size, stream, token)
                where = f"/rooms/{self._room}/files/{quote(name)}"
                with self._server.asked("PUT", where, reader, size):
                    pass
        if lasting and state is not None:
            self._sent[path] = state
        return name

    def _fetch(self, name: str, folder: Path) -> None:
        from multiorganseg.atomic import atomic_path

        if Path(name).name != name:
            msg = "The server names a file in another folder."
            raise ResourceError(msg, next_step="Check the address of the server.")
        with (
            self._server.asked("GET", f"/rooms/{self._room}/files/{quote(name)}") as answer,
            atomic_path(folder / name) as partial,
            partial.open("wb") as sink,
        ):
            shutil.copyfileobj(answer, sink)


class _Told:
    """A file whose reading is reported as progress."""

    def __init__(self, source: Any, size: int, stream: EventStream, token: CancelToken) -> None:
        self._source, self._size, self._stream, self._token = source, size, stream, token
        self._done, self._last = 0, 0.0

    def read(self, size: int = -1) -> bytes:
        if self._token.cancelled:
            raise Cancelled
        chunk: bytes = self._source.read(size)
        self._done += len(chunk)
        if time.monotonic() - self._last > 0.5:
            self._last = time.monotonic()
            fraction = round(self._done / max(self._size, 1), 4)
            self._stream.emit(EventKind.PROGRESS, stage="sending", fraction=fraction)
        return chunk


class _GoneError(MultiOrganSegError):
    """The server has no such room any more."""


def _refusal(answer: http.client.HTTPResponse) -> MultiOrganSegError:
    said = _object(answer.read(_LONGEST_ERROR))
    if said.get("kind") == "NoRoomError":
        texts = [str(said.get(key, "")) for key in ("problem", "cause", "next_step")]
        return _GoneError(texts[0], cause=texts[1], next_step=texts[2])
    if "problem" in said:
        return failure(said)
    msg = "What answers there is no server of MultiOrganSeg."
    return ResourceError(msg, cause=f"It says {answer.status}.", next_step="Check the address.")


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _content(event: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key not in ("id", "time")}


def _output(place: Path, ask: Ask) -> tuple[Path, str]:
    """Return the local folder of results, and the file to be named to the server."""
    if volume_suffix(place.name):
        return place.parent, place.name
    formats = getattr(ask, "formats", ()) or ("seg.nrrd",)
    stem = case_name(Path(getattr(ask, "volume", "") or "segmentation").name)
    return place, stem + FOLDER_SUFFIXES[formats[0]]


def _state(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError as error:
        msg = f"{path.name} cannot be read."
        raise VolumeError(msg, cause=str(error), next_step="Check that it is there.") from error
    return (found.st_mtime_ns, found.st_size) if path.is_file() else None
