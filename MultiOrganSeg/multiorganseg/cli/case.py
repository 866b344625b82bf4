"""One image to segment, wherever its files are."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from multiorganseg.errors import VolumeError
from multiorganseg.progress import Progress
from multiorganseg.scratch import work_folder
from multiorganseg.volumes.check import VolumeWarning
from multiorganseg.volumes.dicom_scan import SeriesInfo, files_below, scan_series
from multiorganseg.volumes.dicom_series import dicom_files, series_files
from multiorganseg.volumes.label_map import refuse_label_map
from multiorganseg.volumes.names import IMAGE_SUFFIXES, volume_suffix
from multiorganseg.volumes.read import read_dicom_series, read_volume
from multiorganseg.volumes.volume import Volume

_LONGEST_SERIES_NAME = 60


class Origin(Protocol):
    """Where the files of a series come from, when they do not lie on the disk."""

    def fetch(self, folder: Path, progress: Progress) -> None:
        """Put the files into an empty folder."""


@dataclass(frozen=True)
class Case:
    """One image to segment.

    Attributes:
        path: Its file or folder. Of one DICOM series among several in a folder, that folder and a name of
            the series, which together name the case but no file; so of one in an archive or a zip file.
        series: The DICOM series, where the case was found in a folder.
        folder: Where the results go within the output folder, so that cases of one name do not clash.
        notes: What was left out beside it.
        origin: Where its files come from; None when they lie on the disk.
        uid: Series Instance UID of what comes from there.
    """

    path: Path
    series: SeriesInfo | None = None
    folder: Path = Path()
    notes: tuple[str, ...] = ()
    origin: Origin | None = None
    uid: str = ""

    def __str__(self) -> str:
        """Return the path."""
        return str(self.path)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.name

    @contextmanager
    def at_hand(self, progress: Progress) -> Iterator[Case]:
        """Return the case with its files on the disk, for the length of the block.

        Raises:
            VolumeError: What came is not the series.
            MultiOrganSegError: As its origin.
        """
        if self.origin is None:
            yield self
            return
        with work_folder() as work:
            folder = work / self.name
            folder.mkdir()
            self.origin.fetch(folder, progress)
            found, left_out = scan_series(files_below(folder))
            series = next((info for info in found if info.uid == self.uid), None)
            if series is None:
                damaged = "; ".join(entry.detail for entry in left_out if entry.detail)
                msg = f"{self.name} holds no image that can be read."
                raise VolumeError(msg, cause=damaged[:300], next_step="Have the series stored anew.")
            yield replace(self, path=folder, series=series, origin=None)

    def read(self) -> Volume:
        """Read the image; what was left out beside it is reported with a `VolumeWarning`.

        Raises:
            VolumeError: As `read_volume`, or it is a label map.
            ResourceError: As `read_volume`.
            DependencyError: As `read_volume`.
        """
        if self.origin is not None:
            msg = f"{self.name} is not on the disk as it is."
            raise VolumeError(msg, next_step="Unpack it, and give the folder.")
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


def series_name(number: int | None, text: str) -> str:
    """Name a series by its number and description so that a file can be called so."""
    words = [*([str(number)] if number is not None else []), text]
    return re.sub(r"[^\w.()+-]+", "_", " ".join(words)).strip("_.")[:_LONGEST_SERIES_NAME]
