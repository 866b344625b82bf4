"""Models that a project has published."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Published:
    """A published model.

    Attributes:
        name: Of the bundle.
        version: Three numbers.
    """

    name: str
    version: str


def newest_published(project: Path) -> Published | None:
    """Return the model that a project has published last; None when there is none."""
    folder = project / "bundles"
    found = [path for path in folder.iterdir() if path.name[0] != "."] if folder.is_dir() else []
    for path in sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        try:
            said = json.loads((path / "configs" / "metadata.json").read_text(encoding="utf-8"))
            return Published(str(said["name"]), str(said["version"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None
