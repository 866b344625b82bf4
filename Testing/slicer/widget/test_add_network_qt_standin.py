"""Adding a network of another program in the section Models, with the real command; only Qt is a stand-in."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from Testing.small_nnunet import write_nnunet

SECONDS = 300.0


@pytest.fixture
def adding(panel: Any, qt_host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The panel with its section Models open and "Add network…" pressed."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    panel.ui.modelsSection.collapsed = False
    panel.ui.addNetworkButton.click()
    return panel


def _settle(panel: Any, host: Any) -> str:
    host.process_events(lambda: not panel.models.add.queue.busy, SECONDS)
    return str(panel.models.message.text)


def _look(panel: Any, host: Any, path: Path, button: str = "addNetworkFolderButton") -> str:
    host.answers.add(str(path))
    getattr(panel.ui, button).click()
    return _settle(panel, host)


def _cells(panel: Any) -> list[list[str]]:
    table = panel.ui.addNetworkTable
    return [[table.item(row, column).text() for column in range(3)] for row in range(table.rowCount)]


def _choose(selector: Any, value: str) -> None:
    selector.currentIndex = selector.findData(value)


def test_nothing_is_asked_before_a_network_is_chosen(adding: Any) -> None:
    ui = adding.ui
    assert not ui.addNetworkFrame.isHidden()
    assert ui.addNetworkTable.isHidden()
    assert ui.addNetworkStartButton.isHidden()
    ui.addNetworkCancelButton.click()
    assert ui.addNetworkFrame.isHidden()


def test_a_network_is_looked_at_corrected_and_added(adding: Any, qt_host: Any, tmp_path: Path) -> None:
    from multiorganseg.bundles import find_bundle

    ui = adding.ui
    model = write_nnunet(tmp_path / "Dataset007_Two", labels={"Liver": 1, "my left gland": 2})
    assert _look(adding, qt_host, model) == ""
    assert "nnU-Net 2" in ui.addNetworkLabel.text
    assert "Licence: CC0" in ui.addNetworkLabel.text
    assert ui.addNetworkNameEdit.text == "two-3d-fullres"
    liver, own = _cells(adding)
    assert liver == ["Liver", "Liver", ""]
    assert "an organ of its own" in own[1]
    assert "gland" in own[2].lower()

    ui.addNetworkStartButton.click()
    assert "Which way did the images run" in adding.models.message.text

    ui.addNetworkTable.setCurrentCell(1, 0)
    _choose(ui.addNetworkOrganSelector, "adrenal_gland_left")
    assert _cells(adding)[1][1] == "Left adrenal gland"
    _choose(ui.addNetworkOrientationSelector, "RAS")
    ui.addNetworkNameEdit.text = "my-network"
    ui.addNetworkStartButton.click()
    assert "Added my-network: 2 organs" in _settle(adding, qt_host)
    assert ui.addNetworkFrame.isHidden()
    metadata = find_bundle("my-network").metadata
    assert metadata.labels.keys == ("liver", "adrenal_gland_left")
    assert metadata.preprocessing.original.orientation == "RAS"
    assert ui.modelSelector.findData("my-network") >= 0
    assert "Converted from nnU-Net 2" in ui.modelCard.plainText


def test_a_labelled_case_tells_the_orientation(adding: Any, qt_host: Any, tmp_path: Path) -> None:
    from multiorganseg.bundles import find_bundle
    from multiorganseg.convert.convert import ConvertOptions, convert
    from multiorganseg.inference.segment import Options, Segmenter
    from multiorganseg.volumes.volume import Volume
    from multiorganseg.volumes.write import write_volume

    model = write_nnunet(tmp_path / "Dataset007_Liver", labels={"liver": 1})
    voxels = np.random.default_rng(1).normal(60, 80, (16, 32, 32))
    image = Volume(voxels.astype(np.int16), np.diag([1.5, 1.5, 2.0, 1.0]))
    bundle = convert(model, tmp_path / "there", ConvertOptions(orientation="LPS")).bundle
    found = Segmenter(bundle, Options(device="cpu", mirroring=False)).segment(image)
    assert np.unique(found.labels).size == 2
    write_volume(image, tmp_path / "ct.nii.gz")
    write_volume(Volume(found.labels, image.affine), tmp_path / "labels.nii.gz")

    _look(adding, qt_host, model)
    _choose(adding.ui.addNetworkOrientationSelector, "check")
    qt_host.answers.add(str(tmp_path / "ct.nii.gz"), str(tmp_path / "labels.nii.gz"))
    adding.ui.addNetworkStartButton.click()
    said = _settle(adding, qt_host)
    assert "Its images run to LPS (mean Dice 1.00)" in said
    assert find_bundle("liver-3d-fullres").metadata.preprocessing.original.orientation == "LPS"


def test_a_name_that_is_taken_is_replaced_only_after_a_question(
    adding: Any, qt_host: Any, tmp_path: Path
) -> None:
    import qt

    from multiorganseg.bundles import find_bundle

    model = write_nnunet(tmp_path / "Dataset007_Liver", labels={"liver": 1})
    for orientation, answers in (("RAS", ()), ("LPS", (qt.QMessageBox.No,)), ("LPS", (qt.QMessageBox.Yes,))):
        adding.ui.addNetworkButton.click()
        _look(adding, qt_host, model)
        _choose(adding.ui.addNetworkOrientationSelector, orientation)
        qt_host.answers.add(*answers)
        adding.ui.addNetworkStartButton.click()
        _settle(adding, qt_host)
        kept = "RAS" if qt.QMessageBox.Yes not in answers else "LPS"
        assert find_bundle("liver-3d-fullres").metadata.preprocessing.original.orientation == kept


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: folder, "It is of no known kind"),
        (lambda folder: write_nnunet(folder / "Dataset007_A", labels={"liver": 1}, folds=()), "no fold"),
        (
            lambda folder: write_nnunet(folder / "Dataset301_heart_1139subj", labels={"heart": 1}),
            "may not be used freely",
        ),
    ],
)
def test_what_cannot_be_added_says_why(
    adding: Any, qt_host: Any, tmp_path: Path, make: Callable[[Path], Path], said: str
) -> None:
    from multiorganseg.bundles import user_models_dir

    assert said in _look(adding, qt_host, make(tmp_path))
    assert adding.ui.addNetworkTable.isHidden()
    assert not user_models_dir().exists() or not any(user_models_dir().iterdir())


def test_of_several_models_the_folder_of_one_is_asked_for(adding: Any, qt_host: Any, tmp_path: Path) -> None:
    for name in ("Dataset007_A", "Dataset008_B"):
        write_nnunet(tmp_path / "all" / name, labels={"liver": 1})
    said = _look(adding, qt_host, tmp_path / "all")
    assert "Which model of all" in said
    assert "Choose the folder of one of them" in said


def test_two_labels_of_one_organ_are_refused(adding: Any, qt_host: Any, tmp_path: Path) -> None:
    model = write_nnunet(tmp_path / "Dataset007_Two", labels={"liver": 1, "hepar": 2})
    _look(adding, qt_host, model)
    adding.ui.addNetworkTable.setCurrentCell(1, 0)
    _choose(adding.ui.addNetworkOrganSelector, "liver")
    _choose(adding.ui.addNetworkOrientationSelector, "RAS")
    adding.ui.addNetworkStartButton.click()
    said = _settle(adding, qt_host)
    assert "would both be liver" in said
    assert "Choose another organ for one of them in the table" in said


def test_a_conversion_can_be_cancelled(
    adding: Any, qt_host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from multiorganseg.bundles import user_models_dir
    from MultiOrganSegLib import child

    model = write_nnunet(tmp_path / "Dataset007_Liver", labels={"liver": 1})
    _look(adding, qt_host, model)
    _choose(adding.ui.addNetworkOrientationSelector, "RAS")
    event = json.dumps({"event": "progress", "stage": "checking orientations", "fraction": 0.5})
    code = f"import time; print('{event}', flush=True); time.sleep(600)"
    monkeypatch.setattr(child, "module_command", lambda *_arguments: [sys.executable, "-c", code])
    adding.ui.addNetworkStartButton.click()
    queue = adding.models.add.queue
    qt_host.process_events(lambda: queue.fraction == 0.5, SECONDS)
    adding.models.add._tick()
    assert "Checking orientations" in adding.ui.addNetworkProgressLabel.text
    assert adding.ui.addNetworkProgressBar.value == 50
    assert not adding.ui.addNetworkStartButton.enabled
    pid = queue._job.pid
    adding.ui.addNetworkCancelButton.click()
    assert "Cancelled" in adding.models.message.text
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert adding.ui.addNetworkStartButton.enabled
    assert not user_models_dir().exists() or not any(user_models_dir().iterdir())
