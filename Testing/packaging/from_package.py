"""Loads the module from an unpacked package, segments the phantom and tells how: run by a test.

Usage: from_package.py HOST_FOLDER MODULE_FOLDER
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


def main(host_folder: Path, module_folder: Path) -> None:
    """Do as a user's script would, and write organs, their volumes and colours as JSON to standard output."""
    sys.path[:] = [str(host_folder), *(path for path in sys.path if path)]
    import slicer_host

    host = slicer_host.start()
    module = host.load_module("MultiOrganSeg", module_folder)
    from MultiOrganSegLib import child
    from MultiOrganSegLib.engine import shared_engine
    from MultiOrganSegLib.result import organ_rows
    from MultiOrganSegLib.sample_data import load_phantom

    before = sorted(name for name in ("torch", "monai") if name in sys.modules)
    volume = load_phantom()
    child.IDLE_SECONDS = 2.0
    engine = shared_engine()
    segmentation = module.python.MultiOrganSegLogic().process(volume, quality="fast", device="cpu")
    _until_it_ends(engine)
    rows = {row.segment_id: {"name": row.name, "ml": row.volume_ml} for row in organ_rows(segmentation)}
    sys.stdout.write(json.dumps({"file": module.path, "heavy": before, "organs": rows}) + "\n")


def _until_it_ends(engine: Any) -> None:
    """Wait until the resident process ends by itself, as only then it records what it imported."""
    while engine.pid is not None:
        engine.poll()
        time.sleep(0.05)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
