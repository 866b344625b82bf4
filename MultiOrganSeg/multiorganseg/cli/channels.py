"""Several images of one patient, for networks that take them: NAME_0000, NAME_0001 … side by side."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from multiorganseg.cli.case import Case
from multiorganseg.errors import VolumeError
from multiorganseg.volumes.read import read_volume
from multiorganseg.volumes.volume import Volume

_NUMBERED = re.compile(r"(?P<name>.*)_(?P<number>\d{4})(?P<suffix>\.[^_]+)")


def first_channels(cases: Sequence[Case], count: int) -> list[Case]:
    """Leave out the cases that are further channels of another one, for a network of so many channels."""
    if count == 1:
        return list(cases)
    return [case for case in cases if _number(case.path) == 0 or not _has_first(case.path)]


def further_channels(case: Case, count: int) -> tuple[Volume, ...]:
    """Read the images that belong to a case, for a network of so many channels.

    Raises:
        VolumeError: One is missing or cannot be read.
        ResourceError: The voxels do not fit into memory.
    """
    return tuple(read_volume(path) for path in channel_files(case, count))


def channel_files(case: Case, count: int) -> tuple[Path, ...]:
    """Name the files of the images that belong to a case, for a network of so many channels.

    Raises:
        VolumeError: One is missing.
    """
    if count == 1:
        return ()
    found = _NUMBERED.fullmatch(case.path.name)
    paths = [
        case.path.with_name(f"{found['name']}_{number:04d}{found['suffix']}") if found else case.path
        for number in range(1, count)
    ]
    missing = [path.name for path in paths if not path.is_file()]
    if found is None or missing:
        problem = f"{case.path.name} is one of {count} images that the model takes of a patient."
        raise VolumeError(
            problem,
            cause=f"{', '.join(missing)} is not there." if found else "Its name ends in no number.",
            next_step="Lay them side by side as NAME_0000.nii.gz, NAME_0001.nii.gz … and give the first.",
        )
    return tuple(paths)


def _number(path: Path) -> int:
    found = _NUMBERED.fullmatch(path.name)
    return int(found["number"]) if found else -1


def _has_first(path: Path) -> bool:
    found = _NUMBERED.fullmatch(path.name)
    return found is not None and path.with_name(f"{found['name']}_0000{found['suffix']}").is_file()
