"""Names of files inside a bundle that are safe on every operating system."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath

ALLOWED_SUFFIXES = frozenset({".json", ".safetensors", ".md", ".txt", ".png"})
"""Kinds of file that a bundle may hold, beside LICENSE."""

_RESERVED = frozenset(
    {"con", "prn", "aux", "nul"} | {f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789¹²³"}
)
_LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})


def is_litter(name: str) -> bool:
    """Whether a file is what macOS and Windows leave in folders and zip files unasked."""
    parts = PurePosixPath(name).parts
    return bool(parts) and (parts[0] == "__MACOSX" or parts[-1] in _LITTER)


def name_problem(name: str) -> str | None:
    """Return what is unsafe about a relative path with "/" between its parts; None when it is safe."""
    if not name or len(name) > 200:
        return "is empty or longer than 200 characters"
    if name.startswith("/"):
        return "is an absolute path"
    if any(not character.isprintable() or character in '\\:*?"<>|' for character in name):
        return "holds a drive letter, a backslash or another character that is not allowed"
    for part in name.split("/"):
        if part in ("", ".", ".."):
            return "leaves its folder or has an empty part"
        if part[-1] in ". ":
            return "has a part that ends in a dot or a space"
        if part.split(".")[0].rstrip().casefold() in _RESERVED:
            return "is a device name of Windows"
    return None


def kind_problem(name: str) -> str | None:
    """Return whether a file is of a kind that a bundle may not hold; None when it may."""
    path = PurePosixPath(name)
    if path.name == "LICENSE" or path.suffix in ALLOWED_SUFFIXES:
        return None
    return "is of a kind that bundles do not hold (" + ", ".join(sorted(ALLOWED_SUFFIXES)) + ", LICENSE)"


def clashes(names: Iterable[str]) -> list[str]:
    """Find files that would overwrite one another, or stand where another needs a folder.

    Names that differ only in case or in Unicode composition count as equal.
    """
    folded = [unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()) for name in names]
    folders = {str(parent) for name in folded for parent in PurePosixPath(name).parents}
    return sorted({name for name in folded if folded.count(name) > 1 or name in folders})
