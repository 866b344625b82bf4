"""Leaves only the packages of a Slicer to be imported, and records where the engine came from.

Python imports this file when its folder is on PYTHONPATH, in the module's child processes as well.
MULTIORGANSEG_TEST_PACKAGES: names that can be imported, beside the standard library and ours, by commas.
MULTIORGANSEG_TEST_RECORDS: folder for one JSON file a process that imported the engine.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
from collections.abc import Iterable
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

OURS = {"multiorganseg", "multiorganseg_training", "MultiOrganSeg", "MultiOrganSegLib"}
THERE = {*os.environ["MULTIORGANSEG_TEST_PACKAGES"].split(","), *OURS}
WATCHED = {"highdicom", "matplotlib", "multiorganseg_training", "nibabel", "openvino", "pydicom", "torch"}


class OnlyThese:
    """Finds modules as Python does, as if the other packages in site-packages were not installed."""

    @staticmethod
    def find_spec(fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Find a module; a top-level one of a package that is not there is not found."""
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or path is not None or fullname in THERE:
            return spec
        places = [spec.origin or "", *(spec.submodule_search_locations or ())]
        return None if any("site-packages" in place for place in places) else spec

    @staticmethod
    def find_distributions(*arguments: Any, **options: Any) -> Iterable[Distribution]:
        """Tell of all packages, as Python does."""
        return PathFinder.find_distributions(*arguments, **options)


def _record() -> None:
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] in OURS]
    ours = [module.__file__ for module in modules if getattr(module, "__file__", None)]
    if ours:
        record = {"files": ours, "imported": sorted(WATCHED & set(sys.modules))}
        target = Path(os.environ["MULTIORGANSEG_TEST_RECORDS"]) / f"{os.getpid()}.json"
        target.write_text(json.dumps(record), encoding="utf-8")


sys.meta_path[sys.meta_path.index(PathFinder)] = OnlyThese  # type: ignore[call-overload]
if "MULTIORGANSEG_TEST_RECORDS" in os.environ:
    atexit.register(_record)
