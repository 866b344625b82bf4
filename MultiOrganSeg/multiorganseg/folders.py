"""Where the catalogue and the bundled networks lie, and the user's own folders on each platform."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from multiorganseg.errors import ResourceError


def resources_dir() -> Path:
    """Folder that holds `Organs/` and `Models/`.

    The environment variable MULTIORGANSEG_RESOURCES wins; then the wheel's own folder, the Slicer module's
    folder and the checkout's root are tried.

    Raises:
        ResourceError: None of them exists.
    """
    package = Path(__file__).resolve().parent
    override = os.environ.get("MULTIORGANSEG_RESOURCES")
    candidates = [Path(override)] if override else []
    candidates += [folder / "Resources" for folder in (package, package.parent, package.parent.parent)]
    for candidate in candidates:
        if (candidate / "Organs" / "organs.json").is_file():
            return candidate
    msg = "The organ catalogue is not found."
    raise ResourceError(
        msg,
        cause="Looked in " + ", ".join(str(candidate) for candidate in candidates),
        next_step="Reinstall MultiOrganSeg, or set MULTIORGANSEG_RESOURCES to its Resources folder.",
    )


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
