"""Stands for `slicer.dicomDatabase`: DICOM files known by their instance UIDs."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class DicomDatabase:
    """Files that were inserted, found again by instance or series UID."""

    isOpen = True

    def __init__(self) -> None:
        self._files: dict[str, str] = {}
        self._series: dict[str, list[str]] = {}

    def insert(self, path: str | Path, storeFile: bool = True, generateThumbnail: bool = True) -> None:
        """Read a DICOM file's header and remember where the file lies."""
        import pydicom

        header = pydicom.dcmread(path, stop_before_pixels=True)
        instance, series = str(header.SOPInstanceUID), str(header.SeriesInstanceUID)
        self._files[instance] = str(path)
        self._series.setdefault(series, []).append(instance)

    def fileForInstance(self, instance: str) -> str:
        """Path of an instance's file, or an empty text."""
        return self._files.get(instance, "")

    def instancesForSeries(self, series: str) -> list[str]:
        """Instance UIDs of a series."""
        return list(self._series.get(series, ()))

    def filesForSeries(self, series: str) -> list[str]:
        """Paths of a series' files."""
        return [self._files[instance] for instance in self.instancesForSeries(series)]

    def instanceValue(self, instance: str, tag: str) -> str:
        """An element's value as text; `tag` is "gggg,eeee"."""
        path = self.fileForInstance(instance)
        return self.fileValue(path, tag) if path else ""

    def fileValue(self, path: str, tag: str) -> str:
        """An element's value as text; `tag` is "gggg,eeee"."""
        import pydicom

        group, element = (int(part, 16) for part in tag.split(","))
        value: Any = pydicom.dcmread(path, stop_before_pixels=True).get((group, element))
        return "" if value is None else str(value.value)

    def clear(self) -> None:
        """Forget all files."""
        self._files.clear()
        self._series.clear()
