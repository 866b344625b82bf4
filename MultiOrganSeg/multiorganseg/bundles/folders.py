"""Finished folders appear at once or not at all."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from multiorganseg.errors import ResourceError
from multiorganseg.outputs import require_free

_PREFIX = ".partial-"
_STALE_SECONDS = 24 * 3600


@contextmanager
def scratch_folder(target: Path) -> Iterator[Path]:
    """Give a hidden empty folder beside `target` that is deleted when the block ends.

    Work that was killed leaves nothing but this folder, which `visible_folders` skips.

    Raises:
        ResourceError: The folder cannot be written or the disk is full, here or in the block.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=_PREFIX, dir=target.parent, ignore_cleanup_errors=True
        ) as name:
            yield Path(name)
    except OSError as error:
        message = f"Cannot write {target}."
        raise ResourceError(
            message,
            cause=str(error),
            next_step="Choose a folder with write permission and enough free space.",
        ) from error


def put_in_place(folder: Path, target: Path, scratch: Path) -> None:
    """Rename a finished folder to `target`; an older `target` steps aside into `scratch` first.

    Raises:
        OSError: A rename failed; an older `target` is then back in its place.
        ResourceError: An input lies in the older `target`.
    """
    require_free(target)
    existed = target.exists()
    if existed:
        target.rename(scratch / "replaced")
    try:
        folder.rename(target)
    except OSError:
        if existed:
            (scratch / "replaced").rename(target)
        raise


def delete_folder(folder: Path) -> None:
    """Delete a folder so that it vanishes at once; of a symbolic link only the link goes.

    Raises:
        ResourceError: The folder cannot be moved away.
    """
    with scratch_folder(folder) as scratch:
        if folder.is_symlink():
            folder.unlink()
        else:
            folder.rename(scratch / "removed")


def delete_stale(parent: Path) -> None:
    """Delete what work that was killed more than a day ago left in a folder."""
    for entry in parent.glob(f"{_PREFIX}*"):
        if time.time() - entry.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(entry, ignore_errors=True)


def visible_folders(parent: Path) -> list[Path]:
    """List the folders in a folder by name, without hidden ones; empty when there is no such folder."""
    if not parent.is_dir():
        return []
    return sorted(entry for entry in parent.iterdir() if entry.is_dir() and not entry.name.startswith("."))
