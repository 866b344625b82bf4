"""Finished files and folders appear at once or not at all, and stay when the power fails."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from multiorganseg.errors import ResourceError
from multiorganseg.guarded import check_inside, make_folders
from multiorganseg.outputs import require_free
from multiorganseg.scratch import REPLACED, scratch_folder

_AT_FDCWD = -100
_EXCHANGE_ON_LINUX, _SWAP_ON_MAC = 2, 2
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EPERM)


@contextmanager
def atomic_path(target: Path, *, private: bool = False) -> Iterator[Path]:
    """Return a temporary path beside `target` and move it there when the block ends without an error.

    The temporary name keeps all suffixes of the target, since writers choose the format by them. Its content
    is on the disk before it is moved. A link at `target` is replaced, not followed; a file keeps the
    permissions of the one that it replaces.

    Args:
        target: Where the file shall lie.
        private: Whether only its owner may read it.

    Raises:
        ResourceError: The folder cannot be written, the disk is full, or the target is an input; or as
            `check_inside`.
    """
    target = Path(target)
    require_free(target)
    try:
        make_folders(target.parent)
        with scratch_folder(target.parent) as folder:
            partial = folder / target.name
            yield partial
            _set_permissions(partial, target, private)
            sync(partial)
            check_inside(target)
            partial.replace(target)
            sync(target.parent)
    except OSError as error:
        raise _not_writable(target, error) from error


def write_text_atomically(target: Path, text: str) -> None:
    """Write UTF-8 text through `atomic_path`; bytes of file names that are no character as JSON escapes."""
    with atomic_path(target) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def put_in_place(folder: Path, target: Path, scratch: Path) -> None:
    """Move a finished folder to `target`, exchanging it for an older one.

    Where the operating system cannot exchange two folders, the older one steps aside into `scratch` first;
    of a program that is killed in between, `multiorganseg.scratch.clean_up` puts it back.

    Args:
        folder: Lies in `scratch`; all of it is on the disk before it is moved.
        target: Where it shall lie.
        scratch: A scratch folder beside `target`.

    Raises:
        ResourceError: As `check_inside`, or an input lies in the older `target`.
        OSError: A rename failed; an older `target` is then back in its place.
    """
    require_free(target)
    for parent, _, files in os.walk(folder, topdown=False):
        for path in (*(Path(parent, name) for name in files), Path(parent)):
            if not path.is_symlink():
                sync(path)
    check_inside(target)
    if not os.path.lexists(target):
        folder.rename(target)
    elif not _exchange(folder, target):
        _replace_in_two_steps(folder, target, scratch)
    sync(target.parent)


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, onto the disk, where the file system can.

    Raises:
        OSError: The disk failed or is full.
    """
    is_folder = path.is_dir()
    if is_folder and os.name == "nt":
        return
    handle = os.open(path, (os.O_RDWR if os.name == "nt" else os.O_RDONLY) | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(handle)


def _set_permissions(partial: Path, target: Path, private: bool) -> None:
    mode = None
    with suppress(FileNotFoundError):
        previous = target.lstat().st_mode
        mode = stat.S_IMODE(previous) if stat.S_ISREG(previous) else None
    if private:
        mode = 0o600
    if mode is not None:
        partial.chmod(mode)


def _replace_in_two_steps(folder: Path, target: Path, scratch: Path) -> None:
    aside = scratch / REPLACED
    aside.mkdir()
    target.rename(aside / target.name)
    try:
        folder.rename(target)
    except OSError:
        (aside / target.name).rename(target)
        raise
    aside.rename(scratch / "removed")


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names at once; False where the operating or file system cannot."""
    call = _exchange_call()
    return call is not None and call(os.fsencode(one), os.fsencode(other)) == 0


@functools.cache
def _exchange_call() -> Callable[[bytes, bytes], int] | None:
    try:
        library = ctypes.CDLL(None)
        if sys.platform == "linux":
            rename = library.renameat2
            return lambda one, other: int(rename(_AT_FDCWD, one, _AT_FDCWD, other, _EXCHANGE_ON_LINUX))
        if sys.platform == "darwin":
            swap = library.renamex_np
            return lambda one, other: int(swap(one, other, _SWAP_ON_MAC))
    except (AttributeError, OSError, TypeError):
        pass
    return None


def _not_writable(target: Path, error: OSError) -> ResourceError:
    return ResourceError(
        f"Cannot write {target}.",
        cause=str(error),
        next_step="Choose a folder with write permission and enough free space.",
    )
