"""The user's own folders, where each platform wants them."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def user_data_dir() -> Path:
    """Folder for what the user keeps, such as installed bundles; it need not exist."""
    return _platform_dir(Path("Library", "Application Support"), "XDG_DATA_HOME", Path(".local", "share"))


def user_cache_dir() -> Path:
    """Folder for what can be made again; it need not exist. The variable MULTIORGANSEG_CACHE wins."""
    override = os.environ.get("MULTIORGANSEG_CACHE")
    if override:
        return Path(override)
    return _platform_dir(Path("Library", "Caches"), "XDG_CACHE_HOME", Path(".cache"))


def _platform_dir(on_mac: Path, variable: str, default: Path) -> Path:
    if sys.platform == "darwin":
        return Path.home() / on_mac / "multiorganseg"
    if sys.platform == "win32":
        variable, default = "LOCALAPPDATA", Path("AppData", "Local")
    stated = Path(os.environ.get(variable, ""))
    return (stated if stated.is_absolute() else Path.home() / default) / "multiorganseg"
