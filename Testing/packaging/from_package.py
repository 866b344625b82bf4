"""Loads the module from an unpacked package, segments the phantom and tells how: run by a test.

Usage: from_package.py HOST_FOLDER MODULE_FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(host_folder: Path, module_folder: Path) -> None:
    """Do as a user's script would, and write organs, their volumes and colours as JSON to standard output."""
    sys.path[:] = [str(host_folder), *(path for path in sys.path if path)]
    import slicer_host

    host = slicer_host.start()
    module = host.load_module("MultiOrganSeg", module_folder)
    from MultiOrganSegLib.result import organ_rows
    from MultiOrganSegLib.sample_data import load_phantom

    before = sorted(name for name in ("torch", "monai") if name in sys.modules)
    volume = load_phantom()
    segmentation = module.python.MultiOrganSegLogic().process(volume, quality="fast", device="cpu")
    rows = {row.segment_id: {"name": row.name, "ml": row.volume_ml} for row in organ_rows(segmentation)}
    sys.stdout.write(json.dumps({"file": module.path, "heavy": before, "organs": rows}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
