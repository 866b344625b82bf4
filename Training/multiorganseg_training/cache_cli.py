"""`multiorganseg-train cache`: what the prepared cases take, and their deletion."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from multiorganseg.cli.console import out
from multiorganseg.cli.errors import reported_errors
from multiorganseg.scratch import clean_up
from multiorganseg.user_folders import user_cache_dir


@reported_errors()
def cache_command(
    folder: Annotated[
        Path | None, typer.Option("--cache", help="Folder of prepared cases, as for fit and extend.")
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Delete all prepared cases.")] = False,
) -> None:
    """Tell how much the prepared cases take, or delete them; they are made again where they are needed.

    They hold voxels of images and labels. Only their owner can read them. Beyond 20 GiB, or what the variable
    MULTIORGANSEG_CACHE_GIB says, those used longest ago are deleted.
    """
    from multiorganseg_training.case_store import bound_bytes, entries, shrink

    folder = folder or user_cache_dir() / "cases"
    if clear:
        clean_up(folder)
        freed = shrink(folder, 0)
        out.print(Text(f"Deleted {freed / 2**20:.1f} MiB in {folder}"), soft_wrap=True)
        return
    found = entries(folder)
    total = sum(about.st_size for _, about in found)
    allowed = f"{bound_bytes() / 2**30:g} GiB allowed"
    out.print(Text(f"{len(found)} cases, {total / 2**20:.1f} MiB, {allowed}: {folder}"), soft_wrap=True)
