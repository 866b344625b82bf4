"""Pictures of the module for the documentation: real logic, network and views, stand-in Qt.

    python Testing/slicer/widget/screenshots.py Resources/Screenshots --volume .demo-data/cxr.nii.gz

    python Testing/slicer/widget/screenshots.py FOLDER --project DIR --dataset DIR --case CASE --organ KEY

`--module` takes the module from another folder, such as that of an unpacked package. Without a volume the
phantom is segmented; the user's own models are left out. With a project, in which a training is under way or
has ended, the section Add organ is drawn alone; nothing in the project is changed.
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
SPARE_HEIGHT = 40
SECTIONS = ("segmentSection", "resultsSection", "addOrganSection", "modelsSection")
RUN_SECONDS = 1800


def take(folder: Path, module_folder: Path, volume: Path | None, quality: str) -> list[Path]:
    """Walk through the panel as the tutorial does and save a picture of each step and of the views.

    Args:
        folder: Where the PNG files go.
        module_folder: Holds MultiOrganSeg.py.
        volume: A CT file; None for the phantom.
        quality: Of the run.

    Returns:
        The files in the order of the steps.
    """
    import slicer_host

    host = slicer_host.start(widgets=True)
    module = host.load_module("MultiOrganSeg", module_folder)
    panel = module.widgetRepresentation().self().panel
    camera = _Camera(host, module.widgetRepresentation(), panel, folder)
    module.widgetRepresentation().self().enter()
    panel.ui.applyButton.click()
    camera.save("start", "segmentSection")
    panel.segment.message.clear()
    _load(panel, volume)
    host.process_events(lambda: not panel._probe.running, timeout=RUN_SECONDS)
    camera.save("segment", "segmentSection")
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
    camera.save("question", "segmentSection")
    panel.ui.dropButton.click()
    camera.save("models", "modelsSection")
    views = _draw_views(panel.parameters.volume, panel.parameters.segmentation, folder)
    together = folder / "slicer-module.png"
    _compose(folder / "panel-results.png", views, together)
    host.reset()
    return [*camera.files, *views, together]


def _draw_views(volume: Any, segmentation: Any, folder: Path) -> list[Path]:
    """Draw the slices through the middle of the largest organ, and the surfaces."""
    import rendering

    from MultiOrganSegLib.result import organ_rows

    largest = max(organ_rows(segmentation), key=lambda row: row.volume_ml)
    right, anterior, superior = segmentation.GetSegmentCenterRAS(largest.segment_id)
    segmentation.CreateClosedSurfaceRepresentation()
    return [
        rendering.slice_view(volume, segmentation, folder / "slicer-axial.png", "Axial", superior),
        rendering.slice_view(volume, segmentation, folder / "slicer-coronal.png", "Coronal", anterior),
        rendering.slice_view(volume, segmentation, folder / "slicer-sagittal.png", "Sagittal", right),
        rendering.three_d_view(segmentation, folder / "slicer-3d.png"),
    ]


def _compose(panel: Path, views: list[Path], path: Path) -> None:
    """Put the panel beside the views, as the application lays them out."""
    from PIL import Image

    beside, *tiles = map(Image.open, (panel, *views))
    width, height = tiles[0].size
    canvas = Image.new("RGB", (beside.width + 2 * width, max(beside.height, 2 * height)), (239, 239, 239))
    canvas.paste(beside, (0, 0))
    axial, coronal, sagittal, surfaces = tiles
    for place, tile in enumerate((axial, surfaces, coronal, sagittal)):
        canvas.paste(tile, (beside.width + place % 2 * width, place // 2 * height))
    canvas.save(path, optimize=True)


def take_project(
    folder: Path, module_folder: Path, project: Path, dataset: Path, case: str, organ: str
) -> list[Path]:
    """Walk through the section Add organ and save a picture of each step.

    Args:
        folder: Where the PNG files go.
        module_folder: Holds MultiOrganSeg.py.
        project: See `take_add_organ`.
        dataset: See there.
        case: See there.
        organ: See there.

    Returns:
        The files in the order of the steps.
    """
    import slicer_host
    from add_organ_screenshots import take_add_organ

    host = slicer_host.start(widgets=True)
    module = host.load_module("MultiOrganSeg", module_folder)
    widget = module.widgetRepresentation().self()
    camera = _Camera(host, module.widgetRepresentation(), widget.panel, folder)
    widget.enter()
    take_add_organ(host, widget.panel, camera, project.resolve(), dataset.resolve(), case, organ)
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
            needed = self._window.layout().totalHeightForWidth(WIDTH)
            self._window.resize(WIDTH, max(needed, self._window.sizeHint.height()) + SPARE_HEIGHT)
            self._host.process_events()
        path = self._folder / f"panel-{name}.png"
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
    parser.add_argument("--module", type=Path, default=REPOSITORY / "MultiOrganSeg")
    parser.add_argument("--volume", type=Path)
    parser.add_argument("--quality", choices=("fast", "balanced", "best"), default="balanced")
    parser.add_argument("--project", type=Path)
    parser.add_argument("--dataset", type=Path)
    parser.add_argument("--case")
    parser.add_argument("--organ")
    options = parser.parse_args()
    module = options.module.resolve()
    sys.path[:0] = [str(REPOSITORY / "Testing" / "host"), str(module)]
    if options.project:
        walk = (options.project, options.dataset, options.case, options.organ)
        files = take_project(options.folder, module, *walk)
    else:
        with tempfile.TemporaryDirectory() as models:
            os.environ["MULTIORGANSEG_MODELS"] = models
            files = take(options.folder, module, options.volume, options.quality)
    sys.stdout.writelines(f"{path}\n" for path in files)


if __name__ == "__main__":
    main()
