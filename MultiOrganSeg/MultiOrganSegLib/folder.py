"""Private temporary folders that are removed even after a crash."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from pathlib import Path

_PREFIX = "multiorganseg-"
_NAME = re.compile(rf"{_PREFIX}(\d+)-.+")
_PATIENCE_SECONDS = 2.0
_CLOCK_SECONDS = 2.0
"""Disks and processes do not tell the time alike to the second."""


def make_private_folder(parent: Path) -> Path:
    """Make a folder that only this user can read, and remove those of processes that ended without doing so.

    Args:
        parent: Where it is made, in Slicer the application's temporary folder.

    Raises:
        OSError: The parent cannot be written.
    """
    parent.mkdir(parents=True, exist_ok=True)
    _remove_orphans(parent)
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent))


def remove_folder(folder: Path) -> None:
    """Remove a folder; what another process still holds open is tried again for two seconds."""
    end = time.monotonic() + _PATIENCE_SECONDS
    shutil.rmtree(folder, ignore_errors=True)
    while folder.exists() and time.monotonic() < end:
        time.sleep(0.05)
        shutil.rmtree(folder, ignore_errors=True)


def _remove_orphans(parent: Path) -> None:
    for folder in parent.iterdir():
        owner = _NAME.fullmatch(folder.name)
        if owner and not _is_in_use(folder, int(owner.group(1))):
            shutil.rmtree(folder, ignore_errors=True)


def _is_in_use(folder: Path, owner: int) -> bool:
    """Whether its owner lives; a later process that was given the same number is not the owner."""
    import psutil

    try:
        return psutil.Process(owner).create_time() <= folder.stat().st_mtime + _CLOCK_SECONDS
    except (psutil.NoSuchProcess, FileNotFoundError):
        return False
    except (psutil.Error, OSError):
        return True
