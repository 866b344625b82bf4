"""What outputs may say about their input, and who may read them; docs/privacy.md has the table."""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROVENANCE_INPUT = "input"
"""Field of a provenance that holds the base name of the input."""

_FREE_TEXTS = "messages"
_OTHERS_READ_WRITE = 0o066
_READ_TO_SEARCH = 2


def without_input(provenance: Mapping[str, Any], *, messages: bool = True) -> dict[str, Any]:
    """Copy a provenance without the name of its input.

    Args:
        provenance: See `Segmentation.provenance`.
        messages: Whether the warnings stay, which may name the input.
    """
    left_out = {PROVENANCE_INPUT} if messages else {PROVENANCE_INPUT, _FREE_TEXTS}
    return {key: value for key, value in provenance.items() if key not in left_out}


def folders_of(*paths: Path) -> tuple[Path, ...]:
    """List the folders by which a text may name these paths: themselves and their parents."""
    spelled = [spelling for path in paths for spelling in (path, path.absolute(), path.resolve())]
    return tuple(dict.fromkeys(folder for path in spelled for folder in (path, path.parent)))


def without_folders(value: Any, folders: Iterable[Path]) -> Any:
    """Shorten paths in a text, or in all texts of a JSON value, to what follows these folders.

    The user's home folder, whose name is that of a person, becomes "~" in any case.
    """
    short = {str(folder) + os.sep: "" for folder in folders if folder.name not in ("", "..")}
    short[str(Path.home())] = "~"
    in_order = sorted(short, key=len, reverse=True)
    anywhere = "|".join(re.escape(name) + (r"\b" if short[name] else "") for name in in_order)
    names = re.compile(rf"(?<![\w/\\.-])(?:{anywhere})")
    return _shortened(value, names, short)


@contextmanager
def no_more_readable_than(*sources: Path) -> Iterator[None]:
    """Let files and folders that are made in this block be no more open than what they are derived from.

    It is the umask of the process that is narrowed, so that it holds for files that other libraries write.
    A file that is replaced there keeps what its writer keeps of it.

    Args:
        sources: Files, or folders, of which all files count; what does not exist is left aside.
    """
    granted = _OTHERS_READ_WRITE
    for source in sources:
        granted &= _granted(source)
    granted |= (granted & 0o044) >> _READ_TO_SEARCH
    with private(granted):
        yield


@contextmanager
def private(granted: int = 0) -> Iterator[None]:
    """Let files and folders that are made in this block be open to others for no more than is granted."""
    previous = os.umask(0o077)
    os.umask(previous | (0o077 & ~granted))
    try:
        yield
    finally:
        os.umask(previous)


_QUOTING = ("pydicom", "highdicom")


def silence_dicom_libraries() -> None:
    """Let pydicom and highdicom log and warn of nothing: their texts quote values of headers."""
    for name in _QUOTING:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", module=rf"({'|'.join(_QUOTING)})(\.|$)")


@contextmanager
def silent_dicom_libraries() -> Iterator[None]:
    """Do what `silence_dicom_libraries` does for the length of a block, in a process that is not ours."""
    levels = {name: logging.getLogger(name).level for name in _QUOTING}
    with warnings.catch_warnings():
        silence_dicom_libraries()
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


def _shortened(value: Any, names: re.Pattern[str], short: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return names.sub(lambda found: short[found.group()], value)
    if isinstance(value, Mapping):
        return {key: _shortened(inner, names, short) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shortened(inner, names, short) for inner in value]
    return value


def _granted(source: Path) -> int:
    if not source.is_dir():
        return source.stat().st_mode if source.exists() else _OTHERS_READ_WRITE
    granted = source.stat().st_mode
    for path in source.rglob("*"):
        if path.is_file():
            granted &= path.stat().st_mode
    return granted
