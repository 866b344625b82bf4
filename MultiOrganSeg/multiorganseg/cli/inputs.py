"""Which cases the user means by the paths on the command line."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from multiorganseg.cli.case import Case, series_name
from multiorganseg.cli.zipped import ZippedSeries, is_zip
from multiorganseg.errors import VolumeError
from multiorganseg.progress import Progress
from multiorganseg.scratch import work_folder
from multiorganseg.volumes.dicom_scan import SeriesInfo, files_below, is_dicomdir, scan_series
from multiorganseg.volumes.dicom_series import (
    are_torn_apart,
    files_of,
    is_main_series,
    main_series,
)
from multiorganseg.volumes.label_map import is_label_file
from multiorganseg.volumes.names import IMAGE_SUFFIXES, case_name, is_image_name

LOOKING = "looking through zip files"


def expand_inputs(paths: Iterable[Path], progress: Progress | None = None) -> list[Case]:
    """Turn files and folders into cases.

    A file is a case, a DICOMDIR stands for its medium, a zip file for the DICOM in it. Below a folder, at any
    depth, every volume file and every DICOM series of CT or MR with at least ten slices is a case; where
    there is no such series, the one there is. So of each zip file below it. Results of earlier runs, label
    maps beside images and other series are left out, with a warning. Cases keep the sub-folders in which they
    lie.

    Args:
        paths: Files and folders.
        progress: Reports while zip files are looked through.

    Raises:
        VolumeError: A path does not exist or cannot be read, a folder holds nothing to segment, or several
            small series of which none stands out.
        ResourceError: There is no room to unpack a zip file.
        DependencyError: A folder holds DICOM, and pydicom is not installed.
    """
    progress = progress or Progress()
    cases: dict[Path, Case] = {}
    for path in paths:
        try:
            found = _cases(path, progress)
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
            below = case.path.parent
            kept = path.is_dir() and below.is_relative_to(path)
            placed = replace(case, folder=below.relative_to(path)) if kept else case
            cases.setdefault(Path(os.path.abspath(case.path)), placed)  # noqa: PTH100
    return _apart(cases)


def _apart(cases: dict[Path, Case]) -> list[Case]:
    """Return cases folders of their own where two of them would be written to one place."""
    names = Counter((str(case.folder), case_name(case.name).casefold()) for case in cases.values())
    if max(names.values(), default=0) < 2:
        return list(cases.values())
    try:
        root = os.path.commonpath([path.parent for path in cases])
    except ValueError:
        return list(cases.values())
    return [replace(case, folder=path.parent.relative_to(root)) for path, case in cases.items()]


def _cases(path: Path, progress: Progress) -> list[Case]:
    if path.is_file() and is_zip(path):
        return zipped_cases(path, progress)
    if path.is_file() and not is_dicomdir(path):
        return [Case(path)]
    if not path.exists():
        return []
    files = files_of(path)
    archives = [file for file in files if is_zip(file)]
    images = [file for file in files if is_image_name(file.name)]
    apart = {*images, *archives}
    series, others, torn = _series([file for file in files if file not in apart], path)
    labels = [file for file in images if is_label_file(file)] if len(images) + len(series) > 1 else []
    cases = [
        *(Case(file) for file in images if file not in labels),
        *(Case(_series_path(info, series), info) for info in series),
        *(Case(folder) for folder in torn),
    ]
    for number, archive in enumerate(archives):
        progress(LOOKING, number / len(archives))
        try:
            cases += zipped_cases(archive, progress)
        except VolumeError:
            cases.append(Case(archive.with_suffix(""), origin=ZippedSeries(archive)))
    notes = [(file, f"{file.name} is a label map, not an image, and was left out.") for file in labels]
    notes += [(info.files[0], f"Another DICOM series was left out: {info}.") for info in others]
    return _with_notes(cases, notes)


def zipped_cases(path: Path, progress: Progress) -> list[Case]:
    """List the series to segment in a zip file, as in a folder; nothing of it stays on the disk.

    Raises:
        VolumeError: It is damaged, or holds no series to segment.
        ResourceError: There is no room to unpack it.
    """
    origin = ZippedSeries(path)
    with work_folder() as work:
        origin.fetch(work, progress)
        series, others, torn = _series(files_below(work), work)
        if not series or torn:
            cause = "It holds no series of CT or MR that can be read."
            raise origin.damaged(cause)
        notes = tuple(f"Another DICOM series was left out: {_in_short(info)}." for info in others)
    base = path.with_suffix("")
    if len(series) == 1:
        return [Case(base, None, Path(), notes, origin, series[0].uid)]
    names = [_series_path(info, series).name for info in series]
    found = [Case(base / name, origin=origin, uid=info.uid) for name, info in zip(names, series, strict=True)]
    return [replace(found[0], notes=notes), *found[1:]]


def _in_short(info: SeriesInfo) -> str:
    return f"'{info.description or info.uid}' ({info.modality}, {info.slices} slices)"


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
    name = series_name(info.headers[0].series_number, info.description or info.modality)
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
