"""DICOM in zip files."""

from __future__ import annotations

import os
import shutil
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from multiorganseg.errors import ResourceError, VolumeError
from multiorganseg.progress import Progress
from multiorganseg.volumes.dicom_header import is_dicom

UNPACKING = "unpacking"
_CHUNK = 1 << 20
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, ValueError)


def is_zip(path: Path) -> bool:
    """Whether a file is a zip file, by its name."""
    return path.suffix.lower() == ".zip"


@dataclass(frozen=True)
class ZippedSeries:
    """DICOM in a zip file; see `Origin`.

    Attributes:
        path: The zip file.
    """

    path: Path

    def fetch(self, folder: Path, progress: Progress) -> None:
        """Unpack every DICOM file, under a number: names in a zip file count for nothing.

        Raises:
            VolumeError: It is damaged, encrypted or holds no DICOM.
            ResourceError: There is no room to unpack it.
        """
        mode, found = self.path.stat().st_mode & 0o666, 0
        try:
            with zipfile.ZipFile(self.path) as archive:
                entries = [entry for entry in archive.infolist() if not entry.is_dir()]
                needed, free = sum(entry.file_size for entry in entries), shutil.disk_usage(folder).free
                if needed > free:
                    msg = f"There is no room to unpack {self.path.name}."
                    raise ResourceError(
                        msg,
                        cause=f"It takes {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free.",
                        next_step="Free space among the temporary files (TMPDIR).",
                    )
                for number, entry in enumerate(entries):
                    progress(UNPACKING, number / len(entries))
                    target = folder / f"{number + 1:06d}.dcm"
                    with archive.open(entry) as packed, _open_private(target, mode) as file:
                        shutil.copyfileobj(packed, file, _CHUNK)
                    if is_dicom(target):
                        found += 1
                    else:
                        target.unlink()
        except _BROKEN as error:
            cause = f"{type(error).__name__}: {error}"
            raise self.damaged(cause) from error
        if not found:
            cause = "It holds no DICOM file."
            raise self.damaged(cause)

    def damaged(self, cause: str) -> VolumeError:
        """Make the error for a zip file that cannot be used."""
        return VolumeError(
            f"{self.path} cannot be segmented.",
            cause=cause,
            next_step="Unpack it with another program, and give the folder.",
        )


def _open_private(path: Path, mode: int) -> BinaryIO:
    """Create a file that is no more open than a mode says."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb")
