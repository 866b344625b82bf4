"""Folders of others: what is written into them stays there, whatever links they hold and whoever moves them.

Projects, runs and bundles are passed on. A link in one of them must not lead a write to another place, and a
folder that is renamed meanwhile must not be made a second time. `guarded_folder` says so for a folder;
`check_inside`, which all writing passes through, keeps to it.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from multiorganseg.errors import ResourceError

_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_guarded: dict[Path, tuple[int, int]] = {}


@contextmanager
def guarded_folder(folder: Path) -> Iterator[None]:
    """Hold what is written below a folder inside that folder for the length of the block.

    The folder itself may be reached through links.

    Args:
        folder: Must exist.

    Raises:
        ResourceError: The folder is missing, or was renamed or deleted before the block ended.
    """
    place = _absolute(folder)
    if place in _guarded:
        yield
        return
    _guarded[place] = _identity(place)
    try:
        yield
        _require_same(place)
    finally:
        del _guarded[place]


def check_inside(path: Path) -> None:
    """Refuse to write or delete where a link leads out of a guarded folder, or that folder is gone.

    Paths outside all guarded folders pass. The last part of the path is not followed: files are replaced.

    Raises:
        ResourceError: It is refused.
    """
    path = _absolute(path)
    for folder in _guarded:
        if folder not in path.parents:
            continue
        _require_same(folder)
        if not Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(folder)):
            msg = f"{path} was not written."
            raise ResourceError(
                msg,
                cause=f"A link leads out of {folder}.",
                next_step="Put a real folder in place of the link; see whether you trust where it came from.",
            )


def make_folders(folder: Path) -> None:
    """Make a folder and those above it; a guarded folder above it is never made anew.

    Raises:
        ResourceError: As `check_inside`.
        OSError: It cannot be made.
    """
    folder = _absolute(folder)
    check_inside(folder / "any")
    missing = []
    while not folder.is_dir() and folder not in _guarded:
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir(exist_ok=True)


def require_plain_file(path: Path) -> None:
    """Refuse a link, a folder or a device in place of a file of ours; nothing at all passes.

    Raises:
        ResourceError: It is refused.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise _not_plain(path, str(error)) from error
    if not stat.S_ISREG(mode):
        raise _not_plain(path, "It is a link." if stat.S_ISLNK(mode) else "It is no file.")


def open_to_append(path: Path) -> TextIO:
    """Open a UTF-8 text file to add to it; links are not followed, and a hard link is cut off first.

    Raises:
        ResourceError: It is a link or no file, it cannot be written, or as `check_inside`.
    """
    check_inside(path)
    require_plain_file(path)
    try:
        if path.exists() and path.stat().st_nlink > 1:
            _cut_off(path)
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _NO_FOLLOW, 0o666)
    except OSError as error:
        raise _not_plain(path, str(error)) from error
    return os.fdopen(handle, "a", encoding="utf-8")


def make_empty_file(path: Path) -> None:
    """Make an empty file whose presence says something; what lies there already stays.

    Raises:
        ResourceError: It cannot be made, or as `check_inside`.
    """
    check_inside(path)
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW, 0o666))
    except FileExistsError:
        return
    except OSError as error:
        raise _not_plain(path, str(error)) from error


def _absolute(path: Path) -> Path:
    """Return the path without "..", as written: links in it are not followed."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def _cut_off(path: Path) -> None:
    from multiorganseg.atomic import atomic_path

    with atomic_path(path) as partial:
        shutil.copyfile(path, partial)


def _identity(folder: Path) -> tuple[int, int]:
    try:
        found = folder.stat()
    except OSError as error:
        msg = f"{folder} cannot be used."
        raise ResourceError(msg, cause=str(error), next_step="Check the path.") from error
    return found.st_dev, found.st_ino


def _require_same(folder: Path) -> None:
    try:
        same = _identity(folder) == _guarded[folder]
    except ResourceError:
        same = False
    if not same:
        msg = f"{folder} was renamed or deleted meanwhile."
        raise ResourceError(
            msg,
            cause="Another folder lies there now." if folder.exists() else "Nothing lies there now.",
            next_step="Find the folder under its new name, see what it holds, and repeat the command there.",
        )


def _not_plain(path: Path, cause: str) -> ResourceError:
    msg = f"Cannot write {path}."
    return ResourceError(
        msg, cause=cause, next_step="Look at what lies there, and move it away if it does not belong there."
    )
