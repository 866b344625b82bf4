"""Where the catalogue and the bundled networks lie: in a checkout, a wheel or the extension package."""

from __future__ import annotations

import os
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
