"""Stands for Slicer's DICOMLib: importing a folder into the database, and the dialog that sends files."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import slicer


class DICOMUtils:
    """The part of Slicer's module of this name that extensions call."""

    @staticmethod
    def importDicom(dicomDataDir: str, dicomDatabase: Any = None, copyFiles: bool = False) -> None:
        """Insert the files of a folder; copies of them, where they are to stay when the folder goes."""
        database = dicomDatabase or slicer.dicomDatabase
        for path in sorted(Path(dicomDataDir).iterdir()):
            kept = Path(tempfile.mkdtemp(dir=slicer.app.temporaryPath)) / path.name if copyFiles else path
            if copyFiles:
                shutil.copyfile(path, kept)
            database.insert(str(kept))


class DICOMSendDialog:
    """Opens itself when it is made; what it was opened with stays in `opened`."""

    opened: ClassVar[list[tuple[list[str], Any]]] = []

    def __init__(self, files: list[str], parent: Any = "mainWindow") -> None:
        self.opened.append((list(files), parent))
