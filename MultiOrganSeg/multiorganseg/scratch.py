"""Hidden folders for work under way. What a killed program left in one is put right by the next.

A folder is held by a lock that the operating system lets go when its program ends, however that ends; so
neither clocks nor process numbers say whose work goes on. Where a file system has no such locks, folders of
others are left alone.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if os.name == "posix":
    import fcntl

PREFIX = ".partial-"
WORK_PREFIX = ".multiorganseg-work-"
REPLACED = "replaced"
"""Folder in a scratch folder for what was moved aside; `clean_up` puts it back unless it was replaced."""

_OWNER = ".owner"
_UNHELD_SECONDS = 3600
_under_way: set[Path] = set()


@contextmanager
def scratch_folder(parent: Path, prefix: str = PREFIX) -> Iterator[Path]:
    """Return a new private folder in `parent` that is deleted when the block ends.

    What killed programs left in `parent` is put right first.

    Args:
        parent: Must exist.
        prefix: How the folder's name begins.

    Raises:
        OSError: The folder cannot be made.
    """
    clean_up(parent, prefix)
    folder, handle = _held_folder(parent, prefix)
    _under_way.add(folder)
    try:
        yield folder
    finally:
        _under_way.discard(folder)
        if os.name == "nt":
            os.close(handle)
        shutil.rmtree(folder, ignore_errors=True)
        if os.name != "nt":
            os.close(handle)


@contextmanager
def work_folder() -> Iterator[Path]:
    """Return a scratch folder among the system's temporary files.

    Raises:
        OSError: The folder cannot be made.
    """
    with scratch_folder(Path(tempfile.gettempdir()), WORK_PREFIX) as folder:
        yield folder


def clean_up(parent: Path, prefix: str = PREFIX) -> int:
    """Put back what killed programs had moved aside in a folder, and delete the rest of what they left there.

    Args:
        parent: Need not exist; folders in it are not searched.
        prefix: How the names of scratch folders begin.

    Returns:
        How many scratch folders went.
    """
    try:
        with os.scandir(parent) as entries:
            found = [Path(entry.path) for entry in entries if entry.name.startswith(prefix)]
    except OSError:
        return 0
    return sum(_remove_abandoned(folder, parent) for folder in found)


def discard_scratch_folders() -> None:
    """Delete the scratch folders that are in use, for a process that is about to end without its blocks."""
    for folder in tuple(_under_way):
        with suppress(OSError):
            _put_back(folder, folder.parent)
        shutil.rmtree(folder, ignore_errors=True)


def _held_folder(parent: Path, prefix: str) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        with suppress(FileNotFoundError):
            if os.name == "nt":
                return folder, os.open(folder / _OWNER, os.O_CREAT | os.O_RDWR)
            handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
            if _lock(handle) is not False and _is_same(folder, handle):
                return folder, handle
            os.close(handle)


def _remove_abandoned(folder: Path, parent: Path) -> bool:
    if os.name == "nt":
        return _is_abandoned_on_windows(folder) and _remove(folder, parent)
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            return _lock(handle) is True and _remove(folder, parent)
        finally:
            os.close(handle)
    return False


def _remove(folder: Path, parent: Path) -> bool:
    with suppress(OSError):
        _put_back(folder, parent)
        shutil.rmtree(folder)
        return True
    return False


def _put_back(folder: Path, parent: Path) -> None:
    aside = folder / REPLACED
    for previous in sorted(aside.iterdir()) if aside.is_dir() and not aside.is_symlink() else ():
        if not os.path.lexists(parent / previous.name):
            previous.rename(parent / previous.name)


def _lock(handle: int) -> bool | None:
    """Lock an open folder; False where another holds it, None where the file system has no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_same(folder: Path, handle: int) -> bool:
    return os.path.samestat(folder.stat(), os.fstat(handle))


def _is_abandoned_on_windows(folder: Path) -> bool:
    """Whether nobody has the folder's file open: an open one cannot be deleted there."""
    try:
        (folder / _OWNER).unlink()
    except FileNotFoundError:
        return folder.is_dir() and time.time() - folder.stat().st_mtime > _UNHELD_SECONDS
    except OSError:
        return False
    return True
