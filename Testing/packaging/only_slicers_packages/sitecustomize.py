"""Hides packages that segmenting must not need, and records where the engine came from.

Python imports this file when its folder is on PYTHONPATH, in the module's child processes as well.
MULTIORGANSEG_TEST_RECORDS: folder for one JSON file a process that imported the engine.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

HIDDEN = {
    *("highdicom", "matplotlib", "multiorganseg_training", "nibabel", "nrrd", "openvino", "pydicom"),
    "slicerio",
}
WATCHED = {*HIDDEN, "torch"}
OURS = {"multiorganseg", "MultiOrganSeg", "MultiOrganSegLib"}


class HiddenPackages(MetaPathFinder):
    """Makes imports fail as if the packages were not installed."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        """Refuse what is hidden, and leave the rest to the other finders."""
        if fullname.partition(".")[0] in HIDDEN:
            message = f"No module named {fullname!r}"
            raise ModuleNotFoundError(message, name=fullname)


def _record() -> None:
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] in OURS]
    ours = [module.__file__ for module in modules if getattr(module, "__file__", None)]
    if ours:
        record = {"files": ours, "imported": sorted(WATCHED & set(sys.modules))}
        target = Path(os.environ["MULTIORGANSEG_TEST_RECORDS"]) / f"{os.getpid()}.json"
        target.write_text(json.dumps(record), encoding="utf-8")


sys.meta_path.insert(0, HiddenPackages())
atexit.register(_record)
