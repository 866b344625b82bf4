"""A folder for each client of the server, and what may be put into it."""

from __future__ import annotations

import secrets
import shutil
import time
import warnings
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from multiorganseg.errors import OptionError, ResourceError, VolumeError
from multiorganseg.volumes.headers import read_image_header
from multiorganseg.volumes.names import volume_suffix

MOST_ROOMS = 256
IDLE_SECONDS = 900.0
"""After which a room that nobody uses is cleared."""

UPLOADS = (".nii", ".nii.gz", ".nrrd", ".mha", ".npy")
"""What may be sent: files that hold their voxels themselves."""

_LONGEST_NAME = 200
_SELF_CONTAINED = (".nrrd", ".mha")


class NoRoomError(OptionError):
    """A room is not there, or no more."""


class TooLargeError(ResourceError):
    """More bytes were sent than are taken."""

    def __init__(self, most_bytes: int) -> None:
        super().__init__(
            f"More was sent than the server takes: {most_bytes / 2**20:.0f} MiB.",
            next_step="Crop the volume, or start the server with a higher --most-mib.",
        )


@dataclass(eq=False)
class Room:
    """What one client has here.

    Attributes:
        folder: Its files.
        asked: Requests that are being answered: the number that the server gave to each, by its id.
        used: When it was used last, as `time.monotonic`.
        sessions: Of correction that were opened.
        keeps: Whether what was sent is kept for a correction.
    """

    folder: Path
    asked: dict[str, str] = field(default_factory=dict)
    used: float = field(default_factory=time.monotonic)
    sessions: set[str] = field(default_factory=set)
    keeps: bool = False

    @property
    def name(self) -> str:
        """Its name, which only its client knows."""
        return self.folder.name

    def file(self, name: str) -> Path:
        """Return the path of a file in this room.

        Raises:
            OptionError: It is no plain name.
        """
        if not 0 < len(name) <= _LONGEST_NAME or name.startswith(".") or any(c in name for c in "/\\:\0"):
            msg = "This is no name of a file."
            raise OptionError(msg, next_step="Name the file alone, without folders.")
        return self.folder / name


class Rooms:
    """All rooms.

    Args:
        folder: Where they are; private.
        most_bytes: That one room may hold.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._rooms: dict[str, Room] = {}

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._rooms)

    def open(self) -> Room:
        """Make a room.

        Raises:
            ResourceError: There are too many.
        """
        if len(self._rooms) >= MOST_ROOMS:
            msg = "The server has too many clients."
            raise ResourceError(msg, next_step="Try again in a few minutes.")
        room = Room(self._folder / secrets.token_urlsafe(18).replace("-", "_"))
        room.folder.mkdir(mode=0o700)
        self._rooms[room.name] = room
        return room

    def find(self, name: str) -> Room:
        """Return a room, which is used now.

        Raises:
            NoRoomError: It is not there.
        """
        room = self._rooms.get(name)
        if room is None:
            msg = "The server has nothing of yours any more."
            raise NoRoomError(
                msg,
                cause="It was started anew, or you did not use it for a while.",
                next_step="Repeat what you did; the volume is sent again.",
            )
        room.used = time.monotonic()
        return room

    def close(self, room: Room) -> None:
        """Delete a room and what it holds."""
        self._rooms.pop(room.name, None)
        shutil.rmtree(room.folder, ignore_errors=True)

    def idle(self) -> list[Room]:
        """Return the rooms that nobody used for `IDLE_SECONDS`."""
        latest = time.monotonic() - IDLE_SECONDS
        return [room for room in self._rooms.values() if not room.asked and room.used < latest]

    async def take(self, room: Room, name: str, chunks: AsyncIterator[bytes]) -> None:
        """Put a file into a room.

        Raises:
            OptionError: Its name is none, or of a format that is not taken.
            TooLargeError: The room would hold too much.
            VolumeError: It names other files as its voxels, or its header is damaged.
        """
        path = room.file(name)
        suffix = volume_suffix(name).lower() or path.suffix.lower()
        if suffix not in UPLOADS:
            msg = f"Files of the kind '{suffix}' are not taken."
            raise OptionError(msg, next_step=f"Send {', '.join(UPLOADS)}.")
        left = self._most_bytes - sum(each.stat().st_size for each in room.folder.iterdir() if each != path)
        partial = room.file(f"partial{suffix}")
        try:
            with partial.open("wb") as sink:
                async for chunk in chunks:
                    left -= len(chunk)
                    if left < 0:
                        raise TooLargeError(self._most_bytes)
                    sink.write(chunk)
                    room.used = time.monotonic()
            _require_whole(partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def _require_whole(path: Path) -> None:
    """Refuse a header that names other files of this machine; its warnings come when the volume is read.

    Raises:
        VolumeError: It does, or is damaged.
    """
    if volume_suffix(path.name).lower() not in _SELF_CONTAINED:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        files = read_image_header(path)[0].stored.files
    if files != (path,):
        msg = "The file does not hold its voxels itself."
        raise VolumeError(msg, next_step="Save header and voxels in one file.")
