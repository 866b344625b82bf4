"""Where the catalogue and the bundled networks lie, and the user's own folders on each platform."""

from __future__ import annotations

import os
from pathlib import Path

from multiorganseg.errors import ResourceError

_NAME = "multiorganseg"


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
    from platformdirs import user_data_path

    return user_data_path(_NAME, appauthor=False)


def user_cache_dir() -> Path:
    """Folder for what can be made again; it need not exist. The variable MULTIORGANSEG_CACHE wins."""
    from platformdirs import user_cache_path

    override = os.environ.get("MULTIORGANSEG_CACHE")
    return Path(override) if override else user_cache_path(_NAME, appauthor=False, opinion=False)
