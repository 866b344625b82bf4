"""Pictures of the module's panel for the documentation: real logic and network, stand-in Qt.

    python Testing/slicer/widget/screenshots.py FOLDER [--volume CT.nrrd] [--quality fast]

Without a volume the phantom is segmented. The user's own models are left out of the pictures.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[3]
WIDTH = 460
SECTIONS = ("segmentSection", "resultsSection", "modelsSection")
RUN_SECONDS = 1800


def take(folder: Path, volume: Path | None, quality: str) -> list[Path]:
    """Walk through the panel as the tutorial does and save a picture of each step.

    Args:
        folder: Where the PNG files go.
        volume: A CT file; None for the phantom.
        quality: Of the run.

    Returns:
        The files in the order of the steps.
    """
    import slicer_host

    host = slicer_host.start(widgets=True)
    module = host.load_module("MultiOrganSeg", REPOSITORY / "MultiOrganSeg")
    panel = module.widgetRepresentation().self().panel
    camera = _Camera(host, module.widgetRepresentation(), panel, folder)
    module.widgetRepresentation().self().enter()
    panel.ui.applyButton.click()
    camera.save("no-volume", "segmentSection")
    panel.segment.message.clear()
    _load(panel, volume)
    host.process_events(lambda: not panel._probe.running, timeout=RUN_SECONDS)
    camera.save("ready", "segmentSection")
    panel.ui.organSearch.text = "kidney"
    camera.save("search", "segmentSection")
    panel.ui.organSearch.text = ""
    panel.parameters.quality = quality
    panel.ui.applyButton.click()
    run = panel.run
    host.process_events(lambda: run.eta_seconds is not None or run.state != "running", RUN_SECONDS)
    camera.save("running", "segmentSection")
    host.process_events(lambda: panel.run is None, RUN_SECONDS)
    camera.save("finished", "segmentSection")
    panel.ui.resultsTable.setCurrentCell(0, 0)
    camera.save("results", "resultsSection")
    panel.ui.applyButton.click()
    camera.save("replace-or-new", "segmentSection")
    panel.ui.dropButton.click()
    camera.save("models", "modelsSection")
    host.reset()
    return camera.files


class _Camera:
    def __init__(self, host: Any, window: Any, panel: Any, folder: Path) -> None:
        self.files: list[Path] = []
        self._host = host
        self._window = window
        self._panel = panel
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def save(self, name: str, section: str) -> None:
        """Open one section, close the others, and grab the whole panel."""
        for each in SECTIONS:
            getattr(self._panel.ui, each).collapsed = each != section
        self._window.show()
        for _pass in range(3):
            self._window.resize(WIDTH, self._window.sizeHint.height())
            self._host.process_events()
        path = self._folder / f"panel-{len(self.files) + 1}-{name}.png"
        self._window.grab().save(str(path))
        self.files.append(path)


def _load(panel: Any, volume: Path | None) -> None:
    if volume is None:
        panel.ui.phantomButton.click()
        return
    import slicer

    panel.parameters.volume = slicer.util.loadVolume(str(volume))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--volume", type=Path)
    parser.add_argument("--quality", choices=("fast", "balanced", "best"), default="balanced")
    options = parser.parse_args()
    sys.path[:0] = [str(REPOSITORY / "Testing" / "host"), str(REPOSITORY / "MultiOrganSeg")]
    with tempfile.TemporaryDirectory() as models:
        os.environ["MULTIORGANSEG_MODELS"] = models
        for path in take(options.folder, options.volume, options.quality):
            sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
