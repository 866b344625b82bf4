"""No output ever replaces an input: a command keeps what it reads, and what is written asks here first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from multiorganseg.errors import ResourceError

OWN_SUFFIXES = (
    ".seg.nrrd",
    ".seg.nii.gz",
    ".seg.dcm",
    ".sr.dcm",
    ".rtstruct.dcm",
    ".labels.json",
    ".statistics.csv",
    ".statistics.json",
    ".uncertainty.nii.gz",
    ".preview.png",
    ".finished.json",
    ".jsonl",
)
"""What an earlier run may have left in a folder of inputs, and a new one replaces."""

_kept: list[Path] = []


@contextmanager
def keep(inputs: Iterable[Path]) -> Iterator[None]:
    """Refuse outputs that would replace one of these, for the length of the block.

    Args:
        inputs: Files, and folders of which every file is an input that has not one of `OWN_SUFFIXES`. What is
            not there is left out.
    """
    added = [Path(path).absolute() for path in inputs if Path(path).exists()]
    _kept.extend(added)
    try:
        yield
    finally:
        del _kept[len(_kept) - len(added) :]


def require_free(target: Path) -> None:
    """Refuse a file or folder to be written that is an input or holds one.

    Raises:
        ResourceError: It is.
    """
    if not target.exists():
        return
    resolved = target.resolve()
    for path in _kept:
        place = path.resolve()
        within = place.is_dir() and resolved.is_relative_to(place) and not resolved.is_dir()
        if (
            (path.exists() and target.samefile(path) and not place.is_dir())
            or (resolved.is_dir() and place.is_relative_to(resolved))
            or (within and not target.name.lower().endswith(OWN_SUFFIXES))
        ):
            msg = f"The result would replace the input {target}."
            raise ResourceError(msg, next_step="Choose another output name or folder.")


@contextmanager
def open_stream(target: Path) -> Iterator[TextIO]:
    """Open a text file that is written line by line, in place of what was there.

    Raises:
        ResourceError: It is an input, a link to a file of another folder, or cannot be written.
    """
    require_free(target)
    resolved = target.resolve()
    elsewhere = target.is_symlink() and resolved.parent != target.parent.resolve()
    if elsewhere and (resolved.is_file() or not resolved.exists()):
        msg = f"{target} is a link to a file of another folder."
        raise ResourceError(msg, cause=f"It leads to {resolved}.", next_step="Choose another name or folder.")
    try:
        sink = target.open("w", encoding="utf-8")
    except OSError as error:
        msg = f"Cannot write {target}."
        raise ResourceError(
            msg, cause=str(error), next_step="Choose a folder with write permission and enough free space."
        ) from error
    with sink:
        yield sink
