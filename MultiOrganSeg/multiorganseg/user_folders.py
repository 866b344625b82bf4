"""The user's own folders, where each platform wants them."""

from __future__ import annotations

import os
from pathlib import Path

_NAME = "multiorganseg"


def user_data_dir() -> Path:
    """Folder for what the user keeps, such as installed bundles; it need not exist."""
    from platformdirs import user_data_path

    return user_data_path(_NAME, appauthor=False)


def user_cache_dir() -> Path:
    """Folder for what can be made again; it need not exist. The variable MULTIORGANSEG_CACHE wins."""
    from platformdirs import user_cache_path

    override = os.environ.get("MULTIORGANSEG_CACHE")
    return Path(override) if override else user_cache_path(_NAME, appauthor=False, opinion=False)
