"""What programs that were killed left half-written."""

from __future__ import annotations

import shutil
from pathlib import Path

PREFIX = ".partial-"
"""Of the hidden folders in which `multiorganseg.atomic` writes."""


def delete_leftovers(folder: Path) -> int:
    """Delete half-written files beside finished ones; to be called where nobody else writes into the folder.

    Args:
        folder: Need not exist; folders in it are not searched.

    Returns:
        How many there were.
    """
    found = [entry for entry in folder.glob(f"{PREFIX}*") if entry.is_dir()]
    for entry in found:
        shutil.rmtree(entry, ignore_errors=True)
    return len(found)
