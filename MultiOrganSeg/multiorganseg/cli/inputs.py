"""Which cases the user means by the paths on the command line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from multiorganseg.errors import VolumeError
from multiorganseg.volumes.dicom_series import is_dicom
from multiorganseg.volumes.names import IMAGE_SUFFIXES, is_image_name


def expand_inputs(paths: Iterable[Path]) -> list[Path]:
    """Turn files and folders into one path a case.

    A file is a case. A folder with volume files gives one case a file, results of earlier runs left out; a
    folder with DICOM slices is one case; a folder of such folders gives one case each.

    Raises:
        VolumeError: A path does not exist, or a folder holds nothing to segment.
    """
    cases: list[Path] = []
    for path in paths:
        found = _cases(path)
        if not found and path.is_dir():
            found = [case for folder in sorted(path.iterdir()) if folder.is_dir() for case in _cases(folder)]
        if not found:
            problem = f"Nothing to segment at {path}."
            raise VolumeError(
                problem,
                cause="It holds no volume." if path.exists() else "It does not exist.",
                next_step=f"Name a DICOM folder or files that end in {', '.join(IMAGE_SUFFIXES)}.",
            )
        cases += [case for case in found if case not in cases]
    return cases


def _cases(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        return []
    files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    volumes = [file for file in files if is_image_name(file.name)]
    return volumes or ([path] if any(is_dicom(file) for file in files[:20]) else [])
