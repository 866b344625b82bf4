"""Asking for files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt


def ask_open(parent: Any, title: str, kinds: str) -> Path | None:
    """Ask for a file that exists; None when the user cancelled.

    Args:
        parent: Widget over which the dialog lies.
        title: Title of the dialog.
        kinds: Filter of Qt, such as "Models (*.zip)".
    """
    name = qt.QFileDialog.getOpenFileName(parent, title, "", kinds)
    return Path(name) if name else None


def ask_save(parent: Any, title: str, suggestion: str, suffix: str) -> Path | None:
    """Ask where to save; None when the user cancelled.

    Args:
        parent: Widget over which the dialog lies.
        title: Title of the dialog.
        suggestion: File name without suffix; characters that no file system takes are replaced.
        suffix: Suffix with its dot, which the answer always has.
    """
    stem = "".join("_" if letter in '<>:"/\\|?*' or ord(letter) < 32 else letter for letter in suggestion)
    name = qt.QFileDialog.getSaveFileName(parent, title, stem + suffix, f"*{suffix}")
    if not name:
        return None
    return Path(name if name.lower().endswith(suffix) else name + suffix)


def ask_folder(parent: Any, title: str) -> Path | None:
    """Ask for a folder; None when the user cancelled."""
    name = qt.QFileDialog.getExistingDirectory(parent, title, "")
    return Path(name) if name else None


def ask_open_many(parent: Any, title: str, kinds: str) -> list[Path]:
    """Ask for files that exist; none when the user cancelled."""
    return [Path(name) for name in qt.QFileDialog.getOpenFileNames(parent, title, "", kinds) or ()]
