"""Folders beside one another, such as bundles: made, listed and deleted as wholes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from multiorganseg import scratch
from multiorganseg.errors import ResourceError
from multiorganseg.guarded import check_inside, make_folders


@contextmanager
def scratch_folder(target: Path) -> Iterator[Path]:
    """Return a hidden empty folder beside `target` that is deleted when the block ends.

    Work that was killed leaves nothing but this folder, which `visible_folders` skips and the next work in
    its parent deletes.

    Raises:
        ResourceError: The folder cannot be written or the disk is full, here or in the block.
    """
    try:
        make_folders(target.parent)
        with scratch.scratch_folder(target.parent) as folder:
            yield folder
    except OSError as error:
        message = f"Cannot write {target}."
        raise ResourceError(
            message,
            cause=str(error),
            next_step="Choose a folder with write permission and enough free space.",
        ) from error


def delete_folder(folder: Path) -> None:
    """Delete a folder so that it vanishes at once; of a symbolic link only the link goes.

    Raises:
        ResourceError: The folder cannot be moved away.
    """
    check_inside(folder)
    with scratch_folder(folder) as under_way:
        if folder.is_symlink():
            folder.unlink()
        else:
            folder.rename(under_way / "removed")


def visible_folders(parent: Path) -> list[Path]:
    """List the folders in a folder by name, without hidden ones; empty when there is no such folder.

    One that a killed program had moved aside is put back first.
    """
    if not parent.is_dir():
        return []
    if os.access(parent, os.W_OK):
        scratch.clean_up(parent)
    return sorted(entry for entry in parent.iterdir() if entry.is_dir() and not entry.name.startswith("."))
