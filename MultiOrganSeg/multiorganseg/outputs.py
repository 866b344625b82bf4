"""No output ever replaces an input: a command keeps what it reads, and what is written asks here first."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from multiorganseg.errors import ResourceError

_EXPLICIT_MARK = b"\x08\x00\x70\x00LO\x0e\x00MultiOrganSeg "
_IMPLICIT_MARK = b"\x08\x00\x70\x00\x0e\x00\x00\x00MultiOrganSeg "
_JSON_MARK = b'"provenance": {'
OWN_MARKS = {
    ".seg.nrrd": b"\nMultiOrganSeg_Provenance:=",
    ".seg.nii.gz": b"MultiOrganSeg",
    ".seg.dcm": _EXPLICIT_MARK,
    ".sr.dcm": _EXPLICIT_MARK,
    ".rtstruct.dcm": _IMPLICIT_MARK,
    ".labels.json": _JSON_MARK,
    ".statistics.csv": b"organ,name,snomed_code,",
    ".statistics.json": _JSON_MARK,
    ".uncertainty.nii.gz": b"MultiOrganSeg",
    ".preview.png": b"MultiOrganSeg_Provenance",
    ".finished.json": b'"unlike_training": ',
    ".jsonl": b'{"event": "',
}
"""What an earlier run may have left, by its suffix, with bytes that its file holds near the beginning.

A file of such a name without them is another's, or was changed by another program, and is not replaced. DICOM
says it by the manufacturer (0008,0070), with or without its VR.
"""

_BEGINNING = 2**20

_kept: list[Path] = []


@contextmanager
def keep(inputs: Iterable[Path]) -> Iterator[None]:
    """Refuse outputs that would replace one of these, for the length of the block.

    Args:
        inputs: Files, and folders of which every file is an input but what an earlier run left there, see
            `OWN_MARKS`. What is not there is left out.
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
            or (within and not _is_left_by_earlier_run(target))
        ):
            msg = f"The result would replace the input {target}."
            raise ResourceError(msg, next_step="Choose another output name or folder.")


def require_own(target: Path, suffix: str) -> None:
    """Refuse a result that would replace a file which MultiOrganSeg did not write; an empty one is free.

    Args:
        target: The result; a link there is replaced, not what it leads to.
        suffix: One of `OWN_MARKS` that says what the result is.

    Raises:
        ResourceError: It would.
    """
    if target.is_symlink() or not target.is_file() or is_own(target, suffix):
        return
    msg = f"The result would replace {target}."
    raise ResourceError(
        msg,
        cause="Another program wrote or changed that file.",
        next_step="Move it away, or choose another output name or folder.",
    )


def is_own(path: Path, suffix: str) -> bool:
    """Whether a file is empty or holds the mark that `OWN_MARKS` has for a suffix."""
    try:
        with gzip.open(path) if suffix.endswith(".gz") else path.open("rb") as content:
            return OWN_MARKS[suffix] in content.read(_BEGINNING) or path.stat().st_size == 0
    except (OSError, EOFError, zlib.error):
        return False


def _is_left_by_earlier_run(path: Path) -> bool:
    found = (suffix for suffix in OWN_MARKS if path.name.lower().endswith(suffix))
    return any(is_own(path, suffix) for suffix in found)


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
