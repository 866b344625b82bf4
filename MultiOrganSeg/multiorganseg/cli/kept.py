"""What a command reads and must not replace, from the paths that it is given."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from multiorganseg.errors import MultiOrganSegError
from multiorganseg.outputs import keep
from multiorganseg.results.nifti import label_table_path
from multiorganseg.volumes.headers import detached_files


def keep_inputs(paths: Iterable[Path | None]) -> AbstractContextManager[None]:
    """Keep files and folders; of a file also its label table and the data that its header names."""
    kept: list[Path] = []
    for path in paths:
        if path is None:
            continue
        kept += [path, label_table_path(path)]
        if path.is_file():
            with suppress(MultiOrganSegError, OSError):
                kept += detached_files(path)
    return keep(kept)
