"""Libraries that would call out, or write into the user's home folder, are kept from it before they load."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, cast

from multiorganseg.folders import user_cache_dir


def import_openvino() -> Any:
    """Import OpenVINO without the package by which it reports its use over the network.

    At its import OpenVINO would send statistics unless the user has objected in a file in the home folder,
    and write such files itself. It does without the package where that is not installed.
    """
    modules = cast(dict[str, Any], sys.modules)
    modules.setdefault("openvino_telemetry", None)
    return importlib.import_module("openvino")


def import_ray() -> Any:
    """Import Ray so that it does not report its use over the network, unless the user said otherwise."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    return importlib.import_module("ray")


def keep_files_together() -> None:
    """Let libraries keep their caches in this program's own cache folder, unless the user said where."""
    os.environ.setdefault("MPLCONFIGDIR", str(user_cache_dir() / "matplotlib"))
