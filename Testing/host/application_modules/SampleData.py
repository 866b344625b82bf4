"""Stands for the SampleData module: keeps registrations, downloads nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar


class SampleDataLogic:
    """Where modules register their samples."""

    registered: ClassVar[list[dict[str, Any]]] = []

    @staticmethod
    def registerCustomSampleDataSource(
        category: str = "Custom",
        sampleName: str | None = None,
        uris: str | list[str] | None = None,
        fileNames: str | list[str | None] | None = None,
        nodeNames: str | list[str | None] | None = None,
        customDownloader: Callable[..., Any] | None = None,
        thumbnailFileName: str | None = None,
        loadFileType: str | list[str | None] = "VolumeFile",
        loadFiles: bool | list[bool] | None = None,
        loadFileProperties: dict[str, Any] | None = None,
        checksums: str | list[str | None] | None = None,
        **kwargs: Any,
    ) -> None:
        """Keep one registration, with the arguments under their names.

        Raises:
            ValueError: The sample has no name, or neither an address nor a downloader.
        """
        if not sampleName or not (uris or customDownloader):
            message = "a sample needs a name, and addresses or a downloader"
            raise ValueError(message)
        source = {name: value for name, value in locals().items() if name not in ("kwargs", "message")}
        SampleDataLogic.registered.append({**source, **kwargs})
