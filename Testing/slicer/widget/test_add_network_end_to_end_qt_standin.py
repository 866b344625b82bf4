"""From a network of nnU-Net to one that knows a further organ, in the panel; only Qt is a stand-in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from phantom_base import NEW, Phantoms

from Testing.small_nnunet import write_nnunet

ROOT = Path(__file__).resolve().parents[3]
CASES = 2
ITERATIONS = 2
SECONDS = 1200.0


@pytest.fixture
def real(
    qt_host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train_for: Callable[[int], None]
) -> Iterator[Any]:
    """The module's own panel with its sections Models and Add organ open; a time means so many iterations."""
    monkeypatch.setenv("MULTIORGANSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    train_for(ITERATIONS)
    module = qt_host.load_module("MultiOrganSeg", ROOT / "MultiOrganSeg")
    widget = module.widgetRepresentation().self()
    widget.enter()
    widget.panel.ui.modelsSection.collapsed = False
    widget.panel.ui.addOrganSection.collapsed = False
    yield widget.panel
    widget.cleanup()


def _choose(selector: Any, value: str) -> None:
    row = selector.findData(value)
    assert row >= 0, value
    selector.currentIndex = row


def _segment(panel: Any, host: Any, model: str, file: Path) -> Any:
    """Segment a volume with a model; gives the volume and the segmentation."""
    import slicer

    panel.parameters.volume = slicer.util.loadVolume(str(file))
    panel.parameters.segmentation = None
    _choose(panel.ui.modelSelector, model)
    panel.ui.applyButton.click()
    run = panel.run
    assert run is not None, panel.segment.message.text
    host.process_events(lambda: panel.run is None, SECONDS)
    assert run.state == "finished", panel.segment.message.text
    return panel.parameters.volume, panel.parameters.segmentation


@pytest.mark.slow
def test_a_network_of_nnunet_is_added_used_and_learns_an_organ(
    real: Any, qt_host: Any, tmp_path: Path
) -> None:
    import slicer

    from multiorganseg.bundles import find_bundle

    phantoms = Phantoms()
    files = phantoms.write(tmp_path / "CTs", CASES + 1)
    ui, models = real.ui, real.models
    ui.addNetworkButton.click()
    qt_host.answers.add(str(write_nnunet(tmp_path / "Dataset007_Liver", mirrored=(2,))))
    ui.addNetworkFolderButton.click()
    qt_host.process_events(lambda: not models.add.queue.busy, SECONDS)
    _choose(ui.addNetworkOrientationSelector, "LPS")
    ui.addNetworkStartButton.click()
    qt_host.process_events(lambda: not models.add.queue.busy, SECONDS)
    base = "liver-3d-fullres"
    assert f"Added {base}: 1 organ" in models.message.text

    volume, node = _segment(real, qt_host, base, files[-1])
    before = slicer.util.arrayFromSegmentBinaryLabelmap(node, "liver", volume)
    assert before.any()

    panel, folder = real.add_organ, tmp_path / "project"
    organ = panel.ui
    folder.mkdir()

    def settle() -> str:
        qt_host.process_events(lambda: not panel.session.queue.busy, SECONDS)
        return str(panel.message.text)

    _choose(organ.baseSelector, base)
    qt_host.answers.add(str(folder))
    organ.createProjectButton.click()
    assert "The project is there" in settle()
    organ.offerSearch.text = NEW
    organ.addOrganButton.click()
    assert "Spleen is added" in settle()
    slicer.mrmlScene.Clear(0)
    for file in files[:CASES]:
        slicer.util.loadVolume(str(file))
    panel.show_step("cases")
    organ.addAllButton.click()
    settle()
    for number, name in enumerate(panel.session.project.cases):
        panel.cases.open(name)
        slicer.util.updateSegmentBinaryLabelmapFromArray(
            phantoms.spleen(number), panel.cases._node, NEW, panel.cases._volume
        )
        organ.doneButton.click()
        assert f"Saved: Spleen of {name}" in settle()

    panel.show_step("train")
    _choose(organ.trainDeviceSelector, "cpu")
    organ.trainButton.click()

    def ended() -> bool:
        return panel.train.state in ("finished", "failed") and not panel.train.busy

    qt_host.process_events(ended, SECONDS)
    assert panel.train.state == "finished", panel.message.text
    panel.show_step("report")
    assert set(panel.report._report.organs) == {"liver", NEW}
    organ.publishButton.click()
    if not panel.report._report.passed:
        organ.forceReason.text = "So short a training proves nothing."
        organ.forceButton.click()
    name = f"{base}-plus-{NEW}"
    assert f"{name} 1.0.0 is published" in settle()
    made = find_bundle(name).metadata
    assert made.labels.keys == ("liver", NEW)
    assert made.preprocessing == find_bundle(base).metadata.preprocessing

    volume, node = _segment(real, qt_host, name, files[-1])
    after = slicer.util.arrayFromSegmentBinaryLabelmap(node, "liver", volume)
    found = slicer.util.arrayFromSegmentBinaryLabelmap(node, NEW, volume)
    assert found.shape == after.shape
    np.testing.assert_array_equal(after, np.where(found, 0, before))
