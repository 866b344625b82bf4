"""Which cases the user means by the paths on the command line."""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from multiorganseg.errors import VolumeError
from multiorganseg.volumes.check import VolumeWarning
from multiorganseg.volumes.dicom_scan import SeriesInfo, is_dicomdir, scan_series
from multiorganseg.volumes.dicom_series import (
    are_torn_apart,
    dicom_files,
    files_of,
    is_main_series,
    main_series,
    series_files,
)
from multiorganseg.volumes.label_map import is_label_file, refuse_label_map
from multiorganseg.volumes.names import IMAGE_SUFFIXES, case_name, is_image_name, volume_suffix
from multiorganseg.volumes.read import read_dicom_series, read_volume
from multiorganseg.volumes.volume import Volume

_LONGEST_SERIES_NAME = 60


@dataclass(frozen=True)
class Case:
    """One image to segment.

    Attributes:
        path: Its file or folder. Of one DICOM series among several in a folder, that folder and a name of
            the series, which together name the case but no file.
        series: The DICOM series, where the case was found in a folder.
        folder: Where the results go within the output folder, so that cases of one name do not clash.
        notes: What was left out beside it.
    """

    path: Path
    series: SeriesInfo | None = None
    folder: Path = Path()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the path."""
        return str(self.path)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.name

    def read(self) -> Volume:
        """Read the image; what was left out beside it is reported with a `VolumeWarning`.

        Raises:
            VolumeError: As `read_volume`, or it is a label map.
            ResourceError: As `read_volume`.
            DependencyError: As `read_volume`.
        """
        for note in self.notes:
            warnings.warn(note, VolumeWarning, stacklevel=2)
        volume = read_dicom_series(self.series, str(self)) if self.series else read_volume(self.path)
        refuse_label_map(volume.voxels, self.name)
        return replace(volume, warnings=(*volume.warnings, *self.notes))

    def dicom_files(self) -> tuple[Path, ...] | None:
        """Return the files of its DICOM series along axis k; None where it is none.

        Raises:
            VolumeError: The series cannot be put in order.
        """
        if self.series:
            return series_files(self.series)
        suffix = volume_suffix(self.name).lower()
        return None if suffix in IMAGE_SUFFIXES else dicom_files(self.path)

    def output(self, out: Path) -> Path:
        """Return the folder for its results, or the file that `out` names."""
        is_file = volume_suffix(out.name) and not out.is_dir()
        return out if is_file or self.folder == Path() else out / self.folder


def expand_inputs(paths: Iterable[Path]) -> list[Case]:
    """Turn files and folders into cases.

    A file is a case, a DICOMDIR stands for its medium. Below a folder, at any depth, every volume file and
    every DICOM series of CT or MR with at least ten slices is a case; where there is no such series, the one
    there is. Results of earlier runs, label maps beside images and other series are left out, with a warning.
    Cases of one name keep the folders in which they lie.

    Raises:
        VolumeError: A path does not exist or cannot be read, a folder holds nothing to segment, or several
            small series of which none stands out.
        DependencyError: A folder holds DICOM, and pydicom is not installed.
    """
    cases: dict[Path, Case] = {}
    for path in paths:
        try:
            found = _cases(path)
        except OSError as error:
            msg = f"{path} cannot be read."
            raise VolumeError(msg, cause=str(error), next_step="Check that you may read it.") from error
        if not found:
            problem = f"Nothing to segment at {path}."
            raise VolumeError(
                problem,
                cause="It holds no volume." if path.exists() else "It does not exist.",
                next_step=f"Name a DICOM folder or files that end in {', '.join(IMAGE_SUFFIXES)}.",
            )
        for case in found:
            cases.setdefault(Path(os.path.abspath(case.path)), case)  # noqa: PTH100
    return _apart(cases)


def _apart(cases: dict[Path, Case]) -> list[Case]:
    """Return cases folders of their own where two of them have one name."""
    names = Counter(case_name(case.name).casefold() for case in cases.values())
    if max(names.values(), default=0) < 2:
        return list(cases.values())
    try:
        root = os.path.commonpath([path.parent for path in cases])
    except ValueError:
        return list(cases.values())
    return [replace(case, folder=path.parent.relative_to(root)) for path, case in cases.items()]


def _cases(path: Path) -> list[Case]:
    if path.is_file() and not is_dicomdir(path):
        return [Case(path)]
    if not path.exists():
        return []
    files = files_of(path)
    images = [file for file in files if is_image_name(file.name)]
    series, others, torn = _series([file for file in files if file not in set(images)], path)
    labels = [file for file in images if is_label_file(file)] if len(images) + len(series) > 1 else []
    cases = [
        *(Case(file) for file in images if file not in labels),
        *(Case(_series_path(info, series), info) for info in series),
        *(Case(folder) for folder in torn),
    ]
    notes = [(file, f"{file.name} is a label map, not an image, and was left out.") for file in labels]
    notes += [(info.files[0], f"Another DICOM series was left out: {info}.") for info in others]
    return _with_notes(cases, notes)


def _series(files: Sequence[Path], path: Path) -> tuple[list[SeriesInfo], list[SeriesInfo], list[Path]]:
    """Return the series to segment, those that are left out, and folders whose slices are a series each."""
    found, left_out = scan_series(files)
    if not any(info.is_image for info in found):
        damaged = [entry for entry in left_out if entry.detail]
        return (main_series(found, damaged, path) if damaged or found else []), [], []
    folders: dict[Path, list[SeriesInfo]] = {}
    for info in found:
        folders.setdefault(info.files[0].parent, []).append(info)
    main = [info for info in found if is_main_series(info)]
    if not main:
        for folder, infos in folders.items():
            if any(info.is_image for info in infos):
                main += main_series(infos, left_out, folder)
        return main, [info for info in found if info not in main], []
    torn = [
        folder
        for folder, infos in folders.items()
        if are_torn_apart(infos) and not any(info in main for info in infos)
    ]
    others = [info for info in found if info not in main and info.files[0].parent not in torn]
    return main, others, torn


def _series_path(info: SeriesInfo, chosen: Sequence[SeriesInfo]) -> Path:
    """Name a series by its folder, or by folder and series where the folder holds several."""
    folder = _folder(info)
    if not any(other is not info and _folder(other) == folder for other in chosen):
        return folder
    number = info.headers[0].series_number
    words = [*([str(number)] if number is not None else []), info.description or info.modality]
    name = re.sub(r"[^\w.()+-]+", "_", " ".join(words)).strip("_.")[:_LONGEST_SERIES_NAME]
    same = [other for other in chosen if _folder(other) == folder and _label(other) == _label(info)]
    return folder / (f"{name}_{same.index(info) + 1}" if len(same) > 1 else name)


def _label(info: SeriesInfo) -> tuple[int | None, str]:
    return info.headers[0].series_number, info.description or info.modality


def _folder(info: SeriesInfo) -> Path:
    return Path(os.path.commonpath([file.parent for file in info.files]))


def _with_notes(cases: Sequence[Case], notes: Sequence[tuple[Path, str]]) -> list[Case]:
    """Return each note to the case that lies nearest to what it is about."""
    added: dict[int, tuple[str, ...]] = {}
    for file, note in notes if cases else ():
        nearness = [_shared_parts(case.path, file) for case in cases]
        nearest = nearness.index(max(nearness))
        added[nearest] = (*added.get(nearest, ()), note)
    return [replace(case, notes=added.get(index, ())) for index, case in enumerate(cases)]


def _shared_parts(one: Path, other: Path) -> int:
    parts = list(zip(one.parts, other.parts, strict=False))
    return next((index for index, (a, b) in enumerate(parts) if a != b), len(parts))
