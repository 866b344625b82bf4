"""A new folder that appears complete or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from multiorganseg.atomic import put_in_place
from multiorganseg.bundles.folders import scratch_folder
from multiorganseg.errors import TrainingError


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Give a hidden folder beside `target` and rename it when the block ends without an error.

    Raises:
        TrainingError: `target` exists and is not an empty folder, at the start or at the end.
        ResourceError: It cannot be written or the disk is full.
    """
    target = target.absolute()
    _refuse_in_use(target)
    with scratch_folder(target) as scratch:
        folder = scratch / "new"
        folder.mkdir()
        yield folder
        _refuse_in_use(target)
        put_in_place(folder, target, scratch)


def _refuse_in_use(target: Path) -> None:
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        msg = f"{target} exists already."
        raise TrainingError(msg, next_step="Choose another folder, or delete this one first.")
