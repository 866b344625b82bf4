"""Which DICOM images lie in a folder, and which files there are none."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from multiorganseg.volumes.check import VolumeWarning
from multiorganseg.volumes.dicom_geometry import Slice
from multiorganseg.volumes.dicom_header import LeftOut, Why, open_dicom, read_dicom_header
from multiorganseg.volumes.names import OWN_SUFFIXES

NOT_IMAGES = ("SEG", "RTDOSE", "RTPLAN", "RTSTRUCT", "SR", "PR", "KO", "REG")
"""Modalities that are no images to segment."""

_NAMED = 5


@dataclass(frozen=True)
class SeriesInfo:
    """One DICOM series.

    Attributes:
        uid: Series Instance UID.
        description: Series Description, or an empty string.
        modality: CT, MR, SEG, …
        slices: Number of slices, counting the frames of multi-frame files.
        files: Its files, ordered along the slice normal where they say where they lie.
        headers: What each file says, in the order of `files`.
        left_out: Files in the same folders that are no part of any series, and those of this one that are
            damaged or missing.
    """

    uid: str
    description: str
    modality: str
    slices: int
    files: tuple[Path, ...]
    headers: tuple[Slice, ...] = field(default=(), repr=False, compare=False)
    left_out: tuple[LeftOut, ...] = field(default=(), repr=False, compare=False)

    def __str__(self) -> str:
        """Name the series for a message."""
        name = self.description or self.uid
        return f"'{name}' ({self.modality}, {self.slices} slices, {self.files[0].parent})"

    @property
    def is_image(self) -> bool:
        """Whether there is something to segment: no segmentation, dose, report and the like."""
        return self.modality not in NOT_IMAGES


def is_dicomdir(path: Path) -> bool:
    """Whether a file is the table of contents of a DICOM medium (PS3.10, section 8), by its name."""
    return path.name.upper() == "DICOMDIR"


def files_below(folder: Path) -> list[Path]:
    """List the files in a folder and below it, sorted, without hidden ones and what archives of a Mac add."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and not any(part.startswith(".") or part == "__MACOSX" for part in path.relative_to(folder).parts)
    )


def scan_series(files: Iterable[Path]) -> tuple[list[SeriesInfo], list[LeftOut]]:
    """Read the headers of all files and sort them into series.

    Args:
        files: Any files; results of earlier runs are passed over. A DICOMDIR is not read as an image, but
            tells which images should be there.

    Returns:
        The series, the largest first, and all that is left out.

    Raises:
        DependencyError: pydicom is not installed.
        OSError: A file cannot be opened.
    """
    groups: dict[str, list[Slice]] = defaultdict(list)
    left_out: list[LeftOut] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in files:
            if is_dicomdir(path):
                left_out += [
                    LeftOut(file, Why.MISSING, "DICOMDIR lists it", uid)
                    for file, uid in listed_images(path)
                    if not file.exists()
                ]
            elif not path.name.lower().endswith(OWN_SUFFIXES):
                found = read_dicom_header(path)
                if isinstance(found, Slice):
                    groups[found.uid].append(found)
                else:
                    left_out.append(found)
    series = [_info(group, left_out) for group in groups.values()]
    return sorted(series, key=lambda info: -info.slices), left_out


def listed_images(dicomdir: Path) -> list[tuple[Path, str]]:
    """List the images that a DICOMDIR names, each with its Series Instance UID; none where it is damaged.

    Names that would lead out of the medium are passed over.
    """
    data = open_dicom(dicomdir)
    found, uid = [], ""
    for record in (data.get("DirectoryRecordSequence") if data else None) or ():
        try:
            kind, named = str(record.get("DirectoryRecordType", "")), record.get("ReferencedFileID")
            uid = str(record.get("SeriesInstanceUID", "")) if kind == "SERIES" else uid
        except (ValueError, TypeError, LookupError, NotImplementedError):
            return []
        if kind == "IMAGE" and named:
            names = [named] if isinstance(named, str) else list(map(str, named))
            if not any(name in ("", ".", "..") or "/" in name or "\\" in name for name in names):
                found.append((_on_disk(dicomdir.parent, names), uid))
    return found


def tell_left_out(left_out: Sequence[LeftOut], folder: Path) -> None:
    """Return a `VolumeWarning` for each kind of file that is left out."""
    for why in Why:
        some = [entry for entry in left_out if entry.why is why]
        if some:
            names = ", ".join(entry.file.name for entry in some[:_NAMED])
            more = f" and {len(some) - _NAMED} more" if len(some) > _NAMED else ""
            message = f"{folder}: {len(some)} file(s) that are {why.value} were left out: {names}{more}."
            if why in (Why.EMPTY, Why.FOREIGN):
                message += " If they are slices, the volume lacks them."
            warnings.warn(message, VolumeWarning, stacklevel=2)


def _on_disk(root: Path, names: Sequence[str]) -> Path:
    """Find a file of a medium, on which names are in capitals, where a system spells them otherwise."""
    spelled: Iterator[Path] = (root.joinpath(*parts) for parts in (names, [name.lower() for name in names]))
    return next((path for path in spelled if path.exists()), root.joinpath(*names))


def _info(slices: Sequence[Slice], left_out: Sequence[LeftOut]) -> SeriesInfo:
    ordered = sorted(slices, key=lambda piece: (np.nan_to_num(piece.height), piece.file))
    first = ordered[0]
    folders = {piece.file.parent for piece in ordered}
    beside = tuple(
        entry
        for entry in left_out
        if (entry.file.parent in folders and not entry.uid) or (entry.uid and entry.uid == first.uid)
    )
    return SeriesInfo(
        uid=first.uid,
        description=first.description,
        modality=first.modality,
        slices=sum(piece.frames for piece in ordered),
        files=tuple(piece.file for piece in ordered),
        headers=tuple(ordered),
        left_out=beside,
    )
